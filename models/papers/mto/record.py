"""What MTO leaves to see. Mask: one masked photo, rebuilt with MTO and without. Attend: where mask tokens stand."""
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.backbones.instrument import observe
from models.baselines.mae.method import rank
from models.engine.method import Emit, Event, Job
from models.engine.recording import array, bars, line, table
from models.loops.attend import loop as attention
from models.loops.attend.classifiers import curve, series
from models.loops.attend.groups import masses
from models.loops.mask import loop, photos
from models.papers.mto import losses
from models.trace import Chart, Cost, Fact, Field, Step
from models.trace.percent import percent

if TYPE_CHECKING:
    from models.backbones.simmim import MaskedPass

NAME, BASE, MAE = "photo-mto-1", "photo-mim-1", "photo-mae-2"
PROBED = 1500  # photos of the probe at every look of the training
MTO, PLAIN, DECODER = "MTO", "SimMIM", "MAE's decoder, trained without MTO"
ALIKE = Field("Likeness of the mask vector to this patch, before positions", "cosine", -1.0, 1.0, diverging=True)
PAIRS = {"seen to seen": (0, 0), "seen to mask": (0, 1), "mask to seen": (1, 0), "mask to mask": (1, 1)}
BINS = np.linspace(-1, 1, 11)


@dataclass(frozen=True, eq=False)
class Glance:
    """One network on the masked photo. h [L + 1]: heterogeneity at the input and after each block, in bits; mass [L, 2,
    2]: what seen and mask tokens give to seen and mask tokens; cosine [L]: the mask vector and every patch embedding;
    norm: its length, in mean patch embeddings."""

    layout: attention.TokenLayout
    made: MaskedPass
    looked: attention.Looked
    h: np.ndarray
    mass: np.ndarray
    cosine: np.ndarray
    norm: float
    cost: Cost


@dataclass(frozen=True, eq=False)
class Compared:
    """The photo, what is hidden of it (mask bool [1, L]), and the networks' glances at it, the job's own last."""

    view: photos.Photo
    hidden: loop.Hidden
    mask: torch.Tensor
    glances: Mapping[str, Glance]
    decoder: np.ndarray


def compare(job: Job) -> Compared:
    """The same mask for all: MTO, SimMIM, which was trained alike without it, and the decoder of an MAE."""
    view = photos.photo(job.subject.image, job.model)
    n_mask = photos.masked_count(view.count, job.params.mask_ratio)

    def at_random() -> loop.Hidden:
        ids = rank("random", view.grid, n_mask, job.generator())[:n_mask]
        return loop.Hidden(np.sort(ids), ("masked-random",) * n_mask)

    hidden = loop.hidden_by(job, view, at_random)
    noise = photos.noise_of(hidden.ids, view.count).to(view.pixels.device)
    models = {MTO if hasattr(job.model, "rho") else PLAIN: job.model}
    models = models if PLAIN in models else {PLAIN: job.companion(BASE).model, **models}
    glances = {name: glance(model, view, noise > 0) for name, model in models.items()}
    from models.backbones.vit_mae import decoder_states
    mae = job.companion(MAE).model
    states = decoder_states(mae, *photos.encode(mae, view.pixels, noise, n_mask)[:2])
    return Compared(view, hidden, noise > 0, glances, differing(states, noise > 0))


def differing(states: list[torch.Tensor], mask: torch.Tensor) -> np.ndarray:
    from models.backbones.simmim import heterogeneity
    return array(torch.cat([heterogeneity(x, mask) for x in states]))


@torch.inference_mode()
def glance(model, view: photos.Photo, mask: torch.Tensor) -> Glance:
    began = time.perf_counter()
    with observe(model.vit, want={"stats", "qk"}) as seen:
        made = model(view.pixels, mask)
    ms = 1000 * (time.perf_counter() - began)
    z, e, hidden = made.z[0].float(), model.mask_token[0, 0].float(), array(mask[0], bool)
    seen_by_it = photos.covered(view, np.flatnonzero(hidden))
    layout = attention.grid_layout(view.grid, seen_by_it, first=1, outside="[CLS]")
    # all rows are stored; projections are not kept, because a later row would be without r
    return Glance(layout, made, replace(attention.look(seen, layout), kept=None), differing(made.states, mask),
                  masses(list(seen), {"seen": 1 + np.flatnonzero(~hidden), "mask": 1 + np.flatnonzero(hidden)}),
                  array(torch.nn.functional.cosine_similarity(e, z, dim=-1)), float(e.norm() / z.norm(dim=-1).mean()),
                  Cost(1, *work(model, len(hidden)), 0, ms))


def work(model, count: int) -> tuple[int, int]:
    """Token rows and multiply-adds of one pass: all tokens through every block, patches in and tokens out."""
    c = model.config
    block, ends = loop.block_macs(count + 1, c.hidden_size, c.intermediate_size), c.num_channels * c.patch_size**2
    return c.num_hidden_layers * (count + 1), c.num_hidden_layers * block + (2 * count + 1) * ends * c.hidden_size


