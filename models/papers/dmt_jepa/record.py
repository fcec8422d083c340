"""What the pair leaves to see. Mask: four blocks, predicted from the context. Attend: what a target is made of."""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import kernels
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, numbered, spread, table
from models.engine.statistics import effective_rank
from models.loops.attend import features
from models.loops.attend.loop import TokenLayout, grid_layout, marked
from models.loops.mask.loop import block_macs
from models.loops.mask.multiblock import Multiblock, multiblock
from models.loops.mask.photos import photo
from models.papers.dmt_jepa import network as net
from models.trace import Chart, Cost, Fact, Field, Rows, Step, states
from models.worlds import scenes

UNIT, OWN, RAW = "smooth-L1", "latents of the patches themselves", "targets"
FIELDS = {"like": features.LIKE, "cosine": Field("Cosine with the marked patch", "cosine", -1.0, 1.0, diverging=True),
          "weight": Field("Attention of the marked patch's query, mean over heads", "of 1", 0.0, 1.0),
          "own": Field("Attention that stays with the query, mean over heads", "of 1", 0.0, 1.0)}
LOSS = {"loss": Field("Error of the predicted target", UNIT, 0.0),
        "blocks": Field("Target blocks that hold the patch", "blocks", 0.0, 4.0)}
COMPASS = {(-1, -1): "above left", (-1, 0): "above", (-1, 1): "above right", (0, -1): "left", (0, 1): "right",
           (1, -1): "below left", (1, 0): "below", (1, 1): "below right"}


@dataclass(frozen=True, eq=False)
class JepaView:
    """Of one picture: h and t, the features and the targets of all patches [1, N, D]; around [N, 8], cosines with the
    neighbours, and chosen bool [N, N]; heard [blocks, H, N, 2 N], the head's attention to every patch's own query, then
    to patches; things [N]."""

    layout: TokenLayout
    h: Tensor
    t: Tensor
    around: np.ndarray
    chosen: np.ndarray
    heard: np.ndarray
    masks: Multiblock
    error: np.ndarray
    flat: np.ndarray
    things: np.ndarray
    cost: Cost


@torch.inference_mode()
def seen(job: Job) -> JepaView:
    """Everything that is computed for the two records. Predictions are asked for the targets of training, whatever
    number of neighbours is looked at."""
    model, began, heard = job.model, time.perf_counter(), []
    shot = photo(job.subject.image, model)
    masks, where = multiblock(1, np.random.default_rng(job.seed), shot.grid[0]), scenes.numbered(shot.shown)
    h = model.features(shot.pixels)
    t = model.made_of(h, job.params.keep, seen=heard)
    context, blocks = (part.to(h.device) for part in masks)
    guess, truth = model(shot.pixels, context, blocks), net.picked(model.made_of(h), blocks)
    flat = net.errors(net.picked(model.made_of(h), context).mean(1)[:, None, None].expand_as(truth), truth)
    rows = [array(kernels.attention_rows(q, k, range(shot.count), mask=may))[0] for q, k, may in heard]
    shown = features.outlined(shot.shown, where) if where.any() else shot.shown
    cost = Cost(3, *work(model, shot.count, blocks.shape[2]), 0, 1000 * (time.perf_counter() - began))
    return JepaView(grid_layout(shot.grid, shown), h, t, array(net.likeness_around(h))[0],
                    array(net.likest(h, job.params.keep), bool)[0], np.array(rows), masks,
                    array(net.errors(guess, truth))[0], array(flat)[0], scenes.numbered_patches(where), cost)


def work(model, count: int, block: int) -> tuple[int, int]:
    """Token rows and multiply-adds of target encoder, context encoder and predictor; the head's are not counted."""
    c, kept = model.config, 24
    wide = sum(block_macs(n, c.hidden_size, c.intermediate_size) for n in (count, kept)) * c.num_hidden_layers
    thin = 4 * block_macs(kept + block, c.decoder_hidden_size, c.decoder_intermediate_size)
    rows = (count + kept) * c.num_hidden_layers + 4 * (kept + block) * c.decoder_num_hidden_layers
    return rows, wide + thin * c.decoder_num_hidden_layers


