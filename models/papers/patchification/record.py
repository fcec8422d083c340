"""One photo in front of the whole family. Prune: how it is cut, what the tokens retain, what reading them costs and
what every patch size answers. Attend: where the class token looks at every patch size, then layer by layer.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from models.backbones.pictures import MEAN, STD, cut, patchify, to_uint8
from models.baselines.vit.method import arm_of
from models.checkpoints import store
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import bars, line, table
from models.loops.attend import classifiers
from models.loops.attend.classifiers import ClassifierArm, ClassifierPass
from models.papers.patchification import tokens
from models.trace import Chart, Cost, Fact, Field, Step, states
from models.trace.percent import percent

FIELDS = {"lost": Field("What the token has lost of its patch", "% of the brightness range, root mean square", 0.0),
          "cls": Field("Class token's attention, last layer", "of its strongest patch", 0.0, 1.0)}
SHOWN = 6  # classes in the table of answers


class SizeReading(NamedTuple):
    """What the network of one patch size makes of the photo. kept [1, 3, S, S] in 0..1: what its tokens retain; card:
    of its checkpoint."""

    name: str
    patch: int
    arm: ClassifierArm
    seen: ClassifierPass
    kept: Tensor
    psnr: float
    macs: int
    card: Mapping

    @property
    def count(self) -> int:
        return len(self.arm.places)

    @property
    def answer(self) -> str:
        """Its class with how likely it holds it."""
        kind, share = self.seen.best()
        return f"{self.arm.labels[kind]} ({percent(share)})"

    def figure(self, name: str) -> float:
        """Of its card, NaN where none is there."""
        return self.card.get("metrics", {}).get(name, {}).get("value", float("nan"))


class PatchFamily(NamedTuple):
    """Every patch size of one picture size, the largest patches first. mine: the one that was asked for; pixels
    [1, 3, S, S] in 0..1; shown: the same as uint8 [S, S, 3]."""

    side: int
    readings: list[SizeReading]
    mine: SizeReading
    pixels: Tensor
    shown: np.ndarray


@torch.no_grad()
def read(job: Job) -> PatchFamily:
    """The photo, made as small as in training: 64 pixels, or means over squares of these."""
    side, (_, pixels) = job.model.config.image_size, cut(job.subject.image, job.model, tokens.SIDE)
    pixels = avg_pool2d(pixels, tokens.SIDE // side)
    found = [reading(job, tokens.name(side, patch), pixels) for patch in tokens.FAMILY[side]]
    mine = next(one for one in found if one.name == job.bundle.name)
    bright = in_range(pixels)
    return PatchFamily(side, found, mine, bright, to_uint8(bright.clamp(0, 1))[0])


def reading(job: Job, name: str, pixels: Tensor) -> SizeReading:
    bundle = job.companion(name)
    arm, projection = arm_of(bundle.model), bundle.model.vit.embeddings.patch_embeddings.projection
    kept, macs = in_range(tokens.retained(projection, pixels)), tokens.macs_of(bundle.model)
    return SizeReading(name, projection.kernel_size[0], arm, entire(classifiers.look(arm, pixels), macs), kept,
                       tokens.psnr(kept, in_range(pixels)), macs, bundle.card)


def entire(seen: ClassifierPass, macs: int) -> ClassifierPass:
    """With all multiply-adds of the network: what is no layer's, the cut and the head, stands with the first."""
    first, *others = seen.costs
    rest = macs - sum(cost.macs for cost in seen.costs)
    return replace(seen, costs=[first + Cost(macs=rest), *others])


def in_range(pixels: Tensor) -> Tensor:
    """Normalised pixels as brightness, 0..1 where the photo's own."""
    mean, std = (torch.from_numpy(one)[:, None, None].to(pixels.device) for one in (MEAN, STD))
    return pixels * std + mean


# ---- Prune

