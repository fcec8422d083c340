"""VFlowOpt: what a searched setting keeps of the answers, against an unsearched one and three simpler rules.

Every arm spends the same patches x layers on each picture. Calibration scenes (three sets) and test scenes share none.
The method's premise is measured by itself: does the cosine of the last state order random settings as their answers do?
"""
from __future__ import annotations

from functools import partial

import numpy as np

from models.claims import Lab
from models.claims.arms import rank_correlation
from models.claims.harness import Arm, Claim, Quantity, as_good, at_least, better, conclude, context
from models.claims.judging import Expectation, Row
from models.claims.picture_lab import EncodedScenes, gap_closed, in_full, looked_at_rule, random_rule, share
from models.claims.timing import race
from models.loops.prune.pictures import encoded, everything, last_state, prefill
from models.papers.vflowopt.method import Knobs, plan, recorded, unsearched
from models.papers.vflowopt.search import box, calibration, flow, found_for, inside
from models.trace.percent import percent
from models.worlds.questions import digest

SEEDS, TARGETS = (0, 1, 2), (0.25, 0.1)
QUESTIONS, PREMISE, SETTINGS = 300, 80, 30  # scored; of them for each random setting; random settings
LEAST, WITHIN, HALF = 2.0, 2.0, 0.5  # points over unsearched knobs; points that folding may cost; of 1


def measure(lab: Lab) -> Claim:
    sets = [calibration(seed, lab.size(24, 3)) for seed in SEEDS]
    board = EncodedScenes.of(lab.size(QUESTIONS, 6), [case for scenes in sets for case in scenes.cases])
    knobs = {kept: [searched(scenes, kept, seed, lab) for seed, scenes in enumerate(sets)] for kept in TARGETS}
    more, less = (arms_at(board, kept, found) for kept, found in knobs.items())
    hashes = f"test scenes {digest(board.cases)}, none of calibration's {', '.join(digest(s.cases) for s in sets)}"
    return conclude(
        "vflowopt", trainings=0, seeds=SEEDS, arms=[*less.values(), *more.values()],
        paper="90 % of the visual tokens are pruned with comparable performance, 89 % less KV memory and 3.8 times "
              "faster inference, without training (arXiv 2508.05211).",
        here="At a layer-averaged budget of 25 and of 10 % of 64 patches, equal on each picture, searched knobs answer "
             f"at least {LEAST:g} points more than unsearched ones, and more than random patches; at 10 % more than "
             "the most looked-at patches, and at least half of what a rule that sees the things, but not the question, "
             "adds to random ones; folding costs no more than 2 points; the cosine orders settings as answers do.",
        controls=[better(less["all patches"], less["random patches"],
                         unmatched="what a budget of 10 % can cost at all")],
        expect=[*(better(arms["searched"], arms["unsearched"], LEAST) for arms in (more, less)),
                *(better(arms["searched"], arms["random patches"]) for arms in (more, less)),
                better(less["searched"], less["most looked-at patches"]),
                as_good(less["searched"], less["searched without folding"], WITHIN),
                at_least(gap_closed(less["searched"], less["random patches"]), HALF), premise(board, sets[0], lab)],
        context=[*(retained(arms["searched"], arms["all patches"]) for arms in (more, less)),
                 context("time of an answer, all patches over 10 %", speed(board, knobs[TARGETS[-1]][0], lab), "x",
                         "scoring and folding included"),
                 context("evaluations of one search", 72, "settings", f"by states, never by answers; {hashes}")])


def searched(scenes: EncodedScenes, kept: float, seed: int, lab: Lab) -> Knobs:
    """The shipped knobs for the first set of scenes; the other sets are searched here."""
    shipped = recorded(scenes.bundle.folder, kept)
    if seed == 0 and shipped and not lab.quick:
        return Knobs(**shipped[1]["knobs"])
    sizes = {"initial": 2, "tries": 1} if lab.quick else {}
    return found_for(scenes, kept, seed=42 + seed, **sizes).knobs


def arms_at(board: EncodedScenes, kept: float, knobs: list[Knobs]) -> dict[str, Arm]:
    """All arms at one budget: what the searched ones spend on a picture, the others spend on it too."""
    mine, lost = ([board.sit(lambda number, seen, k=k, fold=fold: plan(seen, k, kept, fold)) for k in knobs]
                  for fold in (True, False))
    budget = np.ceil(np.mean([sat.spent for sat in mine], 0))  # patches x layers [K]; the others never have less
    metric = board.metric(budget, percent(kept))

    def unsearched_rule(number, seen, fold=True):
        at = share(budget, number, seen)
        return plan(seen, unsearched(at, seen.layers), at, fold)

    found = {"searched": mine, "searched without folding": lost, "unsearched": [board.sit(unsearched_rule)],
             "unsearched without folding": [board.sit(partial(unsearched_rule, fold=False))],
             "random patches": [board.sit(random_rule(budget, 1 + seed)) for seed in SEEDS],
             "most looked-at patches": [board.sit(looked_at_rule(budget))], "all patches": [board.sit(in_full)]}
    if kept > 1 / board.views[0].layers:  # or reading layer 1 in full costs more than all
        found["ranked by layer 1 of the language model (sees the question)"] = [board.ranked_inside(budget)]
    return {name: board.arm(metric, f"{name}, {percent(kept)}", *sat) for name, sat in found.items()}


def retained(mine: Arm, full: Arm) -> Row:
    """The paper's own number, out of reach here: no rule that does not know the question keeps 90 % at 10 %."""
    found = Quantity(f"right answers kept, {mine.name}", np.stack([mine.scores, full.scores], 1), "% of all patches'",
                     lambda rows: float(100 * rows[:, 0].mean() / max(rows[:, 1].mean(), 1e-9)))
    return context(found.name, found, why="the paper keeps 90 % at 10 %; the ceiling of right answers is "
                   f"{mine.metric.bound('ceiling'):.0f} % here")


def premise(board: EncodedScenes, scenes: EncodedScenes, lab: Lab) -> Expectation:
    """Spearman's rho between cosine (calibration scenes) and right answers (test scenes) over random settings."""
    kept, bounds, rng = TARGETS[-1], box(TARGETS[-1], scenes), np.random.default_rng(7)
    pairs, wanted = [], lab.size(SETTINGS, 3)
    while len(pairs) < wanted:
        knobs = Knobs(*inside(bounds, rng.random(5)).tolist())
        rule = lambda number, seen, k=knobs: plan(seen, k, kept)  # noqa: E731
        cosine = flow(scenes, rule, kept)
        if cosine > 0:  # those that overspend have no place in the search
            pairs.append((cosine, board.sit(rule, lab.size(PREMISE, 4)).hits.mean()))
    name = f"rank correlation of cosine and right answers over random settings, {percent(kept)}"
    return at_least(rank_correlation(name, *np.array(pairs).T, "Spearman's rho"), HALF)


def speed(board: EncodedScenes, knobs: Knobs, lab: Lab) -> Quantity:
    """From the picture to the answer, full against pruned, interleaved."""
    model, tokenizer, seen = board.bundle.model, board.bundle.tokenizer, board.views[0]

    def run(make):
        again = encoded(model, tokenizer, seen.picture, seen.question)
        return last_state(model, prefill(model, make(again), again.ids)[1])

    return race({"all patches": lambda: run(everything),
                 "10 %": lambda: run(lambda again: plan(again, knobs, TARGETS[-1]))}, lab.size(24, 3))
