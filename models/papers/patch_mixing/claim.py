"""Patch Mixing's claim, small: the convnet loses less to foreign patches, the vision transformer as much as before.

One training of each arm: within a family the same start, steps, photos and draws. A drop is what is right without
foreign patches minus what is right with them, photo by photo, so that arms of different accuracy can be compared.
"""
from __future__ import annotations

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import (
    Budget,
    Claim,
    Metric,
    Quantity,
    as_good,
    at_least,
    at_most,
    conclude,
    context,
    mean_of,
)
from models.claims.kept import cut, kept
from models.claims.probe import held_out
from models.papers.patch_mixing import exam
from models.papers.patch_mixing.record import MIXING, PLAIN, TITLES, VIT, VIT_MIXING

CUTMIX, CHANCE, DRAWS, SOME = "photo-conv-cutmix-1", 2.0, 3, 500
LESS, MARGIN = 0.7, 2.0  # of the plain CNN's drop; points
ENOUGH, LOST = 25.0, 3.0  # the plain CNN must know enough to have something to lose, and lose it
WIDER = {"fine": "patches of half the side", "coarse": "patches of twice the side", "black": "black patches",
         "shuffled": "the same patches shuffled", "things": "drawn shapes on the photo"}


def measure(lab: Lab) -> Claim:
    pixels, truth = held_out(lab, lab.size(2463, 40))
    found = {name: taken(lab, load(name).model, pixels, truth) for name in TITLES}
    found[CUTMIX] = cut(kept(CUTMIX, lab, lambda model: taken(lab, model, pixels, truth)), found[PLAIN])
    titles, steps = {**TITLES, CUTMIX: "CNN + CutMix"}, Budget(300, "steps after the common start")
    whole, drop, beside = metrics(found)

    def arm(metric, name, scores):
        return metric.arm(titles[name], scores, checkpoints=() if name == CUTMIX else name, budget=steps)
    clean = {name: arm(whole, name, one["clean"]) for name, one in found.items()}
    lost = {name: arm(drop, name, dropped(one)) for name, one in found.items()}
    moved = {name: arm(beside, name, dropped(one, "shifted")) for name, one in found.items()}
    return conclude(
        "patch-mixing",
        paper="Patch Mixing (arXiv 2306.17848), abstract: CNNs trained with it learn what ViTs can do, to ignore "
              "foreign patches and to know what is half covered; ViTs neither improve nor degrade.",
        here="64 x 64 photos, 300 steps of each arm: where patches of another class replace 30 % of a photo, the CNN "
             "with Patch Mixing loses at most 0.7 of what the plain CNN loses, also on a grid half a patch beside the "
             "trained one; the ViT's loss stays within 2 points; the CNN is helped more than the ViT.",
        arms=(*lost.values(), *clean.values()), trainings=1, seeds=tuple(range(DRAWS)),
        controls=[at_least(mean_of(clean[PLAIN]), ENOUGH), at_least(mean_of(lost[PLAIN]), LOST)],
        expect=[less(lost, MIXING, "patches of another class"), less(moved, MIXING, "the same, half a patch beside"),
                as_good(lost[VIT_MIXING], lost[VIT], within=MARGIN, both_sides=True), interaction(lost)],
        context=[context("drop of CNN + CutMix over the CNN's", share(lost, CUTMIX, ""), "of 1",
                         "a control: another way to paste the same amount"),
                 context("drop of CNN + CutMix minus that of CNN + Patch Mixing",
                         lost[CUTMIX].scores - lost[MIXING].scores, "points"),
                 context("price: CNN + Patch Mixing minus CNN, no foreign patches",
                         clean[MIXING].scores - clean[PLAIN].scores, "points"), *wider(found)],
        would_take="several trainings of each arm, and photos of 224 pixels that a CNN recognises four times in five")


def taken(lab: Lab, model, pixels, truth) -> dict[str, np.ndarray]:
    """Percent right by attack [K]; "clean" as it is and mirrored. Attacks that are only context are of SOME photos."""
    some = lab.size(SOME, 30)
    found = {"clean": exam.several(model, pixels, truth, "foreign", 0.0, 2),
             "foreign": exam.several(model, pixels, truth, "foreign", exam.AT, DRAWS),
             "shifted": exam.several(model, pixels, truth, "shifted", exam.AT, 2)}
    return found | {kind: exam.right(model, pixels[:some], truth[:some], kind) for kind in WIDER}


def dropped(one, kind: str = "foreign") -> np.ndarray:
    """The drop [K] of a network, photo by photo: right without the attack minus right under it, in points."""
    return one["clean"][: len(one[kind])] - one[kind]


def metrics(found) -> tuple[Metric, Metric, Metric]:
    """Right without foreign patches; the drop, on the trained grid and beside it. Who says nothing but one class has
    lost all that the plain CNN had above chance; nothing lost is the ceiling."""
    all_lost = found[PLAIN]["clean"].mean() - CHANCE
    whole = Metric("right without foreign patches", "% of photos", floor=CHANCE, ceiling=100.0)
    names = "drop at 30 % foreign patches", "drop at 30 % foreign patches, grid half a patch beside"
    return whole, *(Metric(name, "points", "lower", floor=all_lost, ceiling=0.0) for name in names)


def share(drops, name: str, title: str) -> Quantity:
    """The ratio of two mean drops; half a point at least below, since who loses nothing has no ratio (see LOST)."""
    return Quantity(title, np.stack([drops[name].scores, drops[PLAIN].scores], 1), "of 1",
                    lambda rows: float(rows[:, 0].mean() / max(rows[:, 1].mean(), 0.5)), arms=(drops[name],))


def less(drops, name: str, where: str):
    return at_most(share(drops, name, f"the CNN's drop with Patch Mixing over without: {where}"), LESS)


def interaction(lost):
    """The thesis: what the CNN is spared, minus what the ViT is."""
    spared = [lost[plain].scores - lost[mixed].scores for plain, mixed in ((PLAIN, MIXING), (VIT, VIT_MIXING))]
    return at_least(Quantity("drop that the CNN is spared, minus the ViT's", spared[0] - spared[1], "points"), 0.0)


def wider(found):
    """Rows of the other attacks: the drop with Patch Mixing minus without, in either family."""
    for kind, what in WIDER.items():
        for mixed, plain, family in ((MIXING, PLAIN, "CNN"), (VIT_MIXING, VIT, "ViT")):
            one, other = (dropped(found[name], kind) for name in (mixed, plain))
            yield context(f"{what}: drop of {family} with Patch Mixing minus without", one - other, "points",
                          f"{len(one)} photos; below 0: mixing helps; the plain one drops by {other.mean():.1f}")