def predicted(job: Job, view: JepaView) -> Iterator[Event]:
    """Mask: the context, each target block with its errors, and all of them."""
    count, blocks = view.layout.canvas.size, view.masks.blocks[0].numpy()
    state = states(*["unknown"] * count)
    state[blocks.ravel()], state[view.masks.context[0].numpy()] = states("masked", "visible")
    held, total = np.bincount(blocks.ravel(), minlength=count), np.bincount(blocks.ravel(), view.error.ravel(), count)
    known = {"blocks": held.astype(np.float32)}
    yield Open("mask", view.layout.canvas, LOSS, 2 + len(blocks))
    yield Emit("mask", Step("context and target blocks", state, fields=known, cost=view.cost,
                            note="Only the visible patches are read. Hidden ones in no block are not asked for."))
    for number, (block, error) in enumerate(zip(blocks, view.error), 1):
        now = state.copy()
        now[block] = states("new")[0]
        yield Emit("mask", Step(f"target block {number}", now, fields={"loss": spread(count, block, error)},
                                note=f"Mean error {error.mean():.3f}; of the context's mean target "
                                     f"{view.flat[number - 1].mean():.3f}."))
    with np.errstate(invalid="ignore"):
        mean = total / held
    yield Emit("mask", Step("how wrong each target patch is", np.where(held, states("new"), state).astype(np.uint8),
                            fields={"loss": mean, **known}, note="Mean over the blocks that hold the patch."))
    error, flat = view.error.mean(), view.flat.mean()
    facts = {"error": Fact("Error of the predicted targets", float(error), UNIT, "lower"),
             "flat": Fact("Error of the context's mean target", float(flat), UNIT), **health(view)}
    chart = bars("Mean error of each target block", "target block", f"error ({UNIT})",
                 {"predictor": view.error.mean(1), "mean target of the context": view.flat.mean(1)},
                 numbered("block", len(blocks)), caption="Lower is better; the second needs no predictor.")
    yield Close("mask", f"From {view.masks.context.shape[1]} patches the targets of four blocks are predicted with an "
                        f"error of {error:.3f}; their mean errs by {flat:.3f}. A low error alone shows nothing: see "
                        "the targets' rank and spread.", (chart,), facts)


def health(view: JepaView) -> dict[str, Fact]:
    """What a collapsed pair would lose: rank and spread of the targets."""
    own = array(view.t)
    return {"rank": Fact("Effective rank of this picture's targets", float(effective_rank(own)[0]), "of 63 dimensions"),
            "spread": Fact("Deviation of targets from patch to patch", float(own[0].std(0).mean()), "of 1")}


def made_of(job: Job, view: JepaView) -> Iterator[Event]:
    """Attend: the window, the head's attention, and who is alike by targets and by latents."""
    query, count, n = job.params.query, view.layout.canvas.size, len(view.heard)
    around = net.windows(view.layout.canvas.shape[0]).numpy()
    here = around[query] >= 0
    ids, best = around[query][here], view.chosen[query]
    state = marked(count, query)
    if n:
        state[ids] = np.where(best[ids], *states("accepted", "refused"))
    maps = {RAW: array(view.t)[0], OWN: array(view.h)[0]} if n else {RAW: array(view.t)[0]}
    alike = {name: features.likeness(tokens) for name, tokens in maps.items()}
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
    for name, tokens in maps.items():
        unit = tokens / np.linalg.norm(tokens, axis=1, keepdims=True)
        yield Emit("attend", Step(f"{name}: who is alike", marked(count, query), "layer",
                                  fields={"like": alike[name][query], "cosine": unit[query] @ unit.T},
                                  note="Likeness is that of what is left without the mean of all patches."))
    yield Close("attend", told(view, maps), charts(view, query, maps),
                {**apart(view, maps), **features.rank_facts(maps)}, rows=packed)


def chose(view: JepaView, query: int, keep: int, blocks: int) -> str:
    if not blocks:
        return "I-JEPA takes the marked patch's own latent; no neighbour is chosen."
    return f"{view.chosen[query].sum()} of {(view.around[query] > -2).sum()} neighbours are chosen" + (
        ", as in training." if keep == net.NEIGHBOURS else "; the network was trained with 4.")


def apart(view: JepaView, maps: dict[str, np.ndarray]) -> dict[str, Fact]:
    """How well patches of different things are told apart, where the picture is a drawn scene of two or more."""
    if view.things.max() < 2:
        return {}
    return {f"apart {name}": Fact(f"Cosine within a thing minus between things, {name}",
                                  float(features.told_apart(tokens[None], view.things[None])[0]),
                                  "cosine", "higher") for name, tokens in maps.items()}


def told(view: JepaView, maps: dict[str, np.ndarray]) -> str:
    said = [f"{name} {fact.value:.2f}" for name, fact in zip(maps, apart(view, maps).values())]
    return ("Patches of one thing are more alike than patches of two things, in cosine, by: " + ", ".join(said) + "."
            if said else "Which patches are like the marked one? In a drawn scene true outlines are there to compare.")


def charts(view: JepaView, query: int, maps: dict[str, np.ndarray]) -> tuple[Chart, ...]:
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