def rebuilt(job: Job, found: Compared) -> Iterator[Event]:
    """Mask: what is hidden, what the job's network paints there, and what the other one does."""
    view, mask = found.view, found.mask.float()
    exams = {name: loop.graded(job.model, view, found.hidden, one.made.patches, mask, one.cost)
             for name, one in found.glances.items()}
    *others, own = exams
    yield loop.opening(view, 4 + len(others))
    *steps, wrong = loop.exam_steps(job.model, view, exams[own])  # a run ends on its own picture, not on the other's
    yield from (Emit("mask", step) for step in steps)
    for name in others:
        pasted = torch.where(mask[..., None] > 0, exams[name].patches, view.target)
        yield Emit("mask", Step(f"rebuilt by {name}, trained as long", found.hidden.states(view.count, hidden="new"),
                                cost=exams[name].cost, picture=photos.picture(job.model, pasted)))
    yield Emit("mask", wrong)
    facts = loop.exam_facts(exams[own], view.count)
    facts |= {name: Fact(f"Error of the hidden patches, {name}", exams[name].mean(), loop.UNIT) for name in others}
    more = "".join(f", {name} after as many steps with {loop.errs(exams[name].mean())}" for name in others)
    told = (f"{len(found.hidden.ids)} of {view.count} patches are hidden; {own} rebuilds them with a mean squared "
            f"error of {loop.errs(exams[own].mean())}{more}; inpainting errs by "
            f"{loop.errs(exams[own].mean('loss_inpaint'))}.")
    yield loop.closing(job, exams[own], told, facts, training())


def training() -> tuple[Chart, ...]:
    """The linear probe while both were trained, as far as the curves are shipped."""
    if not (curves := {name: points for name, at in ((PLAIN, BASE), (MTO, NAME)) if (points := curve(at))}):
        return ()
    last = next(iter(curves.values()))[-1]["probe"]
    return (line("What the encoder knows while it is trained", f"linear probe, % of {PROBED:,} photos",
                 {name: series(points, "probe") for name, points in curves.items()}, x="training step", by_step=False,
                 reference=last, caption="Dashed: where SimMIM ends. Both lose some of what their start knew; so few "
                                         "steps say nothing of speed."),)


def looked_at(job: Job, found: Compared) -> Iterator[Event]:
    """Attend: the mask vector's likeness to every patch, then who looks at whom in each layer."""
    *_, own = found.glances
    one, layout = found.glances[own], found.glances[own].layout
    state, ask = found.hidden.states(found.view.count), int(array(found.mask[0], bool).argmin())  # a seen one
    yield attention.opening(layout, 1 + len(one.mass), {"alike": ALIKE}, one.looked)
    yield Emit("attend", Step("the mask vector before the first layer", state, fields={"alike": one.cosine},
                              picture=found.view.shown, note="How like it is to what each patch would have said."))
    layers = len(one.mass)
    cost = Cost(0, one.cost.rows // layers, one.cost.macs // layers, 0, one.cost.ms / layers)
    asked = attention.marked(found.view.count, ask, state=state)
    for layer, step in enumerate(attention.layer_steps(layout, one.looked, [cost] * layers, state)):
        yield Emit("attend", replace(step, state=state if layer else asked))  # it opens on the first layer
    yield attention.closing(layout, one.looked, apart(found), facts(found), charts(found))


def wasted(one: Glance) -> float:
    """What seen tokens give to mask tokens in the first layers, of 1."""
    return float(one.mass[: losses.early(len(one.mass)), 0, 1].mean())


def apart(found: Compared) -> str:
    *others, own = found.glances
    more, one = "".join(f", in {name} {percent(wasted(found.glances[name]))}" for name in others), found.glances[own]
    return (f"In the first quarter of the layers seen patches of {own} give {percent(wasted(one))} of their attention "
            f"to mask tokens{more}. Mask tokens and seen ones differ by {one.h[0]:.3f} bits at the input and by "
            f"{one.h[-1]:.3f} after the last layer.")


def facts(found: Compared) -> dict[str, Fact]:
    waste, alike = "Attention of seen patches to mask tokens, first layers", "Largest likeness of the mask vector"
    *_, (own, mine) = found.glances.items()
    made = {}
    for name, one in reversed(found.glances.items()):  # the first fact is the headline: the job's own
        whose = "" if name == own else f", {name}"  # beside the control the own one has the control's title
        made |= {f"wasted {name}": Fact(f"{waste}{whose}", 100 * wasted(one), "%", "lower"),
                 f"cosine {name}": Fact(f"{alike} to a patch{whose}", float(one.cosine.max()), "cosine")}
    return made | {"norm": Fact(f"Length of the mask vector, {own}", mine.norm, "mean patch embeddings"),
                   "h": Fact(f"Heterogeneity after the last layer, {own}", float(mine.h[-1]), "bits")}


def charts(found: Compared) -> tuple[Chart, ...]:
    """How far apart mask tokens are from seen ones by layer, who looks at whom, and where the mask vector stands."""
    mass = np.concatenate([one.mass for one in found.glances.values()])  # [2 L, 2, 2]
    rows = [f"{name}, layer {layer + 1}" for name, one in found.glances.items() for layer in range(len(one.mass))]
    return (line("How different mask tokens are from seen ones", "heterogeneity (bits)",
                 {**{name: one.h for name, one in found.glances.items()}, DECODER: found.decoder}, x="layer (0: input)",
                 by_step=False, caption="Jensen-Shannon divergence of normed tokens, mean over pairs. 0: the same. An "
                                        "MAE's encoder has no mask tokens; its decoder, of fewer layers, has."),
            table("Who looks at whom", "from and to", "network and layer",
                  np.stack([mass[:, query, key] for query, key in PAIRS.values()], 1), tuple(PAIRS), rows,
                  unit="share of attention", caption="The rest goes to the class token."),
            bars("How like the mask vector is to the patches", "cosine", "% of the photo's patches",
                 {name: 100 * np.histogram(x.cosine, BINS)[0] / len(x.cosine) for name, x in found.glances.items()},
                 [f"{low:.1f} to {low + 0.2:.1f}" for low in BINS[:-1]], caption="At the input, without positions."))