def cut_up(job: Job, found: PatchFamily) -> Iterator[Event]:
    """The events of the Prune record, on the grid of the patch size that was asked for."""
    mine, numbers = found.mine, 3 * found.mine.patch**2
    layout = classifiers.layout_of(mine.arm, found.shown)
    here, lost = states(*["visible"] * mine.count), losses(mine, found)
    width = job.model.config.hidden_size
    notes = (f"{found.side} x {found.side} pixels, {mine.count} patches of {mine.patch} x {mine.patch}",
             f"{numbers} numbers of a patch become a token of {width}: "
             + ("nothing is lost" if lost.max() < 0.01 else f"{mine.psnr:.0f} dB are left (100: exact)"),
             f"{len(mine.seen.costs)} layers of {mine.count} tokens and a class token: {mine.answer}")
    yield Open("prune", layout.canvas, FIELDS, 3)
    retained = to_uint8(mine.kept.clamp(0, 1))[0]
    yield Emit("prune", Step("the picture, cut", here, note=notes[0]))
    yield Emit("prune", Step("what the tokens retain", here, fields={"lost": lost}, note=notes[1], picture=retained))
    cost = sum(mine.seen.costs[1:], mine.seen.costs[0])
    yield Emit("prune", Step("read", here, fields={"cls": mine.seen.painted(mine.arm, -1)}, picture=retained,
                             cost=cost, note=notes[2]))
    yield Close("prune", say(found), charts(found), facts(found))


def losses(mine: SizeReading, found: PatchFamily) -> np.ndarray:
    """By token [L], % of the brightness range."""
    wrong = patchify((mine.kept - found.pixels).float(), mine.patch)[0]  # [h, w, 3 p^2]
    return 100 * wrong.square().mean(-1).sqrt().flatten().cpu().numpy()


def say(found: PatchFamily) -> str:
    mine, first = found.mine, found.readings[0]
    others = "; ".join(f"in {one.count}, {one.answer}" for one in found.readings if one is not mine)
    return (f"In {mine.count} tokens of {mine.patch} x {mine.patch} pixels it is {mine.answer}; {others}. Reading it "
            f"takes {mine.macs / first.macs:,.0f} times the multiply-adds of {first.count} tokens. Each is a network "
            "of its own.")


def measured(mine: SizeReading) -> dict[str, Fact]:
    """What its card says of many photos: of a single one a size may be right by chance."""
    known = {"loss": Fact("Held-out loss of this patch size", mine.figure("held-out loss"), "nats", "lower"),
             "right": Fact("Right answers of this patch size", mine.figure("accuracy"), "% of photos", "higher")}
    return {key: fact for key, fact in known.items() if np.isfinite(fact.value)}


def facts(found: PatchFamily) -> dict[str, Fact]:
    mine, share = found.mine, found.mine.seen.best()[1]
    return {**measured(mine),
            "macs": Fact("Multiply-adds", mine.macs / 1e6, "million", "lower"),
            "tokens": Fact("Tokens", mine.count),
            "psnr": Fact("What the tokens retain of the picture (100: exact)", mine.psnr, "dB", "higher"),
            "answer": Fact(f"Probability of its answer, {mine.arm.labels[mine.seen.best()[0]]}", share, "of 1")}


def charts(found: PatchFamily) -> tuple[Chart, ...]:
    return (answers(found), price(found), *loss_chart(), *learned(found))


def answers(found: PatchFamily) -> Chart:
    """The favourites of all patch sizes."""
    chances = np.stack([one.seen.answers[-1] for one in found.readings])  # [sizes, C]
    top = np.argsort(-chances.max(0), kind="stable")[:SHOWN]
    labels = found.mine.arm.labels
    return table("What every patch size answers", "tokens", "class", 100 * chances[:, top].T,
                 [str(one.count) for one in found.readings], [labels[i] for i in top], unit="%",
                 caption="One network per column, each trained from the beginning; the likeliest classes of any.")


