"""LeMo's predictors beside the frozen text-ar-1, and three fine-tunes of it on plays, with the same batches and steps:
everything read, LeMo's blocks, and as many blocks drawn anew at every step and layer."""

from __future__ import annotations

import gzip

import numpy as np
import torch

from models.backbones import lora
from models.backbones.rows import project
from models.checkpoints import registry
from models.papers.lemo.backward import ALPHA, RANK, TUNED
from models.papers.lemo.elimination import (
    PARTS,
    Chooses,
    active_blocks,
    everything,
    nats,
    oracle,
    positive_blocks,
    read,
    recalled,
)
from models.papers.lemo.network import BlockChooser, BlockPredictors
from training import data
from training.export import SHIPPED, figure, mean_figure, read_shipped
from training.kinds import Beside, FineTune
from training.language import save_llama
from training.trainer import Recipe

LENGTH, SIZE = 1024, 16
HELD_OUT, VALIDATION = 0.1, 0.05  # of the plays: the end, which the claim scores, and what stands before it


class Plays(Recipe):
    """The plays of Shakespeare as text-ar-1 spells them: a change of language that a fine-tune has to learn."""

    compile = False  # every text has blocks of its own, so that no two steps have the same shapes
    trained_on = "the first 85 % of 1.1 M characters of Shakespeare's plays (tinyshakespeare)"
    data_licence = "the text is in the public domain; no licence stated by its source"

    def prepare(self, folder):
        super().prepare(folder)
        with gzip.open(data.data_dir() / "tinyshakespeare.txt.gz", "rt", encoding="utf-8") as file:
            text = file.read()
        tok, ends = registry.tokenizer(SHIPPED / "text-ar-1"), (1 - HELD_OUT - VALIDATION, 1 - HELD_OUT, 1.0)
        cuts = [0, *(int(end * len(text)) for end in ends)]
        self.train, self.val, self.held_out = (
            np.array(tok(text[a:b], add_special_tokens=False)["input_ids"]) for a, b in zip(cuts, cuts[1:]))

    def batch(self, step, progress):
        return {"ids": torch.from_numpy(data.blocks(self.train, LENGTH, 1, step, self.seed))}


