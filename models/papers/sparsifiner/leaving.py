"""Sparsifiner in the Prune tab: pairs that are not computed and patches that leave, in one pass, layer by layer.

Patches leave by the class token's attention, mean over heads, behind a quarter, half and three quarters of the layers.
Letters: L layers, P patches.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from models.engine.method import Close, Emit, Event, Open
from models.loops.attend.classifiers import ClassifierArm, layout_of
from models.papers.sparsifiner.record import AttentionWork, SparsePass, costs_of, mass_chart
from models.trace import Chart, Cost, Fact, Field, Step
from models.trace import states as codes
from models.trace.percent import percent

FIELDS = {"cls": Field("Class token's attention: the least looked at leave", "% of its attention", 0.0)}


def record(arm: ClassifierArm, shown: np.ndarray, sight: SparsePass, spent: Sequence[AttentionWork], matrices: int,
           dense: np.ndarray, extra: Sequence[Chart] = ()) -> Iterator[Event]:
    """The events of the Prune record. matrices: weights of a layer's projections and MLP; dense [C]: the answer of the
    same weights with all pairs and patches; extra: further charts."""
    there = sight.alive[:, arm.places]  # [L, P]
    costs = costs_of(sight, spent, matrices)
    yield Open("prune", layout_of(arm, shown).canvas, FIELDS, 1 + len(there))
    yield Emit("prune", Step("the picture", codes(*["known"] * there.shape[1]),
                             note=f"{there.shape[1]} patches and the class token"))
    for layer, cost in enumerate(costs):
        yield Emit("prune", layer_step(arm, sight, layer, cost))
    used = sum(one.macs for one in costs) / (len(spent) * (matrices * sight.alive.shape[1] + spent[0].dense))
    charts = mass_chart(sight, range(len(spent)), 1), layers_chart(spent), *extra
    yield Close("prune", say(arm, sight, there, used, dense), charts, facts(sight, there, used, spent, dense))


def layer_step(arm: ClassifierArm, sight: SparsePass, layer: int, cost: Cost) -> Step:
    """Who is in a layer, and how much of the class token's attention each patch gets there."""
    here = sight.alive[layer, arm.places]
    looked = np.where(here, 100 * sight.acted[layer, :, arm.cls][:, arm.places].mean(0), np.nan)
    kept = int(sight.kept[layer, 0, arm.places[here][0]].sum())
    return Step(f"layer {layer + 1}", np.where(here, *codes("known", "dropped")).astype(np.uint8), "layer",
                fields={"cls": looked.astype(np.float32)}, cost=cost,
                note=f"{here.sum()} patches, each looks at {kept} of {int(sight.alive[layer].sum())} keys")


def facts(sight: SparsePass, there: np.ndarray, used: float, spent: Sequence[AttentionWork],
          dense: np.ndarray) -> dict[str, Fact]:
    between = sum(one.predictor + one.kept for one in spent) / (len(spent) * spent[0].dense)
    return {"work": Fact("Multiply-adds of all layers", 100 * used, "% of dense", "lower"),
            "attention": Fact("Of attention alone, predictor included", 100 * between, "% of dense", "lower"),
            "budget": Fact("Patches in a layer", 100 * float(there.mean()), "% of all, mean", "lower"),
            "agreement": Fact("Probability of the dense answer", 100 * float(sight.answers[-1][dense.argmax()]), "%",
                              "higher"),
            "dense": Fact("The same, computed densely", 100 * float(dense.max()), "%")}


def say(arm: ClassifierArm, sight: SparsePass, there: np.ndarray, used: float, dense: np.ndarray) -> str:
    kind, whole = int(sight.answers[-1].argmax()), int(dense.argmax())
    agrees = "as it does densely" if kind == whole else f"densely {arm.labels[whole]}"
    return (f"{there[-1].sum()} of {there.shape[1]} patches reach the last layer; with the pairs that are left out, "
            f"{percent(used)} of the multiply-adds of all layers remain, and it says {arm.labels[kind]} ({agrees}).")


def layers_chart(spent: Sequence[AttentionWork]) -> Chart:
    """Thousands of multiply-adds of attention by layer."""
    parts = {"all pairs, all patches": [spent[0].dense] * len(spent), "predictor": [one.predictor for one in spent],
             "kept pairs": [one.kept for one in spent]}
    return Chart("bar", "Attention's multiply-adds by layer", "layer", "thousand",
                 {name: np.array(values) / 1000 for name, values in parts.items()},
                 tuple(str(n + 1) for n in range(len(spent))), caption="Scores and mixing, all heads.")
