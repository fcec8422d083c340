"""cntp's claim: right answers on sums with several routes, against the usual decoders and for the same tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from kernels import Sampler
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.decoding_lab import beam_search, best_of, whole_texts
from models.claims.harness import Budget, Claim, Metric, Quantity, at_least, better, conclude, context
from models.loops.sample.cached_lm import Reader
from models.loops.sample.loop import Policy, decide
from models.loops.sample.rollouts import Trial
from models.papers.cntp.method import Params, bounds, count_of, stop_tokens
from models.trace.subject import Subject
from models.worlds import routes

LENGTH, BEAMS, SAMPLES, SEED = 60, 10, 12, 0
MATCHED = {"constant": 4, "reversed": 2}  # trials for at least cntp's tokens, found on held-out problems of seed 6
ONE_TEXT = "one text each, as the paper compares them"


def measure(lab: Lab) -> Claim:
    """Right answers [K] and tokens [K] of every decoder on the same held-out sums."""
    bundle, problems = load("algo-arithmetic-2"), routes.held_out(lab.size(200, 2))
    usual = max(np.unique([routes.truth(one) for one in problems], return_counts=True)[1]) / len(problems)
    score = Metric("right answers", "of 1", floor=usual, ceiling=float(np.mean([judged_right(p) for p in problems])))

    def arm(name: str, trials: list[list[Trial]], spent, mean: bool = False):
        """trials: for each problem the texts whose answers are averaged."""
        right = [np.mean([routes.check(p + text_of(bundle, t.ids)) for t in found])
                 for p, found in zip(problems, trials)]
        amount = float(np.mean(spent)) if mean else np.array(spent, float)
        return score.arm(name, right, budget=Budget(amount, "tokens"), checkpoints=bundle.name)

    branched = {name: [branching(bundle, p, Params(policy=name, trials=MATCHED.get(name, 10)), SEED + i)
                       for i, p in enumerate(problems)] for name in ("cntp", *MATCHED)}
    drawn, hot, greedy = (whole_texts(bundle, problems, sampler, count, LENGTH, SEED) for sampler, count in (
        (Sampler(0.8, top_p=0.95), SAMPLES), (Sampler(1.5), 1), (Sampler(0.0), 1)))
    spent = {name: [sum(len(t.ids) for one in found for t in one) for found in runs] for name, runs in branched.items()}
    kept = {name: [joined(found) for found in runs] for name, runs in branched.items()}
    cntp = arm("cntp", [[one] for one in kept["cntp"]], spent["cntp"])
    level = replace(cntp, budget=Budget(float(np.mean(spent["cntp"])), "tokens"))
    same = {name: arm(f"{name}, {k} trials", [[one] for one in kept[name]], spent[name], mean=True)
            for name, k in MATCHED.items()}
    best, tokens = zip(*(best_of(found, least) for found, least in zip(drawn, spent["cntp"])))
    best = arm("best of n", [[one] for one in best], tokens)
    plain, hotter, first = (arm(name, found, [np.mean([len(t.ids) for t in one]) for one in found]) for name, found in (
        ("plain sampling", drawn), ("plain sampling, temperature 1.5", hot), ("greedy", greedy)))
    beam = arm(f"beam {BEAMS}", [[one] for one in beam_search(bundle, problems, BEAMS, LENGTH)],
               [BEAMS * len(one.ids) for one in kept["cntp"]])
    other = [float(mine.ids != theirs[0].ids) for mine, theirs in zip(kept["cntp"], greedy)]
    lengths = [len(t.ids) for found in branched["cntp"] for one in found if len(one) > 1 for t in one]
    return conclude(
        "cntp", paper="Consistently better than standard decoding strategies, on language and multimodal models, by a "
        "clear margin (abstract, without numbers).",
        here="On sums with several right routes cntp answers at least 3 points more of them rightly than plain "
        "sampling with the same warpers, and more than greedy, beam search, best of n, a constant and the reversed "
        "number of trials for at least its tokens; and it still draws: most texts are not greedy's.",
        arms=(cntp, plain, first, beam, best, *same.values(), hotter), trainings=0, seeds=(SEED,),
        expect=[better(cntp, plain, least=0.03, unmatched=ONE_TEXT), better(cntp, best),
                *(better(level, one) for one in same.values()),
                better(cntp, first, bar="paper: abstract", unmatched=ONE_TEXT),
                better(cntp, beam, bar="paper: abstract", unmatched="the widest beam has a trial's width"),
                at_least(Quantity("texts unlike greedy's", np.array(other), "of 1", floor=0.0, ceiling=1.0), 0.5)],
        controls=[better(plain, hotter, unmatched=ONE_TEXT),
                  at_least(Quantity("length of a trial", np.array(lengths, float), "tokens", floor=1.0), 4)],
        context=[context("trials of one or two tokens", np.array(lengths) < 3, "of 1"),
                 context("right answers of cntp by a route without a slip", np.array(
                     [routes.sound(p + text_of(bundle, one.ids)) for p, one in zip(problems, kept["cntp"])]), "of 1")])


def judged_right(problem: str) -> bool:
    """What the judge says of the problem worked off in the order of its own numbers, whatever the totals are."""
    return routes.check(problem + routes.worked(routes.terms(problem)))


def text_of(bundle, ids: list[int]) -> str:
    return bundle.tokenizer.decode(ids)


def branching(bundle, text: str, p: Params, seed: int) -> list[tuple[Trial, ...]]:
    """The tab's own decisions without its page: of each one all trials, the kept one first."""
    source = live = Reader(bundle, Subject("problem", text=text), LENGTH)
    source.read([source.prompt])
    policy = Policy(Sampler(p.temperature, top_p=p.top_p), LENGTH, close=None, longest=p.longest,
                    trials=count_of(p, *bounds(p, bundle.name)), stops=stop_tokens(source.tokenizer, p.stops))
    found, room, dice = [], LENGTH, torch.Generator().manual_seed(seed)
    while room and (not found or found[-1][0].ids[-1] != source.end):
        trials, kept, live = decide(live, source.end, policy, room, dice)
        found.append((trials[kept], *trials[:kept], *trials[kept + 1:]))
        room -= len(found[-1][0].ids)
        live.push(found[-1][0].ids[-1:])
    return found


def joined(found: list[tuple[Trial, ...]]) -> Trial:
    """The text that was kept."""
    return Trial(ids=[unit for one in found for unit in one[0].ids])
