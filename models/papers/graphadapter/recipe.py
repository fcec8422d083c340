"""Five adapters of equal size beside a frozen tale-ar-2, equal steps on the same pages: graph means (SAGE), graph
attention (GAT), no links (MLP), links rewired at random, and SAGE as in the reference, where a page sees itself."""
from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from models.papers.graphadapter.network import GraphAdapter
from models.papers.graphadapter.rule import mixed, neighbourhood, read, word_weights
from models.worlds import pages
from models.worlds.tales.words import NAMES, WORDS
from models.worlds.world import word_tokenizer
from training import data
from training.export import mean_figure
from training.kinds import Beside
from training.trainer import rng_of

WEBS, HELD = 80, 8  # of forty pages each: to train on (seeds 0 to 79), and to measure (1000 to 1007)


class GraphSage(Beside):
    name, trunk, network = "tale-graph-sage-1", "tale-ar-2", GraphAdapter
    options: dict = {}  # of the network
    rows = 32
    minutes, lr, lr_adam, warmup, decay, look, pack = 4.0, 0.02, 3e-3, 0.05, 0.8, 60.0, 6
    architecture = "GraphAdapter: a graph network over two links and a fusion MLP, beside tale-ar-2 (not included)"
    trained_on = "3,200 linked pages, portraits of people in 80 webs of friends (models/worlds/pages), made by program"
    data_licence = "none: made by program"
    weak_at = "Knows one kind of page, and fits one base only (its revision is in config.json)."
    budget_fraction = "one training on one thread; the reference runs 15 to 50 epochs"

    def prepare(self, folder):
        super().prepare(folder)
        self.tok = word_tokenizer(WORDS, "tale")
        self.known, self.held = (Cache(**data.kept(Path(folder) / f"graphadapter-{name}.npz", partial(
            self.gathered, seeds))) for name, seeds in (("pages", range(WEBS)), ("held", range(1000, 1000 + HELD))))

    def build(self):
        return self.network.beside(self.base, self.trunk, self.revision, **self.options)

    def gathered(self, seeds) -> dict[str, np.ndarray]:
        """What the frozen model says of the pages of some webs, read once."""
        found: dict[str, list] = {"ids": [], "states": [], "says": [], "weight": [], "lm": [], "length": []}
        for seed in seeds:
            for page in read(self.base, self.tok, NAMES, pages.web(int(seed)).texts):
                after = torch.tensor(page.ids[1:])
                lm = self.base.lm_head(page.states).log_softmax(-1).gather(1, after[:, None])[:, 0]
                row = {"ids": after, "states": page.states.half(), "says": page.says[None], "length": [len(after)],
                       "weight": word_weights(page.ids[1:]), "lm": lm.detach()}
                for name, part in row.items():
                    found[name].append(np.asarray(part))
        return {**{name: np.concatenate(parts) for name, parts in found.items()}, "seeds": np.array(list(seeds))}

    def batch(self, step, progress):
        chosen = rng_of(self.seed, step).permutation(len(self.known.length))[: self.rows]
        return self.known.some(chosen, self.options.get("links", "friends"))

    def loss(self, model, batch, progress):
        """Cross-entropy of the mixture, per page, each of whose words counts by how seldom it stands there."""
        return (self.nats(model, batch) * batch["weight"]).sum() / len(batch["near"]), {}

    def nats(self, model, batch) -> torch.Tensor:
        """Of every word [M], by the mixture; the head stays as it is, and its half of the mixture is a number."""
        states = model(batch["says"], batch["near"], batch["states"], batch["of"])
        logp = self.base.lm_head(states).float().log_softmax(-1)
        return -mixed(batch["lm"], logp.gather(1, batch["ids"][:, None])[:, 0])

    @torch.no_grad()
    def gain(self, model, batch) -> np.ndarray:
        """Nats a word [B] that the mixture is better by, of each page."""
        sums = torch.zeros(2, len(batch["near"]))
        sums[0].index_add_(0, batch["of"], -batch["lm"] - self.nats(model, batch))
        sums[1].index_add_(0, batch["of"], torch.ones_like(batch["lm"]))
        return (sums[0] / sums[1]).numpy()

    def quick(self, model):
        batch = self.held.some(range(160), self.options.get("links", "friends"))
        return {"gain": round(float(self.gain(model, batch).mean()), 4)}

    def evaluate(self, model):
        batch = self.held.some(range(len(self.held.length)), self.options.get("links", "friends"))
        lm = -np.array([part.mean() for part in np.split(self.held.lm, np.cumsum(self.held.length)[:-1])])
        return {"metrics": {"cross-entropy of the mixture": mean_figure(lm - self.gain(model, batch), "nats a word")},
                "trivial_baseline": {"cross-entropy of tale-ar-2": mean_figure(lm, "nats a word")}}


class Cache:
    """Pages of several webs as one table of words, and where each page's begin."""

    def __init__(self, **parts):
        self.__dict__.update(parts)
        self.starts = np.cumsum(self.length) - self.length
        self.near = {kind: self.linked(kind) for kind in ("friends", "rewired")}

    def linked(self, kind: str) -> np.ndarray:
        """near [pages, K, K] of all pages."""
        lists: list[list[int]] = []
        for number, seed in enumerate(self.seeds):
            web = pages.web(int(seed))
            lists += [[number * pages.PAGES + other for other in others] for others in (
                web if kind == "friends" else web._replace(links=pages.rewired(web.links, int(seed)))).every()]
        return neighbourhood(lists, range(len(lists)))

    def some(self, chosen, kind: str) -> dict[str, torch.Tensor]:
        words = np.concatenate([np.arange(self.starts[i], self.starts[i] + self.length[i]) for i in chosen])
        table = {name: torch.from_numpy(getattr(self, name)[words]) for name in ("states", "weight", "lm", "ids")}
        near = self.near[kind][list(chosen)]
        used = np.unique(near[near >= 0])
        local = np.where(near < 0, -1, np.searchsorted(used, near))
        return {"near": torch.from_numpy(local), "says": torch.from_numpy(self.says[used]), **table,
                "states": table["states"].float(), "weight": table["weight"].float(),
                "of": torch.from_numpy(np.repeat(np.arange(len(chosen)), self.length[list(chosen)]))}


class GraphGat(GraphSage):
    name, options = "tale-graph-gat-1", {"kind": "gat"}


class GraphMlp(GraphSage):
    name, options, pack = "tale-graph-mlp-1", {"kind": "mlp"}, 4
    weak_at = "The control without links: in their place it reads the page so far once more."


class GraphRewired(GraphSage):
    name, options, pack = "tale-graph-rewired-1", {"links": "rewired"}, 4
    weak_at = "The control on links that were rewired at random."


class GraphOwn(GraphSage):
    name, options, pack = "tale-graph-own-1", {"own": True}, 4
    weak_at = "As in the reference a page is among its own neighbours, with the words that are to be predicted."