def price(found: PatchFamily) -> Chart:
    """Multiply-adds by number of tokens; the next halving is counted, too, and was not trained."""
    ticks = [str(one.count) for one in found.readings]
    work = {"trained": [one.macs / 1e6 for one in found.readings]}
    if found.side == tokens.SIDE:
        ticks.append(f"{tokens.count(found.side, tokens.UNTRAINED):,}")
        counted = [np.nan] * len(found.readings) + [tokens.macs(found.side, tokens.UNTRAINED) / 1e6]
        work = {"trained": [*work["trained"], np.nan], "counted, not trained": counted}
    return bars("Multiply-adds of one picture", "tokens", "million", work, ticks,
                caption="Lower is cheaper. Every halving of the patch makes four times as many tokens.")


def loss_chart() -> tuple[Chart, ...]:
    """Held-out loss against tokens at both picture sizes, from the cards."""
    lines, cards = {}, store.shipped()
    for size, sizes in tokens.FAMILY.items():
        points = [(np.log2(tokens.count(size, patch)), cards[name]["metrics"]["held-out loss"]["value"])
                  for patch in sizes if (name := tokens.name(size, patch)) in cards]
        if points:
            lines[f"{size} pixels"] = np.array(points)
    return (line("Held-out loss by number of tokens", "nats", lines, x="tokens, as a power of 2", by_step=False,
                 caption="Lower is better. 2, 4, 6, 8 are 4, 16, 64, 256 tokens; no curve is drawn beyond what was "
                         "trained."),) if lines else ()


def learned(found: PatchFamily) -> tuple[Chart, ...]:
    curves = {f"{one.count} tokens": classifiers.series(points, "loss") for one in found.readings
              if (points := classifiers.curve(one.name))}
    return (line("Held-out loss while training", "nats", curves, by_step=False,
                 caption="Lower is better. 256 photos; the same crops of the same photos, step by step."),
            ) if curves else ()


# ---- Attend

def attended(job: Job, found: PatchFamily) -> Iterator[Event]:
    """The class token's attention at every patch size, on the grid of the one asked for; then its layers."""
    mine, layer = found.mine, min(job.params.layer, len(found.mine.seen.maps))
    first = [compared(one, mine, layer) for one in found.readings]
    far = {one.count: spread(one, layer) for one in found.readings}
    sentence = (f"In layer {layer} the class token looks at "
                + ", ".join(f"{percent(share)} of the picture with {count} tokens" for count, share in far.items())
                + " (100 %: evenly over all of it).")
    yield from classifiers.record(mine.arm, found.shown, mine.seen, sentence=sentence, layer=layer, first=first,
                                  facts=measured(mine))


def compared(one: SizeReading, mine: SizeReading, layer: int) -> Step:
    share = resampled(shares(one, layer), mine.count)
    return Step(f"class token, {one.count} patches of {one.patch} x {one.patch}",
                states(*["visible"] * mine.count), "layer", fields={"cls": share / max(float(share.max()), 1e-12)},
                note=f"Layer {layer} of the network of this patch size; it says {one.answer}.")


def shares(one: SizeReading, layer: int) -> np.ndarray:
    """The class token's attention to every patch [L], mean over heads, of what falls on patches."""
    row = one.seen.cls_row(one.arm)[layer - 1].mean(0)
    return row / max(float(row.sum()), 1e-12)


def resampled(share: np.ndarray, count: int) -> np.ndarray:
    """Attention [L] to patches of one size as attention [count] to those of another: a patch's is spread evenly over
    smaller ones, those of smaller patches are added up."""
    mine, other = int(len(share) ** 0.5), int(count**0.5)
    fine = np.kron(share.reshape(mine, mine), np.ones((max(other // mine, 1),) * 2)) / max(other // mine, 1) ** 2
    size = max(mine // other, 1)
    return fine.reshape(other, size, other, size).sum((1, 3)).ravel()


def spread(one: SizeReading, layer: int) -> float:
    """Over how much of the picture the look goes: e to its entropy, as a share of all patches."""
    share = shares(one, layer)
    return float(np.exp(-(share * np.log(np.maximum(share, 1e-12))).sum()) / len(share))
