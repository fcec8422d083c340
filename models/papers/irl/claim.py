"""The claim of inverse soft-Q learning: 100 held-out tasks with 16 answers each at five temperatures, and 120 held-out
answers in which one given word was exchanged. Of two lambdas the one that was more diverse at equal quality on 100
other tasks is judged, and nothing else was tuned; one training of each arm, on the same batches for as many steps. The
exchanged words were made hard enough on tale-ar-2 alone, on other draws: it finds those of one sentence always, so
answers of two are taken, and the wrong word has to be found among those of content. That first sentences must be more
diverse too was added after measuring, at the same bar: longer answers alone lower Self-BLEU."""
from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Quantity, Tuned, at_least, better, conclude, context, more_than_chance
from models.claims.tale_lab import encoded, read
from models.engine.statistics import auc
from models.papers.irl.frontier import ARMS, EQUAL, IRL, MLE, TEMPERATURES, at_quality, named
from models.papers.irl.method import implied
from models.papers.irl.sentences import answers, asked, right, self_bleu
from models.worlds.tales.forms import plain
from models.worlds.tales.stories import PARTS
from models.worlds.world import END, Doc

SEED, EACH = 53, 16
BONUS = "entropy bonus"
TUNED = Tuned(2, "diversity at equal quality on 100 other tasks")


def measure(lab: Lab):
    nets, tokenizer = {name: load(of).model for of, name in ARMS.items()}, load(MLE).tokenizer
    files, mine, other = {name: of for of, name in ARMS.items()}, ARMS[IRL], ARMS[MLE]
    tasks = [doc.pieces[0] for doc in asked(lab.size(100, 3), SEED)]
    each = lab.size(EACH, 2)
    found = {name: np.array([spread(net, tokenizer, tasks, t, each) for t in TEMPERATURES])
             for name, net in nets.items()}  # [temperatures, 4, K]
    wanted = float(found[other][EQUAL, 0].mean())
    metric = Metric("diversity of the answers to a task, 1 - Self-BLEU, at the quality of maximum likelihood at "
                    "temperature 0.7", "points of 100", floor=0.0, ceiling=100.0)
    varied = {name: metric.arm(name, matched(rows, wanted), checkpoints=files[name], budget=Budget(each, "answers"),
                               tuned=TUNED if name == mine else Tuned()) for name, rows in found.items()}
    spoiled = [one for doc in asked(lab.size(1000, 30), SEED + 1) if (one := exchanged(doc, tokenizer))][:120]
    scored = {name: detected(net, tokenizer, spoiled) for name, net in nets.items()}
    finds = Metric("the exchanged word among the words of content", "AUROC", floor=0.5, ceiling=1.0)
    once = Budget(1, "readings")
    low = finds.arm(f"low reward, {mine}", scored[mine]["reward"], checkpoints=IRL, budget=once, tuned=TUNED)
    same, usual = (finds.arm(f"surprise, {name}", scored[name]["surprise"], checkpoints=files[name], budget=once,
                             tuned=tuned) for name, tuned in ((mine, TUNED), (other, Tuned())))
    hot, cold = (metric.arm(f"{other}, temperature {TEMPERATURES[at]:g}", found[other][at, 1], checkpoints=MLE,
                            budget=Budget(each, "answers")) for at in (-1, 0))
    return conclude(
        "irl", trainings=1, seeds=(SEED,), arms=tuple(varied.values()),
        paper="Imitation that looks for the reward behind examples has clear advantages: its answers stay diverse "
              "while they get as good as they can (abstract, without numbers).",
        here="At the quality that maximum likelihood has at temperature 0.7 the answers of inverse soft-Q learning are "
             "more diverse by at least 3 points, their first sentences too, and no less than those of an entropy "
             "bonus; its low rewards find an exchanged word with an AUROC at least 0.05 above its own surprise's, and "
             "above that of maximum likelihood.",
        expect=[at_least(gap(found, varied, mine, other), 3), at_least(gap(found, varied, mine, other, 2), 3),
                at_least(gap(found, varied, mine, BONUS), 0),
                better(low, same, least=0.05), better(low, usual, unmatched="one of two lambdas")],
        controls=[better(hot, cold, name="diversity sees the temperature of maximum likelihood, 1.3 over 0.2"),
                  more_than_chance(usual, 0.5)],
        context=[*(context(f"diversity at equal quality, {name} over {other}", gap(found, varied, name, other))
                   for name in ("lambda 0.03", BONUS, "label smoothing")),
                 *(context(f"words of an answer, {name}, temperature 0.4", rows[1, 3], "words")
                   for name, rows in found.items()),
                 *(context(f"the exchanged word by {what}, {name}", scored[name][what], "AUROC")
                   for what in ("reward", "surprise") for name in ARMS.values()),
                 *(context(title, rows[at, part], unit) for name, rows in found.items()
                   for at, t in enumerate(TEMPERATURES)
                   for part, (title, unit) in enumerate(zip(named(name, t), ("%", "points of 100"))))])


