"""The record of a Prune run on a picture with a question: what decided, who entered, who left before which layer."""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.text import names
from models.engine.method import Close, Emit, Event, Job, Open
from models.loops.prune.forward import LayerSheet, Pass, Pruner
from models.loops.prune.pictures import (
    PicturePlan,
    Rule,
    View,
    answer_logits,
    chosen,
    everything,
    last_state,
    prefill,
    view,
)
from models.trace import CODE, YES, Canvas, Chart, Cost, Edges, Fact, Field, Step, states

FIELDS = {"attention": Field("Attention of the last word", "% of its attention", 0.0),
          "weight": Field("Share in its recycled token", "of 1", 0.0, 1.0)}
ROUNDS = 3  # in which the answer is timed in turn with the full model's
SHOWN = 5  # answers compared


@dataclass(frozen=True, eq=False)
class Answer:
    """A finished prefill: the machine, its pass, the state that is read [D] and the answer's probabilities [V]."""

    pruner: Pruner
    now: Pass
    state: Tensor
    chances: Tensor

    @property
    def best(self) -> int:
        return int(self.chances.argmax())


def look(job: Job, make: Rule, fields: dict[str, Field] | None = None, charts: Sequence[Chart] = ()) -> Iterator[Event]:
    """The events of a record. make(view) -> the plan; fields explain the plan's maps; charts: the method's own."""
    began = time.perf_counter()
    seen = view(job)
    plan = chosen(make(seen), seen, job)
    ms = (time.perf_counter() - began) * 1e3
    canvas = Canvas("grid", ("",) * seen.count, seen.grid, seen.picture, roles=("patch",) * seen.count)
    yield Open("prune", canvas, {**(fields or {}), **FIELDS}, 2 + len(plan.maps) + len(plan.cuts))
    yield from before(job, seen, plan, ms)
    mine = answered(job.model, plan, seen.ids, watch=True)
    for stage in stages(mine.now.sheets):
        yield Emit("prune", stage_step(job, seen, plan, mine, stage))
    yield close(job, make, seen, plan, mine, charts)


def answered(model, plan: PicturePlan, ids: list[int], watch: bool = False) -> Answer:
    pruner, now = prefill(model, plan, ids, watch)
    state = last_state(model, now)
    return Answer(pruner, now, state, answer_logits(model, state).softmax(-1).cpu())


def before(job: Job, seen: View, plan: PicturePlan, ms: float) -> Iterator[Emit]:
    """The picture, every map that decided, and who enters the language model."""
    shown = states(*["visible"] * seen.count)
    cost = Cost(1, seen.count * len(job.model.encoder.layers), encoder_macs(job.model), 0, ms)
    yield Emit("prune", Step("the picture", shown, cost=cost, note=f"{seen.question.text} ({seen.count} patches)"))
    marked = shown.copy()
    marked[plan.marked] = CODE["new"]
    for name, values in plan.maps.items():
        note = plan.note if name == [*plan.maps][-1] else ""
        yield Emit("prune", Step(name, marked, fields={name: np.asarray(values, np.float32)}, note=note))
    yield Emit("prune", entry(plan, seen.count))


def entry(plan: PicturePlan, count: int) -> Step:
    """Who enters, and what is folded into whom."""
    weight = np.full(count, np.nan, np.float32)
    query, key, share = [], [], []
    for group in plan.groups:
        weight[list(group.members)] = group.weights
        query += [group.target] * len(group.members)
        key, share = [*key, *group.members], [*share, *group.weights]
    folded = sum(len(group.members) for group in plan.groups)
    note = f"{len(plan.kept)} of {count} patches"
    if not plan.groups:
        return Step("what enters", patch_states(plan, plan.kept.numpy(), count), note=note)
    return Step("what enters", patch_states(plan, plan.kept.numpy(), count), fields={"weight": weight},
                edges={"recycling": Edges(np.array(query), np.array(key), np.array(share, np.float32))},
                note=f"{note}, {len(plan.groups)} of them folded from {folded}")


def patch_states(plan: PicturePlan, alive: np.ndarray, count: int) -> np.ndarray:
    """State codes [L]: alive, alive and recycled, or dropped."""
    codes = np.full(count, CODE["dropped"], np.uint8)
    codes[alive] = CODE["known"]
    targets = np.array([group.target for group in plan.groups], int)
    codes[np.intersect1d(targets, alive)] = CODE["recycled"]
    return codes


def stages(sheets: Sequence[LayerSheet]) -> list[list[LayerSheet]]:
    """Layers with the same tokens, in runs."""
    runs: list[list[LayerSheet]] = []
    for sheet in sheets:
        if runs and len(runs[-1][-1].alive) == len(sheet.alive):
            runs[-1].append(sheet)
        else:
            runs.append([sheet])
    return runs


