"""ALM's claim: 160 held-out windows of the books, in pieces as in training, and 120 places with " said" or " cried".
Bars were fixed before measuring, nothing was tuned, and pieces with one of the two words are left out of the gap.
"""
from __future__ import annotations

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab, text_lab
from models.claims.harness import Budget, Claim, Metric, as_good, better, conclude, context, more_than_chance
from models.papers.alm.network import SYMBOLS
from models.papers.alm.rule import CRIED, SAID, TEACHER, SharedPieces, Side, cried

ARMS = {"ALM": "text-byte-alm-1", "SFT": "text-byte-sft-1", "teacher": TEACHER, "text-ar-1": "text-ar-1"}
TOKENS, BEFORE = 90, 64  # of a window, and before one of the two words


def measure(lab: Lab) -> Claim:
    bundles, once = {name: load(checkpoint) for name, checkpoint in ARMS.items()}, Budget(1, "passes")
    words = bundles["teacher"].tokenizer
    texts = [words.decode(ids) for ids in text_lab.windows(words, lab.size(160, 20), TOKENS)]
    told = [Side.of(bundles["teacher"], text) for text in texts]
    found = {name: [SharedPieces.of(side, Side.of(bundles[name], text)) for side, text in zip(told, texts, strict=True)]
             for name in ("ALM", "SFT")}
    gap = Metric("gap to the teacher", "nats a piece", "lower", ceiling=0.0,
                 floor=np.array([distance(one, blind(one)) for one in found["SFT"]]))
    bits = Metric("surprise at held-out books", "bits a byte", "lower")
    chosen = Metric("chance of cried over said", "of 1", floor=0.0, ceiling=1.0)
    near, far = gap.arms({name: np.array([distance(one, one.found[1]) for one in every])
                          for name, every in found.items()}, ARMS, budget=once).values()
    knows, control = bits.arms({name: np.array([one.sides[1].bits(int(one.ends[0, 1])) for one in every])
                                for name, every in found.items()}, ARMS, budget=once).values()
    asked = places(words, lab.size(120, 20))
    told_it, untold, teacher, trunk = chosen.arms({name: np.array([cried(bundle, text) for text in asked])
                                                   for name, bundle in bundles.items()}, ARMS, budget=once).values()
    return conclude(
        "alm", trainings=1, seeds=(0,), arms=(near, far, knows, control, told_it, untold, teacher, trunk),
        paper="The first distillation that by itself moves models to another tokenizer: to bytes, too, better than "
              "earlier methods move them even to a similar vocabulary (abstract, without numbers).",
        here="After equal steps on the same batches, ALM's gap to the teacher is at least 25 % smaller than that of "
             "next-byte training (SFT), its surprise at held-out books at most 3 % larger, and of a preference that "
             "only the teacher has it takes over at least 0.25.",
        controls=[more_than_chance(far, gap.floor), better(teacher, trunk, least=0.5),
                  as_good(untold, trunk, within=0.15, both_sides=True)],
        expect=[better(near, far, 25.0, by="percent", bar="ours"),
                as_good(knows, control, within=3.0, by="percent", bar="ours"),
                better(told_it, untold, least=0.25, bar="ours")],
        context=[context("surprise of the teacher", [side.bits(0) for side in told], "bits a byte"),
                 *(context(f"student minus teacher, {name}", [float(one.gaps.mean()) for one in every], "nats a piece")
                   for name, every in found.items())])


def distance(pieces: SharedPieces, other) -> float:
    """Mean distance of log-likelihoods [C] from the teacher's, over pieces without the two words."""
    kept = [not {CRIED.strip(), SAID.strip()} & set(text.split()) for text in pieces.texts]
    return float((other - pieces.found[0]).abs().numpy()[kept].mean())


def blind(pieces: SharedPieces):
    """What somebody finds likely to whom all bytes are alike."""
    ends = pieces.found.new_tensor(pieces.ends[:, 1])
    return -ends.diff() * np.log(SYMBOLS) + np.log(3 / SYMBOLS)


def places(words, count: int) -> list[str]:
    """Texts before one of the two words in the held-out books; where a vocabulary has neither, some texts."""
    ids, two = text_lab.windows(words, 1, 10**9)[0], {words.encode(word)[-1] for word in (CRIED, SAID)}
    at = [i for i, id in enumerate(ids) if id in two and i >= BEFORE] or range(BEFORE, BEFORE + count)
    return [words.decode(ids[i - BEFORE : i]) for i in at[:count]]
