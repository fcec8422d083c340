"""Mask: the one loop of the tab. A method says what to hide; the network rebuilds it; every patch gets its error.

    exam = sit(job, photo, hidden)                     # hide, rebuild, compare with two trivial fills
    yield from record(job, photo, exam, sentence=...)  # Open, the steps, Close

`job.choice`, the visitor's own mask, replaces the method's (`hidden_by`). Letters: L patches, P numbers per patch.

Words have their own loop, models/loops/mask/words.py; `Hidden` and `hidden_by` serve both. Other canvases bring their
own twin of `Photo` when the first method needs one: `count`, `noun` and `candidates` are all that `hidden_by` asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from models.backbones.instrument import plain_attention
from models.engine.method import Close, Emit, Event, Job, Open
from models.loops.mask.photos import Photo, inpaint, masked_count, mean_fill, noise_of, patch_error, picture, rebuild
from models.trace import Canvas, Chart, Cost, Fact, Field, Step, states
from models.trace.params import ParamError
from models.trace.percent import percent

LEAST = 0.005  # errors below read as 0.00
UNIT = "MSE"  # mean squared error of ImageNet-normalised pixels
FIELDS = {
    "variance": Field("Pixel variance of the patch", "normalised pixels²", 0.0),
    "loss": Field("Error of the rebuilt patch", UNIT, 0.0),
    "loss_normalised": Field("Error in units of the patch's own variance", "patch variances", 0.0),
    "loss_mean": Field("Error of the mean visible colour", UNIT, 0.0),
    "loss_inpaint": Field("Error of bilinear inpainting", UNIT, 0.0),
}


@dataclass(frozen=True)
class Hidden:
    """What a method hides: token identities int [M], and for each the name of the state that says why."""

    ids: np.ndarray
    why: tuple[str, ...]

    def states(self, count: int, other: str = "visible", hidden: str | None = None) -> np.ndarray:
        """State codes [L]; `hidden` overrides every reason."""
        names = [other] * count
        for token, why in zip(self.ids, self.why, strict=True):
            names[token] = hidden or why
        return states(*names)


@dataclass(frozen=True, eq=False)
class Exam:
    """One mask, rebuilt: patches float [L, P], mask [1, L], and the errors [L] of the network and of the two fills."""

    hidden: Hidden
    patches: torch.Tensor
    mask: torch.Tensor
    errors: Mapping[str, np.ndarray]
    cost: Cost

    def mean(self, name: str = "loss") -> float:
        """Mean over the hidden patches."""
        return float(self.errors[name][self.hidden.ids].mean())

    def on_hidden(self, name: str) -> np.ndarray:
        """[L] with NaN where the patch was visible."""
        values = np.full(len(self.errors[name]), np.nan, np.float32)
        values[self.hidden.ids] = self.errors[name][self.hidden.ids]
        return values


class Hideable(Protocol):
    """A subject whose tokens can be hidden: how many, what they are called, and which of them may be."""

    noun: str
    count: int
    candidates: np.ndarray


def hidden_by(job: Job, view: Hideable, rule: Callable[[], Hidden], count: int | None = None) -> Hidden:
    """The visitor's mask if there is one, else the rule's; ParamError when the visitor's does not fit the budget.

    count: how many tokens are hidden; None: as many patches as the job's mask ratio asks.
    """
    if job.choice is None:
        return rule()
    chosen = [token for group in job.choice for token in group]
    count = masked_count(view.count, job.params.mask_ratio) if count is None else count
    if len(set(chosen)) != len(chosen) or not set(chosen) <= set(view.candidates.tolist()):
        raise ParamError(f"Choose different {view.noun} numbered 0 to {view.count - 1}.")
    if len(chosen) != count:
        raise ParamError(f"Choose exactly {count} {view.noun} to hide; you chose {len(chosen)}.")
    return Hidden(np.sort(np.int64(chosen)), ("masked",) * count)


def sit(job: Job, photo: Photo, hidden: Hidden) -> Exam:
    """Hides the patches, lets the job's network rebuild them and measures every patch against three answers."""
    began = time.perf_counter()
    patches, mask = rebuild(job.model, photo.pixels, noise_of(hidden.ids, photo.count), len(hidden.ids))
    ms = (time.perf_counter() - began) * 1000
    rows, macs = work(job.model, photo.count - len(hidden.ids), photo.count)
    return graded(job.model, photo, hidden, patches, mask, Cost(1, rows, macs, 0, ms))