def windows(ids: np.ndarray, count: int = 0) -> torch.Tensor:
    """Pieces [K, LENGTH + 1], evenly spread; all that stand side by side where no number is asked for."""
    last = len(ids) - LENGTH - 1
    starts = np.linspace(0, last, count or last // LENGTH + 1).astype(int)
    return torch.from_numpy(np.stack([ids[at: at + LENGTH + 1] for at in starts]))


class Predictors(Plays, Beside):
    """Guesses are taught the oracle's numbers, in units of their mean, on the frozen model's states; then thresholds
    are moved by finite differences of the loss (the paper's Algorithm 1)."""

    name, trunk, network = "text-lemo-blocks-1", "text-ar-1", BlockPredictors
    minutes, lr, lr_adam, decay = 3.0, 0.0, 4e-3, 0.7
    eps, eta, most, sweeps, keep = 0.2, 0.1, 0.3, 4, 0.55
    architecture = "three low-rank chains per layer (256, 32, 32, 16 or 1) and two thresholds; 0.17 M parameters"
    weak_at = "Knows what text-ar-1's layers read in plays, at length 1,024 and blocks of 16."
    budget_fraction = "300 texts, each seen once; the paper has up to 400 epochs"

    def loss(self, model, batch, progress):
        losses = [loss for ids in batch["ids"] for loss in self.lessons(model, ids)]
        return torch.stack(losses).mean(), {}

    def lessons(self, model, ids) -> list[torch.Tensor]:
        """Error of every guess on one text [N + 1]."""
        found = []
        for layer, index, part, x, angles in self.inputs(ids):
            if part == "mlp":
                normed = layer.post_attention_layernorm(x)
                found.append(error(model.activity(index, normed, SIZE), active_blocks(layer.mlp, normed, SIZE)))
                continue
            normed = layer.input_layernorm(x)
            true = positive_blocks(*project(layer.self_attn, normed, angles)[:2], SIZE)
            told = model.pairs(index, normed, SIZE)
            found += [error(told, true), error(told.mean(0), true.mean(0))]
        return found

    @torch.no_grad()
    def inputs(self, ids) -> list[tuple]:
        """(layer, its number, part, input, angles) of the frozen model on one text [N + 1]."""
        found = []

        def look(index, part, x, angles) -> None:
            found.append((self.base.model.layers[index], index, part, x, angles))
        read(self.base, ids[:-1], look)
        return found

    def quick(self, model):
        return {"recall": round(float(np.mean(self.recalls(model, windows(self.val, 4)))), 3)}

    def recalls(self, model, texts) -> np.ndarray:
        """Of the blocks that the oracle keeps, the share among as many best guesses [K, layers x parts]."""
        found = []
        for ids in texts:
            found.append([recalled(true > true.mean(), model.scores(layer, index, part, x, SIZE))
                          for layer, index, part, x, true in self.scored(ids)])
        return np.array(found)

    def scored(self, ids) -> list[tuple]:
        """(layer, its number, part, input, the oracle's scores)."""
        return [(layer, index, part, x, oracle(layer, part, x, angles, SIZE))
                for layer, index, part, x, angles in self.inputs(ids)]

    @torch.no_grad()
    def final(self, model):
        """Algorithm 1: T <- T + eta (acc(T + eps) - acc(T - eps)) / (2 eps), accuracy in nats, T over its mean; after
        each sweep a common factor brings the share that is kept back to `keep` (ours)."""
        model.eval()
        texts, choose = windows(self.val, 3)[:, : LENGTH // 2 + 1], BlockChooser(model, self.base, SIZE)
        for _ in range(self.sweeps):
            slopes = torch.zeros_like(model.times)
            for place in np.ndindex(*model.times.shape):
                here, sides = float(model.times[place]), []
                for model.times[place] in (here + self.eps, here - self.eps):
                    sides.append(-float(np.mean([float(nats(self.base, ids, choose)) for ids in texts])))
                model.times[place], slopes[place] = here, (sides[0] - sides[1]) / (2 * self.eps)
            model.times += (self.eta * slopes).clamp(-self.most, self.most)
            model.times.clamp_(min=0.05)
            self.to_budget(model, texts)
            print("thresholds", model.times.tolist(), flush=True)
        return model

    def to_budget(self, model, texts) -> None:
        """By bisection."""
        found = [(scores / scores.mean(), place) for ids in texts for place, scores in self.guessed(model, ids)]
        low, high = 0.1, 10.0
        while high - low > 1e-3:
            factor = (low + high) / 2
            share = np.mean([float((one > factor * model.times[place]).float().mean()) for one, place in found])
            low, high = (factor, high) if share > self.keep else (low, factor)
        model.times *= low

    def guessed(self, model, ids) -> list[tuple]:
        return [((index, PARTS.index(part)), model.scores(layer, index, part, x, SIZE))
                for layer, index, part, x, _ in self.inputs(ids)]

    def evaluate(self, model):
        found = self.recalls(model, windows(self.held_out))
        blind = np.mean([self.share(ids) for ids in windows(self.held_out, 8)])
        return {"metrics": {"recall of the blocks that the oracle keeps": mean_figure(found.mean(1), "share")},
                "trivial_baseline": {"recall of as many blocks at random": figure(blind, "share", 8)}}

    def share(self, ids) -> float:
        """What the oracle keeps of a text."""
        return float(np.mean([float((one > one.mean()).float().mean()) for *_, one in self.scored(ids)]))


def error(told: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    return (told.float() - true / true.mean()).square().mean()


class TextLoRA(Plays, FineTune):
    """Low-rank changes of queries, values and MLP; every token is read."""

    name, trunk, ship = "text-lora-full-1", "text-ar-1", "rank:16"
    minutes, lr, lr_adam, warmup, decay, look = 3.0, 0.02, 1e-3, 0.05, 0.6, 60.0
    architecture = "text-ar-1 with low-rank changes (16) of queries, values and MLP, merged"
    weak_at = "Speaks like Shakespeare's plays and has forgotten some of the children's books."
    budget_fraction = "200 steps of one text; the spec has 1,000 to 2,000 steps of 2 to 4"

    def build(self):
        return lora.adapt(read_shipped(self.trunk), RANK, ALPHA, TUNED)

    def final(self, model):
        return lora.merge(model)

    def save(self, model, folder):
        tok = registry.tokenizer(SHIPPED / self.trunk)
        save_llama(model, tok.backend_tokenizer, folder)

    def choice(self, model, step: int) -> Chooses:
        return everything

    def loss(self, model, batch, progress):
        losses = [nats(model, ids, self.choice(model, i)) for i, ids in enumerate(batch["ids"])]
        return torch.stack(losses).mean(), {}

    def quick(self, model):
        return {"nats": round(float(np.mean([float(nats(model, ids)) for ids in windows(self.val, 8)])), 4)}

    def evaluate(self, model):
        texts, before = windows(self.held_out), read_shipped(self.trunk)
        mine, theirs = (np.exp([float(nats(net, ids)) for ids in texts]) for net in (model, before))
        return {"metrics": {"perplexity of held-out plays": mean_figure(mine, "per token")},
                "trivial_baseline": {"perplexity before the fine-tune": mean_figure(theirs, "per token")}}


class LeMoLoRA(TextLoRA):
    """Reads the blocks that the predictors choose; the same batches."""

    name = "text-lora-lemo-1"

    def prepare(self, folder):
        super().prepare(folder)
        self.predictors = read_shipped("text-lemo-blocks-1").requires_grad_(False)

    def choice(self, model, step):
        return BlockChooser(self.predictors, model, SIZE)


class RandomLoRA(LeMoLoRA):
    """The control: as many blocks, drawn anew for every text, layer and part."""

    name = "text-lora-random-1"

    def batch(self, step, progress):
        self.dice = torch.Generator().manual_seed(1_000_003 * self.seed + step)
        return super().batch(step, progress)

    def choice(self, model, step):
        return BlockChooser(self.predictors, model, SIZE, dice=self.dice)
