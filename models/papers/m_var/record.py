"""What a run of M-VAR shows besides the pyramid: what VAR's attention costs and gives between maps; what is carried.

Letters: K scales, L tokens, V entries. Pairs are those of query and key in one layer.
"""
from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.engine.events import Event
from models.engine.recording import array, line, table
from models.loops.attend.groups import lens, masses
from models.loops.attend.pyramids import layout_of
from models.loops.sample.cached_lm import divergence
from models.loops.unmask.pyramids import MapReader, ScaleLog
from models.trace import Chart, Fact
from models.trace.percent import percent


class MapLog(ScaleLog):
    """The page of a run with what each map costs."""

    def facts(self, *given) -> dict[str, Fact]:
        last, model = len(self.maps) - 1, self.model
        return super().facts(*given) | {
            "pairs": Fact("Pairs that attention compares", float(sum(map(model.pairs, range(last + 1)))),
                          "per layer, all maps", "lower"),
            "kept": Fact("Kept between maps", 4 * model.kept(last - 1) / 1e3, "kB per branch before the last map",
                         "lower")}

    def charts(self) -> tuple[Chart, ...]:
        scales = range(len(self.maps))
        sums, held = np.cumsum(list(map(self.model.pairs, scales))), [4 * self.model.kept(k) / 1e3 for k in scales]
        return (*super().charts()[:1], line("Attention pairs so far", "pairs of a layer", {"pairs": sums}),
                line("Kept for the next map", "kB per branch", {"kept": held},
                     caption="VAR: keys and values. M-VAR: a state and three inputs a layer, however many tokens."))


def attended(model, var, log: MapLog, reader, cond: Tensor) -> Iterator[Event]:
    """The Attend record of the finished pyramid: this network's heads, VAR's attention by maps, what is carried.
    reader(zero): a fresh reader of one branch."""
    ids, names = torch.from_numpy(log.ids.astype(np.int64))[None].to(cond.device), log.maps
    with torch.inference_mode():
        features = log.tokenizer.inputs(log.tokenizer.sums(ids))
        mass = by_map(var, features, cond).mean(0)
        strip = carried(reader, ids, len(names)) if model.layers[0].ssm else None
    made = [between(f"VAR's attention, by map{'' if model.across else ' (the control)'}", mass, names),
            between("VAR's pairs of query and key, by map", pairs(model.scales), names, "share of all pairs")]
    if strip is not None:
        most = strip.max(0)
        made.append(table("What the scan carries into a map", "", "before", strip / [most[0], 1, most[2]], COLUMNS,
                          names[1:], caption=f"Size and effect as shares of the largest ({most[0]:,.0f}, and "
                                             f"{most[2]:.2g} nats per token); left: what is still there after the "
                                             "map. Mean over layers and heads."))
    own, cost = shares(var, mass)
    return lens(
        model, lambda: model(features, cond), layout_of(model, log),
        {name: model.place(k) for k, name in enumerate(names)}, macs=sum(map(model.work, range(len(names)))),
        say=lambda _: told(model, own, cost, strip, names), charts=lambda _: made, facts=lambda _: {
            "mass": Fact("VAR's attention inside maps", 100 * own, "% of what maps give to maps"),
            "cost": Fact("VAR's pairs inside maps", 100 * cost, "% of its pairs"),
            "pairs": Fact("Pairs that attention compares", float(sum(map(model.pairs, range(len(names))))),
                          "per layer, all maps", "lower")})


COLUMNS = ("size", "left", "effect")  # of the state: its norm, what is left of it, what throwing it away does


def told(model, own: float, cost: float, strip, names) -> str:
    """One sentence for the network that is shown."""
    spent = (f"In VAR a map's own tokens get {percent(own)} of the attention between maps, where all tokens in sight "
             f"alike would give them {percent(uniform(model.scales))}, and are {percent(cost)} of the pairs.")
    if model.across:
        return f"{spent} M-VAR keeps these pairs and drops the others."
    if strip is None:
        return f"{spent} This network keeps these pairs and hears of coarser maps only what its input adds up to."
    most = int(strip[:, 2].argmax())
    return (f"{spent} M-VAR keeps only these; the rest is carried. Thrown away before the {names[1 + most]} map, that "
            f"moves its prediction by {strip[most, 2]:.2g} nats a token, the most of all maps.")


def by_map(model, features: Tensor, cond: Tensor) -> np.ndarray:
    """Attention [layers, K, K] that maps give to maps, mean over heads and queries; without what goes to a caption that
    stands before them."""
    places = {str(k): np.arange(model.place(k).start, model.place(k).stop) + model.prefix
              for k in range(len(model.scales))}
    with observe(model, want={"qk"}) as seen:
        model(features, cond)
    found = masses(seen, places)
    return found / found.sum(-1, keepdims=True)


def pairs(scales) -> np.ndarray:
    """The share [K, K] of all block-causal pairs that lies between two maps."""
    sizes = np.array(scales, float) ** 2
    found = np.tril(sizes[:, None] * sizes)
    return found / found.sum()


def shares(model, mass: np.ndarray) -> tuple[float, float]:
    """Of attention [K, K]: the share that stays inside maps, mean over queries, and that of the pairs."""
    sizes = np.array(model.scales, float) ** 2
    return float((mass.diagonal() * sizes).sum() / sizes.sum()), float(pairs(model.scales).trace())


def uniform(scales) -> float:
    """The share that stays inside maps where every query looks at all it may see alike, mean over queries."""
    sizes = np.array(scales, float) ** 2
    return float((sizes**2 / sizes.cumsum()).sum() / sizes.sum())


def between(title: str, values: np.ndarray, names, unit: str = "share of attention") -> Chart:
    return table(title, "to", "from map", values, names, names, unit=unit)


@torch.inference_mode()
def carried(reader, ids: Tensor, count: int) -> np.ndarray:
    """[K - 1, 3] before every map but the first: norm of the state (mean over layers and heads), how much of it is left
    after the map, and the KL divergence of the map's distributions from those after a state of zeros."""
    whole, rows = reader(0), []
    plain, states = [], []
    for scale in range(count):
        plain.append(read_on(whole, scale, ids))
        states.append(list(whole.carried))
    for scale in range(1, count):
        other = reader(scale)
        bare = [read_on(other, at, ids) for at in range(scale + 1)][-1]
        kl = divergence(plain[scale], bare).mean()
        rows.append([torch.stack([one.state.norm(dim=(2, 3)).mean() for one in states[scale - 1]]).mean(),
                     torch.stack([one.kept.mean() for one in states[scale]]).mean(), kl])
    return array(torch.tensor(rows))


def read_on(reader: MapReader, scale: int, ids: Tensor) -> Tensor:
    """Logits of a scale after given tokens [B, L] of all coarser ones."""
    return reader.read(scale, ids[:, : reader.groups[scale].start] if scale else None)