def graded(model, photo: Photo, hidden: Hidden, patches: torch.Tensor, mask: torch.Tensor, cost: Cost) -> Exam:
    """The exam of a network that rebuilt the patches [1, L, P] by itself: every patch against three answers."""
    answers = {"loss": patches, "loss_mean": mean_fill(photo.target, mask),
               "loss_inpaint": inpaint(model, photo.target, mask)}
    errors = {name: _numbers(patch_error(answer, photo.target)) for name, answer in answers.items()}
    errors["loss_normalised"] = _numbers(patch_error(patches, photo.target, normalised=True))
    errors["variance"] = _numbers(photo.variance)
    return Exam(hidden, patches, mask, errors, cost)


def record(job: Job, photo: Photo, exam: Exam, *, sentence: str, facts: Mapping[str, Fact]) -> Iterator[Event]:
    """The events of a Mask record with the exam's steps; `opening`, `exam_steps` and `closing` are its parts, for
    methods that add steps of their own."""
    made = list(exam_steps(job.model, photo, exam))
    yield opening(photo, len(made))
    for step in made:
        yield Emit("mask", step)
    yield closing(job, exam, sentence, facts)


def opening(photo: Photo, total: int, extra: Mapping[str, Field] | None = None) -> Open:
    """`extra` explains the fields of the caller's own steps."""
    canvas = Canvas("grid", ("",) * photo.count, shape=photo.grid, picture=photo.shown)
    return Open("mask", canvas, {**FIELDS, **(extra or {})}, total)


def closing(job: Job, exam: Exam, sentence: str, facts: Mapping[str, Fact], charts: Sequence[Chart] = ()) -> Close:
    return Close("mask", sentence, (fills_chart(exam), *charts), facts,
                 path=f"{plain_attention(job.model) or 'convolutions'} (no statistics)")


def exam_steps(model, photo: Photo, exam: Exam) -> Iterator[Step]:
    """The mask, the rebuilt patches pasted into the picture, the network's raw output, and the error map."""
    hidden, count = exam.hidden, photo.count
    pasted = picture(model, torch.where(exam.mask[..., None] > 0, exam.patches, photo.target))
    known = {"variance": exam.errors["variance"]}
    errors = {name: exam.on_hidden(name) for name in ("loss", "loss_normalised", "loss_mean", "loss_inpaint")}
    rebuilt = hidden.states(count, hidden="new")
    yield Step("what is hidden", hidden.states(count), fields=known, picture=photo.shown)
    yield Step("rebuilt and pasted in", rebuilt, fields=known, picture=pasted, cost=exam.cost,
               note="Visible patches are the original; hidden ones are the network's.")
    yield Step("the network's whole output", rebuilt, fields=known, picture=picture(model, exam.patches),
               note="Visible patches too are the network's: it was never trained to paint those, so they look worse.")
    yield Step("how wrong each patch is", rebuilt, fields=errors | known, picture=pasted)


def fills_chart(exam: Exam) -> Chart:
    """The mean error of the hidden patches: the network beside the two answers that need none."""
    values = np.array([exam.mean("loss"), exam.mean("loss_inpaint"), exam.mean("loss_mean")])
    return Chart("bar", "Mean error of the hidden patches", "answer", f"error ({UNIT}, normalised pixels)",
                 {"error": values}, ("network", "inpainting", "mean colour"),
                 caption="Lower is better; the last two need no network.")


