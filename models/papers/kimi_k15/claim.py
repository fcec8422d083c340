"""The claim of Kimi k1.5: 500 held-out puzzles, 8 answers each at temperature 1, one training of each arm from the same
fine-tuned network on as many puzzles, answers and steps. Nothing was chosen on these puzzles."""
from __future__ import annotations

import numpy as np
import torch

from kernels import Sampler
from models.checkpoints.store import Bundle, load
from models.claims import Lab
from models.claims.harness import Budget, Metric, as_good, better, conclude, context, more_than_chance
from models.loops.sample.cached_lm import Stream
from models.loops.sample.rollouts import Ends, roll_out
from models.papers.kimi_k15.arms import ARMS
from models.papers.kimi_k15.method import ROOM
from models.papers.kimi_k15.rule import reward
from models.worlds import targets
from models.worlds.world import END, exam

SEED, EACH, AT_ONCE = 71, 8, 100  # answers to a puzzle, puzzles read together
TOKENS = "what they spend is judged in a row of its own"


def measure(lab: Lab):
    puzzles = [doc.truth for doc in exam(targets.WORLD, SEED, lab.size(500, 20))]
    dice = {name: torch.Generator().manual_seed(SEED) for name in ARMS}
    found = {name: judged(load(file), [one.prompt for one in puzzles], dice[file], ROOM) for file, name in ARMS.items()}
    chance = np.array([100 * one.chance for one in puzzles])
    share = Metric("right answers at temperature 1", "%", floor=0.0, ceiling=100.0)
    short = Metric("tokens of an answer", "tokens", better="lower", floor=float(ROOM), ceiling=1.0)
    files = {name: file for file, name in ARMS.items()}
    spent = {name: Budget(rows[1], "tokens an answer") for name, rows in found.items()}
    right = share.arms({name: rows[0] for name, rows in found.items()}, files, spent)
    tokens = short.arms({name: rows[1] for name, rows in found.items()}, files, Budget(EACH, "answers"))
    mine, bonus, before, reinforce, rest, averaged, plain = ARMS.values()
    guessed = {name: judged(load(files[name]), [f"{one.prompt} answer" for one in puzzles], dice[files[name]],
                            targets.COUNT)[0] for name in (mine, before)}
    hard = guessed[before] == 0  # those that the rule of the report keeps
    return conclude(
        "kimi-k15", trainings=1, seeds=(SEED,), arms=tuple(right.values()),
        paper="With long thoughts 77.5 % of AIME and 96.2 % of MATH 500 are right; with short ones 60.8 and 94.6 %, "
              "up to 550 % above other short models (abstract). ReST needs clearly more samples (section 3.5).",
        here="Mirror descent gives at least 10 points more right answers than there were before, and more than "
             "REINFORCE and ReST on as many samples; with the length bonus answers are at least 20 % shorter at no "
             "more than 2 points less; averaged with a network of short thoughts, as much shorter, and at least 3 "
             "points better than short fine-tuning.",
        expect=[better(right[mine], right[before], least=10, unmatched=TOKENS),
                better(right[mine], right[reinforce], unmatched=TOKENS),
                better(right[mine], right[rest], bar="paper: section 3.5", unmatched=TOKENS),
                better(tokens[bonus], tokens[mine], least=20, by="percent"),
                as_good(right[bonus], right[mine], within=2, on_average=True),
                better(tokens[averaged], tokens[mine], least=20, by="percent"),
                better(right[averaged], right[plain], least=3, unmatched=TOKENS)],
        controls=[more_than_chance(right[before], chance), better(tokens[plain], tokens[before])],
        context=[*(context(f"{what}, {name}", values, unit) for name, rows in found.items() for what, unit, values in
                   zip(("right answers", "tokens of an answer"), ("%", "tokens"), rows, strict=True)),
                 *(context(f"right in one of 8 answers without a thought, {name}", 100 * (rows > 0), "%")
                   for name, rows in guessed.items()),
                 context("right answers where 8 such tries failed before: mirror descent minus before",
                         (found[mine][0] - found[before][0])[hard], "points")])


def judged(bundle: Bundle, prompts: list[str], dice, room: int) -> tuple[np.ndarray, np.ndarray]:
    """(right answers in percent, tokens of an answer) of each prompt."""
    right, tokens = [], []
    for at in range(0, len(prompts), AT_ONCE):
        some, stream = prompts[at : at + AT_ONCE], Stream(bundle.model)
        stream.read([[END, *bundle.tokenizer(prompt)["input_ids"]] for prompt in some])
        trials, *_ = roll_out(stream.fork(EACH), Sampler(), Ends(END, frozenset(), room), dice)
        right += [reward(bundle.tokenizer, some[i // EACH], trial.ids) for i, trial in enumerate(trials)]
        tokens += [len(trial.ids) for trial in trials]
    return tuple(np.reshape(of, (-1, EACH)).mean(1) * scale for of, scale in ((right, 100), (tokens, 1)))
