"""Five adapters of equal size beside a frozen tale-ar-2, equal steps on the same pages: graph means (SAGE), graph
attention (GAT), no links (MLP), links rewired at random, and SAGE as in the reference, where a page sees itself."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.loops.sample.mixed_lm import mixed
from models.papers.graphadapter.network import GraphAdapter
from models.papers.graphadapter.rule import web_read
from models.worlds import tales
from training import data
from training.export import mean_figure
from training.kinds import Beside
from training.trainer import rng_of

WEBS, HELD = range(240), range(1000, 1008)  # seeds: to train on, and to measure


class GraphSage(Beside):
    name, trunk, network = "tale-graph-sage-1", "tale-ar-2", GraphAdapter
    options: dict = {}  # of the network
    minutes, lr, lr_adam, warmup, decay, look, pack = 4.0, 0.02, 3e-3, 0.05, 0.8, 60.0, 6
    architecture = "GraphAdapter: a graph network over two links and a fusion MLP, beside tale-ar-2 (not included)"
    trained_on = "9,600 linked pages, portraits of people in 240 webs of friends (models/worlds/pages), made by program"
    data_licence = "none: made by program"
    weak_at = "Knows one kind of page, and fits one base only (its revision is in config.json)."
    budget_fraction = "one training on one thread, 4 epochs; the reference runs 15 to 50"

    def prepare(self, folder):
        super().prepare(folder)
        self.tok = tales.WORLD.tokenizer()
        self.webs, self.held = ([{name: torch.from_numpy(part) for name, part in data.kept(
            Path(folder) / f"graphadapter-{seed}.npz", lambda seed=seed: self.gathered(seed)).items()}
            for seed in seeds] for seeds in (WEBS, HELD))

    def build(self):
        return self.network.beside(self.base, self.trunk, self.revision, **self.options)

    def gathered(self, seed: int) -> dict[str, np.ndarray]:
        found = web_read(self.base, self.tok, seed)
        return {name: part.numpy() for name, part in {**found, "states": found["states"].half()}.items()}

    def batch(self, step, progress):
        return self.webs[int(rng_of(self.seed, step).integers(len(self.webs)))]

    def loss(self, model, batch, progress):
        """Cross-entropy of the mixture, per page, each of whose words counts by how seldom it stands there."""
        return (self.nats(model, batch) * batch["weight"]).sum() / len(batch["says"]), {}

    def nats(self, model, batch) -> Tensor:
        """Of every word [M], by the mixture; the head stays as it is, and its own half is a number."""
        near = batch[self.options.get("links", "friends")]
        states = model(batch["says"], near, batch["states"].float(), batch["of"])
        logp = self.base.lm_head(states).float().log_softmax(-1)
        return -mixed(batch["lm"], logp.gather(1, batch["ids"][:, None])[:, 0])

    @torch.no_grad()
    def measured(self, model) -> np.ndarray:
        """Nats a word [webs, 2] of held-out webs, by the mixture and by the model."""
        return np.array([[float(self.nats(model, web).mean()), -float(web["lm"].mean())] for web in self.held])

    def quick(self, model):
        mixture, lm = self.measured(model).mean(0)
        return {"gain": round(lm - mixture, 4)}

    def evaluate(self, model):
        mixture, lm = self.measured(model).T
        return {"metrics": {"cross-entropy of the mixture": mean_figure(mixture, "nats a word")},
                "trivial_baseline": {"cross-entropy of tale-ar-2": mean_figure(lm, "nats a word")}}


class GraphGat(GraphSage):
    name, options = "tale-graph-gat-1", {"kind": "gat"}


class GraphMlp(GraphSage):
    name, options = "tale-graph-mlp-1", {"kind": "mlp"}
    weak_at = "The control without links: in their place it reads the page so far once more."


class GraphRewired(GraphSage):
    name, options = "tale-graph-rewired-1", {"links": "rewired"}
    weak_at = "The control on links that were rewired at random."


class GraphOwn(GraphSage):
    name, options = "tale-graph-own-1", {"own": True}
    weak_at = "As in the reference a page is among its own neighbours, with the words that are to be predicted."
