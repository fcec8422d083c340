"""algo-othello-1: a small GPT on random Othello games. algo-othello-lens-1: what reads the board off its layers."""
from __future__ import annotations

import numpy as np
import torch

from models.papers.othello import network
from models.papers.othello.network import COLOUR, FIRST, GPT, MINE, SAID, UNTRAINED
from models.worlds import othello
from models.worlds.world import END
from training.export import mean_figure
from training.language import SMALL, WorldLM
from training.layer_lens import ReadLayers
from training.trainer import rng_of


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

    def judged(self, model, count: int) -> dict[str, np.ndarray]:
        return network.legality(model, othello.games(np.random.default_rng(3), count, kept=True))

    def evaluate(self, model):
        found = self.judged(model, self.asked)
        return {"metrics": {"likeliest move is legal": mean_figure(found["legal"] / 100, "share"),
                            "KL from a random legal move": mean_figure(found["KL"], "nats")},
                "trivial_baseline": {"an empty square at random is legal": mean_figure(found["chance"] / 100, "share")}}


class OthelloLens(ReadLayers):
    name, trunk, said = "algo-othello-lens-1", GPT, SAID
    minutes, look, pack, games = 4.0, 60.0, 6, 2000
    architecture = ("LayerLens: linear maps for the board and three sparse autoencoders of 256 features, before the "
                    "first block of algo-othello-1 and behind each (it is not included)")
    trained_on = "states of algo-othello-1, and of a network that learned nothing, on random games of 6 x 6 Othello"
    data_licence = OthelloGPT.data_licence
    weak_at = "Fits one trunk only (its revision is in config.json)."
    budget_fraction = "2,000 games, over and over, and three autoencoders; the spec has 5,000 games, the paper ten"

    def lessons(self, kept):
        count = self.games // 5 if kept else self.games
        games = othello.games(np.random.default_rng((5, self.seed, kept)), count, kept)
        trained, fresh = (network.states_of(net, games) for net in (self.base, network.untrained(self.base)))
        mine, colour = (torch.from_numpy(boards[network.counted(games)].astype(np.int64))
                        for boards in (games.boards, othello.coloured(games.boards)))
        return {MINE: (trained, mine), COLOUR: (trained, colour), UNTRAINED: (fresh, mine)}