def told(exam: Exam) -> bool:
    """Whether inpainting errs enough to be compared with: of an empty wall any share would be a number without sense.
    """
    return exam.mean("loss_inpaint") >= LEAST


def against(exam: Exam) -> str:
    """`24 % below bilinear inpainting (0.45)`, or that there is nothing to be better at."""
    fill, share = exam.mean("loss_inpaint"), exam.mean("loss") / max(exam.mean("loss_inpaint"), LEAST)
    if not told(exam):
        return f"with hardly anything to rebuild (bilinear inpainting errs by {errs(fill)})"
    return f"{percent(abs(1 - share))} {'below' if share < 1 else 'above'} bilinear inpainting ({fill:.2f})"


def errs(value: float) -> str:
    """An error in a sentence; what two decimals do not show is said to be less than they can."""
    return "less than 0.01" if value < LEAST else f"{value:.2f}"


def exam_facts(exam: Exam, count: int, normalised: bool = False) -> dict[str, Fact]:
    """The score and what it is measured against. A harder exam has the higher error."""
    name, unit = ("loss_normalised", "patch variances") if normalised else ("loss", UNIT)
    below = 1 - exam.mean("loss") / exam.mean("loss_inpaint") if told(exam) else float("nan")
    return {"below": Fact("Rebuilt better than by inpainting, by", 100 * below, "%", "higher"),
            "error": Fact("How hard this mask is: error of the hidden patches", exam.mean(name), unit, "higher"),
            "hidden": Fact("Hidden", 100 * len(exam.hidden.ids) / count, "% of patches"),
            "inpaint": Fact("Bilinear inpainting errs", exam.mean("loss_inpaint"), UNIT),
            "mean_colour": Fact("Mean visible colour errs", exam.mean("loss_mean"), UNIT)}


def work(model, visible: int, count: int) -> tuple[int, int]:
    """Token rows and multiply-adds of one pass: encoder on `visible` patches and [CLS], decoder on all."""
    return tuple(map(sum, zip(encoder_work(model, visible, count), decoder_work(model, visible, count))))


def encoder_work(model, visible: int, count: int) -> tuple[int, int]:
    """Of the encoder alone; all `count` patches are embedded."""
    c, patch = model.config, model.config.num_channels * model.config.patch_size**2
    wide = block_macs(visible + 1, c.hidden_size, c.intermediate_size) * c.num_hidden_layers
    return (visible + 1) * c.num_hidden_layers, wide + count * patch * c.hidden_size


def decoder_work(model, visible: int, count: int) -> tuple[int, int]:
    """Of the decoder alone, which gets `visible` latents and [CLS], and answers everywhere."""
    c, patch = model.config, model.config.num_channels * model.config.patch_size**2
    thin = block_macs(count + 1, c.decoder_hidden_size, c.decoder_intermediate_size) * c.decoder_num_hidden_layers
    ends = (visible + 1) * c.hidden_size + (count + 1) * patch
    return (count + 1) * c.decoder_num_hidden_layers, thin + ends * c.decoder_hidden_size


def encoding(model, visible: int, count: int) -> Cost:
    """One pass of the encoder alone on `visible` of `count` patches and [CLS]; all patches are embedded first."""
    c = model.config
    wide = block_macs(visible + 1, c.hidden_size, c.intermediate_size) * c.num_hidden_layers
    return Cost(1, (visible + 1) * c.num_hidden_layers, wide + count * c.num_channels * c.patch_size**2 * c.hidden_size)


def block_macs(tokens: int, width: int, inner: int) -> int:
    """Multiply-adds of one transformer block: projections, scores and mixing, MLP."""
    return tokens * (4 * width * width + 2 * width * inner) + 2 * tokens * tokens * width


def _numbers(values: torch.Tensor) -> np.ndarray:
    return values[0].float().cpu().numpy()