def spread(net, tokenizer, tasks: list[str], temperature: float, each: int) -> tuple[list[float], ...]:
    """Of each task: right answers in percent, their diversity in points, that of first sentences, and their words."""
    found = answers(net, tokenizer, tasks, temperature, each, SEED)
    fine = [100 * np.mean([right(task, one) for one in some]) for task, some in zip(tasks, found, strict=True)]
    whole, first = ([[plain(cut(one)).split() for one in some] for some in found] for cut in (
        str, lambda one: one.partition(".")[0]))
    return (fine, *([100 * (1 - self_bleu(some)) for some in texts] for texts in (whole, first)),
            [np.mean([len(one) for one in some]) for some in whole])


def matched(rows: np.ndarray, wanted: float) -> np.ndarray:
    """Diversity [K] of each task at a mean quality, from [temperatures, 4, K]."""
    return np.array([at_quality(wanted, rows[:, 0].mean(1), one) for one in rows[:, 1].T])


def gap(found: dict[str, np.ndarray], varied: dict, mine: str, other: str, part: int = 1) -> Quantity:
    """Diversity of one arm above another's at the quality of maximum likelihood; resampled tasks move that quality and
    both frontiers."""
    items = np.moveaxis(np.stack([found[name] for name in (ARMS[MLE], mine, other)]), -1, 0)  # [K, 3, temperatures, 4]

    def points(sample: np.ndarray) -> float:
        likely, *arms = sample.reshape(-1, *items.shape[1:]).mean(0)
        return -float(np.diff([at_quality(likely[EQUAL, 0], arm[:, 0], arm[:, part]) for arm in arms])[0])
    what = "diversity of first sentences alone" if part == 2 else "diversity"
    return Quantity(f"{what} at equal quality: {mine} minus {other}", items.reshape(len(items), -1),
                    "points of 100", points, -100.0, 100.0, (varied[mine], varied[other]))


def exchanged(doc: Doc, tokenizer) -> tuple[list[int], int, np.ndarray] | None:
    """(ids of task, answer and end; where the answer begins; which of the answer's words is wrong, 1, which other is of
    content, 0, and which is neither, -1) of an answer of two sentences in which a given word became another of its
    kind; None where the answer is one sentence, or right all the same."""
    task, answer = doc.pieces
    rng, words = np.random.default_rng(sum(map(ord, answer))), plain(answer).split()
    places = [at for at, word in enumerate(words) if word in doc.truth]
    at = places[int(rng.integers(len(places)))]
    kind = next(group for group in PARTS.values() if words[at] in group)
    others = [word for word in kind if word != words[at]]
    made = [*words[:at], others[int(rng.integers(len(others)))], *words[at + 1 :]]
    if words.count(".") != 2 or right(task, " ".join(made)):
        return None
    content = {word for group in PARTS.values() for word in group}
    marks = np.array([int(i == at) if i == at or word in content else -1 for i, word in enumerate(made)])
    prompt = [END, *encoded(tokenizer, task)]
    return [*prompt, *encoded(tokenizer, " ".join(made)), END], len(prompt), marks


@torch.no_grad()
def detected(net, tokenizer, spoiled) -> dict[str, np.ndarray]:
    """AUROC [K] of the wrong word by low reward and by surprise."""
    found = {"reward": [], "surprise": []}
    for (ids, first, marks), logits in zip(spoiled, read(net, [ids for ids, _, _ in spoiled]), strict=True):
        worth = implied(logits[:-1], ids[1:], 1.0)
        for name, sign in (("reward", -1), ("surprise", 1)):
            row = sign * np.array(worth[name])[first - 1 : first - 1 + len(marks)]
            found[name].append(auc(row[marks >= 0], marks[marks >= 0] == 1))
    return {name: np.array(rows) for name, rows in found.items()}
