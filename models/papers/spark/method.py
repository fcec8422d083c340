"""SparK: masked modelling for convnets. Hidden cells are skipped by sparse convolutions, so the holes stay holes.

Tian et al., Designing BERT for Convolutional Networks: Sparse and Hierarchical Masked Modeling (arXiv 2301.03580), read
with its reference code; the network is in network.py. Cells as large as the encoder's total stride are hidden
uniformly at random; every convolution and norm leaves them empty; the maps of all three scales, their holes filled with
one mask vector per scale, are repainted by a light U-Net. Its control, control.py, sees zeros instead.

Not covered: per-patch normalised targets (raw pixels, so that fills can be compared), the ConvNeXt encoder, LAMB.
"""

import time
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Emit, Job, Method, Turn
from models.loops.mask import loop
from models.loops.mask.photos import Photo, photo, picture
from models.papers.spark import holes, kernel_paths
from models.trace import Chart, Cost, Fact, Field, Step
from models.trace.params import Choice, Span
from models.trace.percent import percent

FIELDS = {"covered": Field("Positions that carry information", "% of the patch", 0.0, 100.0),
          "norm": Field("Length of the activation", "activation", 0.0)}
WITHOUT = {"coarsest": (True, True, False), "middle": (True, False, True), "finest": (False, True, True)}


@dataclass(frozen=True)
class Params:
    mask_ratio: Annotated[float, Span(0.1, 0.9, 0.05, "Mask ratio", "How much of the picture is hidden.",
                                      unit="of patches")] = 0.6


@dataclass(frozen=True)
class SparkParams(Params):
    mode: Annotated[str, Choice(("trained", "sparse", "zero-fill"), "Holes in the encoder", "Skipped or seen as zeros. "
                                "What it was not trained for is a what-if.",
                                titles=("as trained", "skipped", "zero-filled"))] = "trained"


def budget(job: Job) -> tuple[int]:
    """How many cells one mask hides."""
    from models.papers.spark.network import kept_count
    count = job.model.grid[0] * job.model.grid[1]
    return (count - kept_count(count, job.params.mask_ratio),)


def hide(job: Job, view: Photo) -> loop.Hidden:
    """Cells chosen uniformly, or the visitor's."""
    n_mask, = budget(job)

    def at_random():
        ids = torch.randperm(view.count, generator=job.generator())[:n_mask].numpy()
        return loop.Hidden(np.sort(ids), ("masked-random",) * n_mask)

    return loop.hidden_by(job, view, at_random, n_mask)


@torch.no_grad()
def repaint(job: Job, view: Photo, hidden: loop.Hidden, sparse: bool, scales=(True, True, True)) -> loop.Exam:
    """One pass; scales, fine to coarse: False feeds that scale's mask vector everywhere."""
    kept, began = kept_of(view, hidden), time.perf_counter()
    painted = job.model(view.pixels, kept, sparse, scales)
    ms = (time.perf_counter() - began) * 1000
    return loop.graded(job.model, view, hidden, job.model.patchify(painted), (~kept).to(painted.dtype),
                       Cost(1, 0, sum(job.model.macs()), 0, ms))


def kept_of(view: Photo, hidden: loop.Hidden) -> torch.Tensor:
    """The visible cells bool [1, L]."""
    kept = torch.ones(1, view.count, dtype=torch.bool, device=view.pixels.device)
    kept[0, torch.from_numpy(hidden.ids)] = False
    return kept


def play(job: Job, sparse: bool):
    """Hide, watch the holes after every layer, repaint; then once more without each scale."""
    view = photo(job.subject.image, job.model)
    hidden = hide(job, view)
    active = kept_of(view, hidden).unflatten(1, view.grid)[:, None]
    yield loop.opening(view, 1 + len(job.model.encoder.names) + 3 + len(WITHOUT), FIELDS)
    found = holes.walk(job.model.encoder, view.pixels, active, sparse)
    exam = repaint(job, view, hidden, sparse)
    first, *painted, errors = loop.exam_steps(job.model, view, exam)
    yield Emit("mask", first)
    mask = ~active[0, 0].flatten().cpu().numpy()
    for step in (*holes.layer_steps(job.model.encoder.names, view, mask, found), *painted):
        yield Emit("mask", step)
    less = {name: repaint(job, view, hidden, sparse, scales) for name, scales in WITHOUT.items()}
    for step in (*(without(job, view, name, one) for name, one in less.items()), errors):
        yield Emit("mask", step)
    shifted = shift_charts(job, view, active) if sparse else ()
    charts = (scales_chart(exam, less), holes.coverage_chart(found), *shifted)
    yield loop.closing(job, exam, say(job, exam, found), facts(job, exam, view, found), charts)
    yield from kernel_paths.record(job.model.encoder, view, active, found)


