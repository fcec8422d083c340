"""cntp's claim: right answers on sums with several routes, against the usual decoders and for the same tokens."""

from __future__ import annotations

import numpy as np
import torch

from kernels import Sampler
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.decoding_lab import beam_search, best_of, whole_texts
from models.claims.harness import Budget, Claim, Metric, Quantity, at_least, better, conclude, context
from models.loops.sample.cached_lm import Reader
from models.loops.sample.loop import SamplingPolicy, decide
from models.loops.sample.rollouts import Trial
from models.papers.cntp.method import Params, bounds, count_of, stop_tokens
from models.trace.subject import Subject
from models.worlds import routes

LENGTH, BEAMS, SAMPLES, SEED = 60, 10, 12, 0
MATCHED = {"constant": 4, "reversed": 4}  # trials for at least cntp's tokens, found on held-out problems of seed 6
WHOLE = {"plain sampling": (Sampler(0.8, top_p=0.95), SAMPLES), "greedy": (Sampler(0.0), 1),
         "plain sampling, temperature 1.5": (Sampler(1.5), 1)}
BEAM, BEST = f"beam {BEAMS}", "best of n"
ONE_TEXT = "one text each, as the paper compares them"


def measure(lab: Lab) -> Claim:
    """Right answers and tokens of every decoder on the same held-out sums, and what cntp's trials look like."""
    bundle, problems = load("algo-arithmetic-2"), routes.held_out(lab.size(250, 2))
    tried = {name: [branching(bundle, p, Params(policy=name, trials=MATCHED.get(name, 10)), SEED + i)
                    for i, p in enumerate(problems)] for name in ("cntp", *MATCHED)}
    texts, spent = decoded(bundle, problems, tried)
    arms = scored(bundle, problems, texts, spent)
    cntp, plain = arms["cntp"], arms["plain sampling"]
    long = [np.mean([len(t.ids) for one in found if len(one) > 1 for t in one] or [1]) for found in tried["cntp"]]
    return conclude(
        "cntp", paper="Consistently better than standard decoding strategies, on language and multimodal models, by a "
        "clear margin (abstract, without numbers).",
        here="On sums with several right routes cntp answers at least 3 points more of them rightly than plain "
        "sampling with the same warpers, and more than greedy, beam search, best of n, a constant and the reversed "
        "number of trials for at least its tokens.",
        arms=tuple(arms.values()), trainings=0, seeds=(SEED,),
        expect=[better(cntp, plain, least=0.03, unmatched=ONE_TEXT), better(cntp, arms[BEST]),
                *(better(cntp, arms[name], on_average=True) for name in MATCHED),
                better(cntp, arms["greedy"], bar="paper: abstract", unmatched=ONE_TEXT),
                better(cntp, arms[BEAM], bar="paper: abstract")],
        controls=[better(plain, arms["plain sampling, temperature 1.5"], unmatched=ONE_TEXT),
                  at_least(Quantity("mean length of a problem's trials", np.array(long), "tokens", floor=1.0), 4)],
        context=[context("texts unlike greedy's", [float(mine[0].ids != theirs[0].ids) for mine, theirs in zip(
                     texts["cntp"], texts["greedy"])], "of 1"),
                 context("right by a route without a slip", [float(routes.sound(p + text_of(bundle, one.ids)))
                         for p, (one,) in zip(problems, texts["cntp"])], "of 1")])


def decoded(bundle, problems: list[str], tried: dict) -> tuple[dict, dict]:
    """name -> for each problem the texts whose answers are averaged; name -> tokens generated for one of them [K]."""
    texts = {name: [[joined(found)] for found in runs] for name, runs in tried.items()}
    spent = {name: [sum(len(t.ids) for one in found for t in one) for found in runs] for name, runs in tried.items()}
    for name, (sampler, count) in WHOLE.items():
        texts[name] = whole_texts(bundle, problems, sampler, count, LENGTH, SEED)
        spent[name] = [np.mean([len(t.ids) for t in found]) for found in texts[name]]
    texts[BEAM] = [[one] for one in beam_search(bundle, problems, BEAMS, LENGTH)]
    spent[BEAM] = [BEAMS * len(one.ids) for one, in texts[BEAM]]
    best = [best_of(found, least) for found, least in zip(texts["plain sampling"], spent["cntp"])]
    return texts | {BEST: [[one] for one, _ in best]}, spent | {BEST: [tokens for _, tokens in best]}


def scored(bundle, problems: list[str], texts: dict, spent: dict) -> dict:
    """An arm per decoder: the share of right answers [K]."""
    usual = max(np.unique([routes.truth(one) for one in problems], return_counts=True)[1]) / len(problems)
    score = Metric("right answers", "of 1", floor=usual, ceiling=float(np.mean([judged_right(p) for p in problems])))
    return {name: score.arm(f"{name}, {MATCHED[name]} trials" if name in MATCHED else name, [
        np.mean([routes.check(p + text_of(bundle, t.ids)) for t in some]) for p, some in zip(problems, found)],
        budget=Budget(np.array(spent[name], float), "tokens"), checkpoints=bundle.name)
        for name, found in texts.items()}


def judged_right(problem: str) -> bool:
    """What the judge says of the problem worked off in the order of its own numbers, whatever the totals are."""
    return routes.check(problem + routes.worked(routes.terms(problem)))


def text_of(bundle, ids: list[int]) -> str:
    return bundle.tokenizer.decode(ids)


def branching(bundle, text: str, p: Params, seed: int) -> list[tuple[Trial, ...]]:
    """The tab's own decisions on a problem, without its page."""
    source = Reader(bundle, Subject("problem", text=text), LENGTH)
    source.read([source.prompt])
    return grown(source, source.end, policy_of(p, bundle, LENGTH), seed)


def policy_of(p: Params, bundle, length: int) -> SamplingPolicy:
    return SamplingPolicy(Sampler(p.temperature, top_p=p.top_p), length, close=None, longest=p.longest,
                          trials=count_of(p, *bounds(p, bundle.name)), stops=stop_tokens(bundle.tokenizer, p.stops))


def grown(live, end: int, policy: SamplingPolicy, seed: int) -> list[tuple[Trial, ...]]:
    """Decisions until `end`: of each one all trials, the kept one first."""
    found, room, dice = [], policy.length, torch.Generator().manual_seed(seed)
    while room and (not found or found[-1][0].ids[-1] != end):
        trials, kept, live = decide(live, end, policy, room, dice)
        found.append((trials[kept], *trials[:kept], *trials[kept + 1:]))
        room -= len(found[-1][0].ids)
        live.push(found[-1][0].ids[-1:])
    return found


def joined(found: list[tuple[Trial, ...]]) -> Trial:
    """The text that was kept."""
    return Trial(ids=[unit for one in found for unit in one[0].ids])
