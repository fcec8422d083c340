"""What LUT leaves to see in Mask: two sparse views of one photo on one sheet, and what the first says of the second."""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.backbones.photo_views import second_view
from models.baselines.mae.method import EXAMPLES
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, board_places, sheet
from models.loops.mask import loop
from models.loops.mask.photos import Photo, encode, masked_count, photo, picture
from models.papers.lut import context as net
from models.trace import Canvas, Chart, Cost, Fact, Step, states
from models.trace.subject import from_example

YOURS = "your photo, view 2"


@dataclass(frozen=True, eq=False)
class TwoViews:
    """seen [2]: the patches that each view shows. shown [2]: both, complete. exam: of view u. q, y [2, D]: of both
    views; elsewhere: y [1, D] of other photos, by name."""

    view: Photo
    seen: tuple[np.ndarray, ...]
    shown: tuple[np.ndarray, ...]
    exam: loop.Exam
    q: Tensor
    y: Tensor
    elsewhere: dict[str, Tensor]

    def agreement(self) -> dict[str, float]:
        """Cosine of q_u with y_v, and with y of the other photos."""
        found = {YOURS: self.y[1:], **self.elsewhere}
        return {name: float(torch.cosine_similarity(self.q[:1], y)) for name, y in found.items()}


@torch.inference_mode()
def two_views(job: Job) -> TwoViews:
    """Both views through the student's way, both complete ones through the teacher's, and only u decoded."""
    model, view = job.model, photo(job.subject.image, job.model)
    v = second_view(view.pixels.float().cpu(), job.generator(1), job.params.strength).to(view.pixels)
    n_mask = masked_count(view.count, job.params.mask_ratio)
    orders = net.two_orders(torch.rand(1, view.count, generator=job.generator()), view.count - n_mask)
    began = time.perf_counter()
    z_u, ids_restore, mask = encode(model, view.pixels, orders[0], n_mask)
    patches, q_u = model.decoder(z_u, ids_restore).logits, net.guess(model, z_u)
    ms = 1000 * (time.perf_counter() - began)
    hidden, rows_macs = np.flatnonzero(array(mask[0])), loop.work(model, view.count - n_mask, view.count)
    cost = Cost(1, rows_macs[0], rows_macs[1] + heads(model, 2), 0, ms)
    exam = loop.graded(model, view, loop.Hidden(hidden, ("masked-random",) * n_mask), patches, mask, cost)
    q = torch.cat([q_u, net.guess(model, encode(model, v, orders[1], n_mask)[0])])
    others = {one.title: photo(from_example(one, "photo").image, model).pixels for one in EXAMPLES
              if one.id != job.subject.name}
    return TwoViews(view, tuple(np.flatnonzero(array(one[0]) < view.count - n_mask) for one in orders),
                    (view.shown.copy(), picture(model, model.patchify(v))), exam, q,
                    torch.cat([net.told(model, one) for one in (view.pixels, v)]),
                    {name: net.told(model, one) for name, one in others.items()})


def heads(model, count: int) -> int:
    """Multiply-adds of so many of projector and predictor; an MAE has neither."""
    return 2 * count * net.HIDDEN * model.config.hidden_size if net.guesses(model) else 0


def whole(model, count: int) -> Cost:
    """Of a complete view: the encoder and the projector."""
    cost = loop.encoding(model, count, count)
    return replace(cost, macs=cost.macs + heads(model, 1))


def compared(job: Job, made: TwoViews) -> Iterator[Event]:
    """Mask, four boards: above what the network sees of both views, below both complete; then view 1 rebuilt there."""
    view, exam, (u, v) = made.view, made.exam, made.shown
    shown, hidden, new = states("visible", "masked-random", "new")
    sparse = [np.where(np.isin(np.arange(view.count), ids), shown, hidden) for ids in made.seen]
    whole_view, rebuilt = np.full(view.count, shown), np.where(sparse[0] == hidden, new, shown)
    pasted = picture(job.model, torch.where(exam.mask[..., None] > 0, exam.patches, view.target))
    nothing = np.full(view.count, np.nan, np.float32)
    fields = {"loss": np.concatenate([nothing, nothing, exam.on_hidden("loss"), nothing])}
    own, count = made.agreement()[YOURS], len(made.seen[0])
    steps = (("two views of one photo", u, whole_view, {}, whole(job.model, view.count),
              f"Above: what the network sees of view 1 (left) and 2, {count} of {view.count} patches, no place in "
              "both. Below: both, complete; view 2 is moved a pixel, perhaps mirrored, in other colours."),
             ("view 1 rebuilt", pasted, rebuilt, {}, exam.cost,
              f"Its {count} patches also say what view 2 is: cosine {own:.2f} with what the complete one gives."),
             ("how wrong each patch is", pasted, rebuilt, fields, Cost(), "Only view 1 is rebuilt."))
    canvas = Canvas("pyramid", ("",) * 4 * view.count, picture=sheet((u, v, u, v), 2, len(u) // view.grid[0]),
                    positions=board_places(view.grid, 4, 2))
    yield Open("mask", canvas, {"loss": loop.FIELDS["loss"]}, len(steps))
    for label, below, state, fields, cost, note in steps:
        yield Emit("mask", Step(label, np.concatenate([*sparse, state, whole_view]).astype(np.uint8), fields=fields,
                                picture=sheet((u, v, below, v), 2, len(u) // view.grid[0]), cost=cost, note=note))
    yield Close("mask", *told(job, made))


def told(job: Job, made: TwoViews) -> tuple[str, tuple[Chart, ...], dict[str, Fact]]:
    """Sentence, charts and facts of both views."""
    found, exam = made.agreement(), made.exam
    own, other = found[YOURS], float(np.mean([one for name, one in found.items() if name != YOURS]))
    best, asked = max(found, key=found.get), net.guesses(job.model)
    whose = "the guess" if asked else "the mean token (this MAE was never asked to guess)"
    sentence = (f"From {len(made.seen[0])} patches of view 1 {whose} has cosine {own:.2f} with the complete view 2, "
                f"and {other:.2f} with other photos on average; nearest is {best}. Hidden patches of view 1 are "
                f"rebuilt with an error of {loop.errs(exam.mean())} (inpainting "
                f"{loop.errs(exam.mean('loss_inpaint'))}).")
    chart = bars("Which whole photo the guess from view 1 fits", "whole photo", "cosine", {"fit": list(found.values())},
                 tuple(found), reference=own, caption="1: the same direction. Dashed: your photo.")
    title = "Agreement of two views, cos(q_u, y_v)" if asked else "Cosine of the mean tokens of both views"
    facts = {"own": Fact(title, own, "cosine", "higher"), "other": Fact("The same with other photos", other, "cosine"),
             "error": Fact("Loss of the rebuilt patches, L_mae", exam.mean(), loop.UNIT, "lower")}
    if asked:
        loss = float(net.away(made.q, made.y.flip(0)))
        facts["context"] = Fact("Loss of the broader context, L_bc", loss, "of 0 to 4", "lower")
    return sentence, (chart, loop.fills_chart(exam)), facts