def without(job: Job, view: Photo, name: str, exam: loop.Exam) -> Step:
    """The repainting with one scale switched off."""
    pasted = picture(job.model, torch.where(exam.mask[..., None] > 0, exam.patches, view.target))
    return Step(f"repainted without the {name} map", exam.hidden.states(view.count, hidden="new"), picture=pasted,
                cost=exam.cost, fields={"loss": exam.on_hidden("loss")},
                note="That map is replaced by its mask vector everywhere, visible patches too.")


def scales_chart(exam: loop.Exam, less: dict[str, loop.Exam]) -> Chart:
    values = np.array([exam.mean(), *(one.mean() for one in less.values())])
    return Chart("bar", "What each scale is worth", "map switched off", f"error ({loop.UNIT})",
                 {"error": values}, ("none", *less), reference=float(values[0]),
                 caption="Mean error of the hidden patches; one map at a time is replaced by its mask vector.")


def shift_charts(job: Job, view: Photo, active) -> tuple[Chart, ...]:
    """The same weights fed in three ways: what the norms see."""
    values = holes.norm_values(job.model.encoder, view.pixels, active)
    return holes.stem_chart(values), holes.shift_chart(holes.shifts(values))


def facts(job: Job, exam: loop.Exam, view: Photo, found: holes.Walk) -> dict[str, Fact]:
    """The exam's facts, then what became of the holes and what was computed in them."""
    encoder, decoder = job.model.macs()
    return {**loop.exam_facts(exam, view.count),
            "covered": Fact("Positions that carry information after the last layer", 100 * found.shares()[-1], "%"),
            "gone": Fact("Layers with holes left", float((found.shares() < 1).sum()), f"of {len(found.covered)}"),
            "share": Fact("Encoder's share of the multiply-adds", 100 * encoder / (encoder + decoder), "%"),
            "holes": Fact("Encoder's work inside holes (computed, then emptied; a sparse kernel would skip it)"
                          if found.sparse else "Encoder's work inside holes",
                          encoder * len(exam.hidden.ids) / view.count, "multiply-adds")}


def say(job: Job, exam: loop.Exam, found: holes.Walk) -> str:
    shares, names = found.shares(), job.model.encoder.names
    if found.sparse:
        story = f"After every layer {percent(shares[-1])} of the positions carry information: the holes stay"
    else:
        full = next((name for name, share in zip(names, shares) if share == 1), None)
        story = (f"The surroundings leak into the holes: {percent(shares[0])} of the positions carry information after "
                 f"the stem, {percent(shares[1])} after {names[1]}"
                 + (f"; after {full} no hole is left" if full else f", {percent(shares[-1])} after the last layer"))
    what_if = "" if found.sparse == job.model.sparse else " This is a what-if: it was trained the other way."
    return (f"{story}. The hidden patches are repainted with a mean squared error of {loop.errs(exam.mean())}, "
            f"{loop.against(exam)}.{what_if}")


def run(job: Job):
    modes = {"trained": job.model.sparse, "sparse": True, "zero-fill": False}
    yield from play(job, modes[job.params.mode])


METHOD = Method(
    card=Card(
        id="spark", title="SparK", tabs=("mask", "attend"), arxiv="2301.03580", year=2023, seed="A",
        summary="A convnet learns by repainting hidden patches. Its convolutions skip the holes, so nothing leaks into "
                "them from the side, and three scales are repainted together.",
        flow="photo > patches hidden > *sparse convolutions skip holes > *mask vectors fill holes per "
             "scale > light decoder > repainted photo",
        look_at="Slide through the layers: the mosaic of holes stays. Beside it, with zeros in them, it dissolves. In "
                "Attend: which visible patches a patch can hear.",
        not_covered="Fine-tuning as in the paper, per-patch normalised targets (raw pixels here), the ConvNeXt "
                    "encoder; the sparse layers are computed densely and emptied, so no time is saved.",
        unverified="The control fills its holes with the mask vectors too, so that only the encoder differs."),
    params=SparkParams, accepts="photo", checkpoints=("photo-spark-1", "photo-spark-zero-1"), run=run,
    examples=EXAMPLES, baseline="zero-fill", baseline_params=lambda p: {"mask_ratio": p.mask_ratio},
    turn=Turn("Hide the patches that you think are hardest to repaint.", "error", budget),
    fixed={"attend": "It is a convolutional network without attention heads."})
