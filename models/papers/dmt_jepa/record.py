"""What the pair leaves to see. Mask: four blocks, predicted from the context. Attend: what a target is made of."""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

import kernels
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, numbered, spread, table
from models.engine.statistics import effective_rank
from models.loops.attend import features
from models.loops.attend.loop import TokenLayout, grid_layout, marked
from models.loops.mask.multiblock import KEPT, Multiblock, multiblock
from models.loops.mask.photos import photo
from models.papers.dmt_jepa import neighbours as near
from models.trace import Chart, Cost, Fact, Field, Rows, Step, states
from models.worlds import scenes

UNIT, TARGETS, OWN, TRAINED = "smooth-L1", "targets", "latents of the patches themselves", "targets as trained"
FIELDS = {"like": features.LIKE, "cosine": Field("Cosine with the marked patch", "cosine", -1.0, 1.0, diverging=True),
          "weight": Field("Attention of the marked patch's query, mean over heads", "of 1", 0.0, 1.0),
          "own": Field("Attention that stays with the query, mean over heads", "of 1", 0.0, 1.0)}
LOSS = {"loss": Field("Error of the predicted target", UNIT, 0.0),
        "blocks": Field("Target blocks that hold the patch", "blocks", 0.0, 4.0)}
COMPASS = {(-1, -1): "above left", (-1, 0): "above", (-1, 1): "above right", (0, -1): "left", (0, 1): "right",
           (1, -1): "below left", (1, 0): "below", (1, 1): "below right"}


@dataclass(frozen=True, eq=False)
class JepaView:
    """Of one picture. tokens [N, D]: features, targets, and targets as they were trained; around [N, 8]: cosines with
    the neighbours; chosen bool [N, N]; heard [blocks, H, N, 2 N]: the head's attention to every patch's own query, then
    to patches; errors [2, 4, T]: of the predictor and of the context's mean target; things [N]."""

    layout: TokenLayout
    tokens: dict[str, np.ndarray]
    around: np.ndarray
    chosen: np.ndarray
    heard: np.ndarray
    masks: Multiblock
    errors: np.ndarray
    things: np.ndarray
    cost: Cost

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Whose likeness is shown: I-JEPA's targets are its features."""
        return {name: self.tokens[name] for name in (TARGETS, OWN)[: 1 + (len(self.heard) > 0)]}


@torch.inference_mode()
def seen(job: Job) -> JepaView:
    """All that the two records show. Predictions are held against the targets of training, whatever number of
    neighbours is looked at."""
    model, keep, heard, began = job.model, job.params.keep, [], time.perf_counter()
    shot = photo(job.subject.image, model)
    masks, where = multiblock(1, np.random.default_rng(job.seed), shot.grid[0]), scenes.numbered(shot.shown)
    h = model.features(shot.pixels)
    context, blocks = (part.to(h.device) for part in masks)
    t, trained = model.made_of(h, keep, seen=heard), model.made_of(h)
    truth = near.picked(trained, blocks)
    flat = near.picked(trained, context).mean(1)[:, None, None].expand_as(truth)
    errors = [array(near.errors(one, truth))[0] for one in (model(shot.pixels, context, blocks), flat)]
    rows = [array(kernels.attention_rows(q, k, range(shot.count), mask=may))[0] for q, k, may in heard]
    return JepaView(grid_layout(shot.grid, features.outlined(shot.shown, where) if where.any() else shot.shown),
                    {name: array(one)[0] for name, one in ((TARGETS, t), (OWN, h), (TRAINED, trained))},
                    array(near.likeness_around(h))[0], array(near.likest(h, keep), bool)[0], np.array(rows), masks,
                    np.stack(errors), scenes.numbered_patches(where),
                    Cost(3, ms=1000 * (time.perf_counter() - began)))


def predicted(job: Job, view: JepaView) -> Iterator[Event]:
    """Mask: the context, each target block with its errors, and all of them."""
    count, blocks = view.layout.canvas.size, view.masks.blocks[0].numpy()
    state = states(*["masked-random"] * count)
    state[blocks.ravel()], state[view.masks.context[0].numpy()] = states("masked", "visible")
    (errors, flat), targets = view.errors, view.tokens[TRAINED]
    held, total = np.bincount(blocks.ravel(), minlength=count), np.bincount(blocks.ravel(), errors.ravel(), count)
    known = {"blocks": held.astype(np.float32)}
    yield Open("mask", view.layout.canvas, LOSS, 2 + len(blocks))
    yield Emit("mask", Step("context and target blocks", state, fields=known, cost=view.cost,
                            note="Only visible patches are read; those hidden at random are in no block."))
    for number, (block, error) in enumerate(zip(blocks, errors), 1):
        yield Emit("mask", Step(f"target block {number}", state, fields={"loss": spread(count, block, error)},
                                note=f"Mean error {error.mean():.3f}; of the context's mean target "
                                     f"{flat[number - 1].mean():.3f}."))
    with np.errstate(invalid="ignore"):
        mean = total / held
    yield Emit("mask", Step("how wrong each target patch is", state, fields={"loss": mean, **known},
                            note="Mean over the blocks that hold the patch."))
    facts = {"error": Fact("Error of the predicted targets", float(errors.mean()), UNIT),
             "flat": Fact("Error of the context's mean target", float(flat.mean()), UNIT),
             "rank": Fact("Effective rank of this picture's targets", float(effective_rank(targets[None])[0]),
                          "of 63 dimensions"),
             "spread": Fact("Standard deviation of targets from patch to patch", float(targets.std(0).mean()),
                            "mean over dimensions")}
    chart = bars("Mean error of each target block", "target block", f"error ({UNIT})",
                 {"predictor": errors.mean(1), "mean target of the context": flat.mean(1)},
                 numbered("block", len(blocks)), caption="Lower is better; the second needs no predictor.")
    yield Close("mask", f"From {KEPT} patches the targets of four blocks are predicted with an error of "
                        f"{errors.mean():.3f}; the context's mean target errs by {flat.mean():.3f}. A low error alone "
                        "shows nothing: see the targets' rank and spread.", (chart,), facts)