def stage_step(job: Job, seen: View, plan: PicturePlan, mine: Answer, stage: Sequence[LayerSheet]) -> Step:
    """A run of layers: who is alive, what the question's last word looks at in the last of them, and the cost."""
    count, last, layers = seen.count, stage[-1], len(mine.now.sheets)
    places = last.alive.numpy() - seen.first
    inside = (places >= 0) & (places < count)
    alive, looked = places[inside], np.full(count, np.nan, np.float32)
    looked[alive] = 100 * last.attention.float().mean(0).cpu().numpy()[inside]
    _, heads, _, width = mine.pruner.store.keys[0].shape
    size = 2 * heads * width * mine.pruner.store.keys[0].element_size()  # bytes of one token's keys and values
    stored = sum(len(sheet.alive) for sheet in mine.now.sheets[: last.layer + 1]) * size
    macs = sum(sheet.macs for sheet in stage) + (job.model.lm.lm_head.weight.numel() if last.layer == layers - 1 else 0)
    cost = Cost(int(last.layer == layers - 1), sum(len(sheet.rows) for sheet in stage), macs, stored,
                mine.now.ms * len(stage) / layers)
    name = f"layer {last.layer + 1}" if len(stage) == 1 else f"layers {stage[0].layer + 1} to {last.layer + 1}"
    return Step(name, patch_states(plan, alive, count), "layer", fields={"attention": looked}, cost=cost,
                note=f"{len(alive)} of {count} patches and {len(last.alive) - len(alive)} words")


def close(job: Job, make: Rule, seen: View, plan: PicturePlan, mine: Answer, charts: Sequence[Chart]) -> Close:
    """Charts, facts and the sentence, beside the full model on the same question."""
    full = answered(job.model, everything(seen), seen.ids)
    said, whole = (word.strip() for word in names(job.tokenizer, (mine.best, full.best)))
    shown = (layer_chart(seen, plan), answer_chart(mine, full, job.tokenizer), *charts)
    return Close("prune", sentence(seen, plan, said, whole), shown, facts(job, make, seen, plan, mine, full, said),
                 path=f"{mine.pruner.aux.device.type}-sdpa-rows")


def sentence(seen: View, plan: PicturePlan, said: str, whole: str) -> str:
    """What was answered; whether it is right where somebody knows, else only how the answer begins."""
    asked, known = seen.question.text, seen.question.answer
    verb = "says" if known else "begins its answer with"
    said, whole = (said, whole) if known else (f"'{said}'", f"'{whole}'")
    verdict = f", which is {'right' if said == known else 'wrong'}" if known else ""
    mean = plan.share(seen.layers, seen.count) * seen.count
    return (f'Asked "{asked}" it {verb} {said}{verdict}; with all patches it {verb} {whole}. On average {mean:.1f} of '
            f"{seen.count} patches are in a layer.{' ' * bool(plan.remark)}{plan.remark}")


def facts(job: Job, make: Rule, seen: View, plan: PicturePlan, mine: Answer, full: Answer, said: str) -> dict[str,
                                                                                                              Fact]:
    cosine = float(torch.cosine_similarity(mine.state, full.state, dim=0))
    right = {"answer": Fact("Answer correct", float(said == seen.question.answer), YES, "higher")}
    return (right if seen.question.answer else {}) | {
        "budget": Fact("Patches kept, recycled included", 100 * plan.share(seen.layers, seen.count),
                       "% of patches x layers", "lower"),
        "memory": Fact("Keys and values", 100 * mine.pruner.store.bytes / full.pruner.store.bytes,
                       "% of the full model's", "lower"),
        "work": Fact("Multiply-adds, language model", 100 * mine.pruner.store.macs / full.pruner.store.macs,
                     "% of the full model's", "lower"),
        "cosine": Fact("Cosine with the full model's state", cosine, "of 1", "higher"),
        "agreement": Fact("Chance of the full model's answer", 100 * float(mine.chances[full.best]), "%",
                          "higher")}


def layer_chart(seen: View, plan: PicturePlan) -> Chart:
    counts = np.array(plan.counts(seen.layers), np.float32)
    return Chart("bar", "Patches in each layer", "layer", "patches",
                 {"this run": counts, "all patches": np.full(seen.layers, seen.count, np.float32)},
                 tuple(str(layer + 1) for layer in range(seen.layers)),
                 caption="Their mean is the budget; keys and values are stored for these only.")


def answer_chart(mine: Answer, full: Answer, tokenizer) -> Chart:
    """The likeliest words of both."""
    shown = torch.unique(torch.cat([run.chances.topk(SHOWN).indices for run in (mine, full)]))
    shown = shown[full.chances[shown].argsort(descending=True)][: SHOWN + 2].tolist()
    return Chart("bar", "The answer", "word", "probability",
                 {"this run": mine.chances[shown].numpy(), "all patches": full.chances[shown].numpy()},
                 tuple(name.strip() for name in names(tokenizer, shown)))


def encoder_macs(model) -> int:
    """Multiply-adds of the encoder: matrices for every patch, and every pair twice in each layer."""
    linear = sum(m.weight.numel() for m in model.encoder.layers.modules() if isinstance(m, nn.Linear))
    width = model.encoder.config.hidden_size
    patches = model.embed_patches.weight.numel()
    return model.count * (linear + patches) + 2 * model.count**2 * width * len(model.encoder.layers)
