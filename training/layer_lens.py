"""Linear probes and sparse autoencoders of a frozen trunk's layers as a recipe (models/backbones/layer_lens.py).

A paper says what is read, and of what: `lessons`.
"""
from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from models.backbones.layer_lens import LayerLens
from models.engine.statistics import aucs
from training.export import figure
from training.kinds import Beside
from training.trainer import rng_of

Lessons = Mapping[str, tuple[Tensor, Tensor]]  # reading -> states [N, L + 1, D] in half precision, classes [N, S]


class ReadLayers(Beside):
    """The first of its readings is what the autoencoders see. said: reading -> how the card calls it."""

    network, runs, features = LayerLens, 3, 256
    said: Mapping[str, str] = {}
    lr, lr_adam, warmup, decay, rows = 0.0, 3e-3, 0.0, 0.8, 256
    clip, autocast = math.inf, False  # every layer learns for itself

    def lessons(self, kept: bool) -> Lessons:
        """To learn from, or (kept) to measure with."""
        raise NotImplementedError

    def prepare(self, folder):
        super().prepare(folder)
        self.pool, self.exam = self.lessons(False), self.lessons(True)

    def build(self):
        places = next(iter(self.pool.values()))[1].shape[1]
        return self.network.beside(self.base, self.trunk, self.revision, readings=tuple(self.pool), places=places,
                                   features=self.features, runs=self.runs)

    def batch(self, step, progress):
        count = len(next(iter(self.pool.values()))[0])
        some = torch.from_numpy(rng_of(self.seed, step).integers(count, size=self.rows))
        return {f"{part} {name}": found[some] for name, pair in self.pool.items()
                for part, found in zip(("states", "classes"), pair, strict=True)}

    def loss(self, model, batch, progress):
        """The sum of what every set of probes and every autoencoder costs; none has a weight in common."""
        probes = {name: model.probe_loss(batch[f"states {name}"], batch[f"classes {name}"], name) for name in self.pool}
        coders, found = model.coder_loss(batch[f"states {next(iter(self.pool))}"])
        return sum(probes.values()) + coders, {**found, **{name: one.detach() for name, one in probes.items()}}

    def quick(self, model):
        return {name: [round(float(layer), 3) for layer in self.right(model, name).mean(0)] for name in self.exam}

    @torch.no_grad()
    def right(self, model, reading: str) -> np.ndarray:
        """Share [N, L + 1] of places of a class above 0 that are read right."""
        states, wanted = self.exam[reading][0], self.exam[reading][1][:, None]
        hits = (model.read(states, reading).argmax(-1) == wanted) & (wanted > 0)
        return (hits.sum(-1) / (wanted > 0).sum(-1)).numpy()

    @torch.no_grad()
    def final(self, model):
        """With the map of every feature: how well it tells each class of each place."""
        states, wanted = next(iter(self.exam.values()))
        classes = model.maps.shape[-1]
        truth = (wanted[..., None] == torch.arange(classes)).flatten(1).numpy()  # [N, S * C]
        for run, layer in np.ndindex(*model.codes.shape[:2]):
            found = aucs(model.features(states[:, layer], layer, run).numpy(), truth)
            model.maps[run, layer] = torch.from_numpy(np.nan_to_num(found, nan=0.5) - 0.5).view(-1, *model.shape)
        return model

    def evaluate(self, model):
        found = {self.said[name]: self.right(model, name).mean(0) for name in self.exam}
        count = len(next(iter(self.exam.values()))[0])
        first, *others = ((f"read right, {name}, layer {row.argmax()}", figure(row.max(), "share", count))
                          for name, row in found.items())
        return {"metrics": dict([first]), "trivial_baseline": dict(others)}
