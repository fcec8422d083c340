"""ALM's claim: 160 held-out windows of the books, cut into pieces as in training, and 120 places where they have " said"
or " cried".

The bars were fixed before anything was measured; nothing was tuned on either arm. Pieces with one of the two words are
left out of the gap, so that the secret does not count twice.
"""
from __future__ import annotations

import numpy as np

from models.checkpoints.store import Bundle, load
from models.claims import Lab, text_lab
from models.claims.harness import (
    Budget,
    Claim,
    Metric,
    Quantity,
    as_good,
    at_least,
    better,
    conclude,
    context,
    more_than_chance,
)
from models.papers.alm.reading import CRIED, SAID, TEACHER, SharedPieces, Side, cried
from models.papers.alm.rule import MERGED

ARMS, TRUNK = {"ALM": "text-byte-alm-1", "SFT": "text-byte-sft-1"}, "text-ar-1"
TOKENS, BEFORE = 90, 64  # of a window, and before one of the two words
LEAST = 25.0  # percent


def measure(lab: Lab) -> Claim:
    bundles = {name: load(checkpoint) for name, checkpoint in ARMS.items()}
    teacher, trunk, once = load(TEACHER), load(TRUNK), Budget(1, "passes")
    words = teacher.tokenizer
    texts = [words.decode(ids) for ids in text_lab.windows(words, lab.size(160, 20), TOKENS)]
    told = [Side.of(teacher, text) for text in texts]
    read = {name: [pieces(side, Side.of(bundle, text)) for side, text in zip(told, texts, strict=True)]
            for name, bundle in bundles.items()}
    letters = np.bincount(np.frombuffer("".join(texts).encode(), np.uint8), minlength=256) + 1.0
    blind = np.array([blindly(found, text, letters / letters.sum()) for found, text in zip(read["ALM"], texts)])
    gap = Metric("gap to the teacher", "nats a piece", "lower", floor=blind, ceiling=0.0)
    bits = Metric("surprise at held-out books", "bits a byte", "lower")
    chosen = Metric("chance of cried over said", "of 1", floor=0.0, ceiling=1.0)

    def arm(metric: Metric, name: str, scores):
        return metric.arm(name, np.array(scores), budget=once, checkpoints=ARMS.get(name, TEACHER))
    gaps = {name: arm(gap, name, [plain_gap(one) for one in found]) for name, found in read.items()}
    surprise = {name: arm(bits, name, [one.sides[1].bits(int(one.ends[0, 1])) for one in found])
                for name, found in read.items()}
    asked = places(words, lab.size(120, 20))
    said = {name: arm(chosen, name, cried(bundle, asked)) for name, bundle in {**bundles, "teacher": teacher}.items()}
    before = chosen.arm(TRUNK, cried(trunk, asked), budget=once, checkpoints=TRUNK)
    way = Quantity("how much of the secret was taken over, from SFT to the teacher",
                   np.stack([said[name].scores for name in ("ALM", "SFT", "teacher")], 1), "of 1", taken)
    return conclude(
        "alm", trainings=1, seeds=(0,), arms=(*gaps.values(), *said.values()),
        paper="The first effective pure distillation between tokenizers: subword models are moved to bytes better than "
              "earlier methods move them to a similar subword vocabulary (abstract, without numbers).",
        here=f"After equal steps on the same batches, ALM's gap to the teacher is at least {LEAST:.0f} % smaller than "
             "that of next-byte training (SFT), its surprise at held-out books at most 3 % larger, and it takes over "
             "at least half of a preference that only the teacher has.",
        controls=[more_than_chance(gaps["SFT"], gap.floor), better(said["teacher"], before, least=0.5)],
        expect=[better(gaps["ALM"], gaps["SFT"], LEAST, by="percent", bar="ours: the plan's"),
                as_good(surprise["ALM"], surprise["SFT"], within=3.0, by="percent", bar="ours: the plan's"),
                at_least(way, 0.5, bar="ours"), better(said["ALM"], said["SFT"], bar="ours")],
        context=[context("surprise of the teacher", [side.bits(0) for side in told], "bits a byte"),
                 context(f"chance of cried over said, {TRUNK}", before.scores, "of 1"),
                 *(context(f"student minus teacher, {name}", [float(one.gaps.mean()) for one in found], "nats a piece")
                   for name, found in read.items()),
                 *(context(f"gap without what follows a piece, {name}", [
                     float(np.abs(pieces(*one.sides, debias=False).gaps).mean()) for one in found], "nats a piece")
                   for name, found in read.items())])


def pieces(teacher: Side, student: Side, debias: bool = True) -> SharedPieces:
    """As in training."""
    return SharedPieces.of(teacher, student, "merged", MERGED, debias)


def plain_gap(found: SharedPieces) -> float:
    """Mean distance of the log-likelihoods, over pieces without the two words."""
    kept = [not {CRIED.strip(), SAID.strip()} & set(found.text(i).split()) for i in range(len(found.gaps))]
    return float(np.abs(found.gaps)[kept].mean())


def blindly(found: SharedPieces, text: str, share: np.ndarray) -> float:
    """The gap of somebody who knows how frequent each byte is, and no more."""
    logs = np.log(share[np.frombuffer(text.encode(), np.uint8)]).cumsum()[found.ends[:, 1]]
    space = np.log(share[[ord(" "), ord("\n")]].sum())
    return float(np.abs(np.diff(logs) + space - found.likelihoods[0].numpy()).mean())


def places(words, count: int) -> list[str]:
    """Texts before one of the two words in the held-out books."""
    two = {words.encode(word)[-1] for word in (CRIED, SAID)}
    ids = text_lab.windows(words, 1, 10**9)[0]
    at = [i for i, id in enumerate(ids) if id in two and i >= BEFORE]
    return [words.decode(ids[i - BEFORE : i]) for i in (at or range(BEFORE, BEFORE + count))[:count]]


def taken(rows: np.ndarray) -> float:
    alm, sft, teacher = rows.mean(0)
    return float((alm - sft) / (teacher - sft))
