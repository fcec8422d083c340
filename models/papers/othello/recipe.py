"""algo-othello-1: a small GPT on random Othello games."""
from __future__ import annotations

import numpy as np
import torch

from models.worlds import othello
from models.worlds.world import END, SPECIALS
from training.export import mean_figure
from training.language import SMALL, WorldLM
from training.trainer import rng_of

FIRST = len(SPECIALS)  # the id of square a1


class OthelloGPT(WorldLM):
    """It learns from every move that could have been drawn, not from the one that was: the same loss on average."""

    name = "algo-othello-1"
    world, shape, rows, length, places = othello.WORLD, SMALL, 64, othello.LONGEST + 1, 64
    minutes, lr, lr_adam, decay, look, pack = 20.0, 0.02, 3e-3, 0.6, 200.0, 6
    architecture = "LlamaForCausalLM, 6 layers, width 128, 4 heads, tied embeddings, one token per square (36)"
    trained_on = "random games of 6 x 6 Othello without passes, made by program (models/worlds/othello.py)"
    weak_at = "Plays at random on purpose: it knows which moves are legal, not which are good."
    budget_fraction = "20 minutes beside other trainings; the spec asks for 20,000 steps of 256 games of 8 x 8"

    def batch(self, step, progress):
        """One game a row; every legal move as likely as any other, <|endoftext|> where there is none."""
        found = othello.games(rng_of(self.seed, step), self.rows)
        legal = found.legal  # [B, T + 1, S]
        target = np.zeros((*legal.shape[:2], FIRST + legal.shape[2]), np.float32)
        target[..., FIRST:] = legal / np.maximum(legal.sum(-1, keepdims=True), 1)
        target[..., END] = ~legal.any(-1)
        return {"ids": torch.from_numpy(othello.ids(found.moves)), "target": torch.from_numpy(target),
                "weight": torch.from_numpy((np.arange(legal.shape[1]) <= found.lengths[:, None]).astype(np.float32))}

    def loss(self, model, batch, progress):
        logp = model(batch["ids"], use_cache=False).logits.float().log_softmax(-1)
        nats = -(batch["target"] * logp).sum(-1)
        return (nats * batch["weight"]).sum() / batch["weight"].sum(), {}

    def quick(self, model):
        return {name: round(float(found.mean()), 4) for name, found in self.judged(model, 200).items()}

    @torch.no_grad()
    def judged(self, model, n: int) -> dict[str, np.ndarray]:
        """Of n games that are kept out: share of places where the likeliest move is legal, and the KL (nats) of the
        network's moves from a legal one drawn at random."""
        found = othello.games(np.random.default_rng(3), n, kept=True)
        legal, asked = found.legal, np.arange(othello.LONGEST + 1) < found.lengths[:, None]
        logp = torch.cat([model(ids, use_cache=False).logits.float().log_softmax(-1)
                          for ids in torch.from_numpy(othello.ids(found.moves)).split(100)]).numpy()[..., FIRST:]
        right = np.take_along_axis(legal, logp.argmax(-1)[..., None], -1)[..., 0]
        count = np.maximum(legal.sum(-1), 1)
        far = -np.log(count) - (logp * legal).sum(-1) / count
        return {name: np.array([row[at].mean() for row, at in zip(each, asked, strict=True)])
                for name, each in (("likeliest move is legal", right), ("KL from a random legal move", far))}

    def evaluate(self, model):
        found = othello.games(np.random.default_rng(3), self.asked, kept=True)
        chance = found.legal[:, :-1].sum(-1) / (othello.LONGEST - np.arange(othello.LONGEST))  # of the empty squares
        usual = np.array([row[:length].mean() for row, length in zip(chance, found.lengths, strict=True)])
        return {"metrics": {name: mean_figure(one, unit) for (name, one), unit in zip(
            self.judged(model, self.asked).items(), ("share", "nats"), strict=True)},
            "trivial_baseline": {"an empty square at random is legal": mean_figure(usual, "share")}}