def made_of(job: Job, view: JepaView) -> Iterator[Event]:
    """Attend: the window, the head's attention, and who is alike by targets and by latents."""
    query, count, n = job.params.query, view.layout.canvas.size, len(view.heard)
    around = near.windows(view.layout.canvas.shape[0]).numpy()
    here = around[query] >= 0
    ids, best = around[query][here], view.chosen[query]
    state = marked(count, query)
    if n:
        state[ids] = np.where(best[ids], *states("accepted", "refused"))
    alike = {name: features.likeness(tokens) for name, tokens in view.maps.items()}
    window = np.zeros((count, count), np.float32)
    np.put_along_axis(window, np.where(around < 0, np.arange(count)[:, None], around),
                      np.where(around < 0, 0, view.around).clip(0, 1), 1)
    heads = view.heard.shape[1] if n else 1
    rows = np.stack([np.repeat(one[None], heads, 0) if one.ndim == 2 else one for one in
                     (window, *view.heard[..., count:], *(one.clip(0, 1) for one in alike.values()))])
    packed = Rows.pack(np.arange(count), rows, "Likeness; in the head, attention", "of 1")
    yield Open("attend", view.layout.canvas, FIELDS, len(rows), rows=packed)
    yield Emit("attend", Step("the window of neighbours", state, "layer", note=chose(view, query, job.params.keep, n),
                              fields={"cosine": spread(count, ids, view.around[query][here])}))
    for block, one in enumerate(view.heard):
        own, weight = one[..., :count].sum(-1).mean(0), one[:, query, count:].mean(0)  # [N] each
        yield Emit("attend", Step(f"head, block {block + 1}", state, "layer",
                                  fields={"weight": np.where(best, weight, np.nan), "own": own},
                                  note=f"{own[query]:.2f} of the attention stays with the query, "
                                       f"{1 - own[query]:.2f} goes to the neighbours."))
    for name, tokens in view.maps.items():
        unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
        yield Emit("attend", Step(f"{name}: who is alike", marked(count, query), "layer",
                                  fields={"like": alike[name][query], "cosine": unit[query] @ unit.T},
                                  note="Likeness is that of what is left without the mean of all patches."))
    apart = {name: features.told_apart(tokens[None], view.things[None])[0] for name, tokens in view.maps.items()}
    facts = {f"apart {name}": Fact(f"Cosine within a thing minus between things, {name}", float(one), "cosine",
                                   "higher") for name, one in apart.items() if np.isfinite(one)}
    said = "Which patches are like the marked one? In a drawn scene true outlines are there to compare."
    if facts:
        said = "Cosine of two patches of one thing minus that of two things: " + ", ".join(
            f"{name} {one:.2f}" for name, one in apart.items()) + "."
    yield Close("attend", said, charts(view, query), facts | features.rank_facts(view.maps), rows=packed)


def chose(view: JepaView, query: int, keep: int, blocks: int) -> str:
    if not blocks:
        return "I-JEPA takes the marked patch's own latent; no neighbour is chosen."
    return f"{view.chosen[query].sum()} of {(view.around[query] > -2).sum()} neighbours are chosen" + (
        ", as in training." if keep == near.NEIGHBOURS else "; the network was trained with 4.")


def charts(view: JepaView, query: int) -> tuple[Chart, ...]:
    """The head's weights on the query's own vector and its chosen neighbours."""
    if not len(view.heard):
        return ()
    count, side = view.layout.canvas.size, view.layout.canvas.shape[1]
    ids = np.flatnonzero(view.chosen[query])
    names = [COMPASS[divmod(one, side)[0] - query // side, one % side - query % side] for one in ids]
    weights = np.concatenate([view.heard[:, :, query, [query]], view.heard[:, :, query, count + ids]], -1)
    rows = [f"block {block}, head {head}" for block in range(1, 1 + len(weights))
            for head in range(1, 1 + weights.shape[1])]
    return (table("What the marked patch's target is made of", "", "block and head", weights.reshape(len(rows), -1),
                  ["query", *names], rows, unit="attention", caption="The query begins as the mean of the whole "
                  "picture; the patch itself is not among the values."),)
