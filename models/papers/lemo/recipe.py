"""LeMo's predictors beside the frozen text-ar-1, and three fine-tunes of it on plays, with the same batches and steps:
everything read, LeMo's blocks, and as many blocks drawn anew at every step and layer."""

from __future__ import annotations

import gzip

import numpy as np
import torch

from models.backbones import lora
from models.checkpoints import registry
from models.papers.lemo.backward import ALPHA, RANK, TUNED
from models.papers.lemo.elimination import PARTS, Chooses, everything, nats, oracle, visits
from models.papers.lemo.network import BlockChooser, BlockPredictors, recalls
from training import data
from training.export import SHIPPED, mean_figure, read_shipped
from training.kinds import Beside, FineTune
from training.language import save_llama
from training.trainer import Recipe

LENGTH, SIZE = 1024, 16
PARTED = (0.85, 0.9, 1.0)  # of the plays: what is learned, what chooses rates, what the claim scores


class Plays(Recipe):
    """The plays of Shakespeare as text-ar-1 spells them: a change of language that a fine-tune has to learn."""

    trunk, compile = "text-ar-1", False  # every text has blocks of its own, so that no two steps have the same shapes
    trained_on = "the first 85 % of 1.1 M characters of Shakespeare's plays (tinyshakespeare)"
    data_licence = "the text is in the public domain; no licence stated by its source"

    def prepare(self, folder):
        super().prepare(folder)
        with gzip.open(data.data_dir() / "tinyshakespeare.txt.gz", "rt", encoding="utf-8") as file:
            text = file.read()
        self.tok, cuts = registry.tokenizer(SHIPPED / self.trunk), [0, *(int(end * len(text)) for end in PARTED)]
        self.train, self.val, self.held_out = (
            np.array(self.tok(text[a:b], add_special_tokens=False)["input_ids"]) for a, b in zip(cuts, cuts[1:]))

    def batch(self, step, progress):
        return {"ids": torch.from_numpy(data.blocks(self.train, LENGTH, 1, step, self.seed))}


def windows(ids: np.ndarray, count: int = 0) -> torch.Tensor:
    """Pieces [K, LENGTH + 1], evenly spread; all that stand side by side where no number is asked for."""
    last = len(ids) - LENGTH - 1
    starts = np.linspace(0, last, count or last // LENGTH + 1).astype(int)
    return torch.from_numpy(np.stack([ids[at: at + LENGTH + 1] for at in starts]))


class Predictors(Plays, Beside):
    """Guesses are taught the oracle's numbers, in units of their mean, on the frozen model's states; then thresholds
    are moved by finite differences of the loss (after the paper's Algorithm 1)."""

    name, network = "text-lemo-blocks-1", BlockPredictors
    minutes, lr, lr_adam, decay = 3.0, 0.0, 4e-3, 0.7
    eta, keep = 4.0, 0.58
    architecture = "three low-rank chains per layer (256, 32, 32, 16 or 1) and two thresholds; 0.17 M parameters"
    weak_at = "Knows what text-ar-1's layers read in plays, at length 1,024 and blocks of 16."
    budget_fraction = "250 texts, each seen once; the paper has up to 400 epochs"

    def loss(self, model, batch, progress):
        losses = []
        for visit in visits(self.base, batch["ids"][0, :-1]):
            true = oracle(visit, SIZE)
            wrong = model(visit, SIZE).float() - true / true.mean()
            losses += [wrong.square().mean(), wrong.mean(0).square().mean()][: len(true)]  # an MLP's are one row
        return torch.stack(losses).mean(), {}

    def quick(self, model):
        return {"recall": round(self.recalls(model, windows(self.val, 4))[0].mean(), 3)}

    def recalls(self, model, texts) -> np.ndarray:
        """Recall, and that of dice: [2, K]."""
        return np.array([recalls(model, self.base, ids[:-1], SIZE) for ids in texts]).T

    @torch.no_grad()
    def final(self, model):
        """T <- T + eta (acc(T + eps) - acc(T)) / eps, accuracy in nats, once for every layer and part: from reading
        everything to the mean of the scores. (Both sides of the mean, as in Algorithm 1, misled it: NOTES.md.) A common
        factor then brings the share that is read to `keep`, which is ours."""
        texts, choose = windows(self.val, 3)[:, : LENGTH // 2 + 1], BlockChooser(model.eval(), SIZE)
        slopes, whole = torch.zeros_like(model.times), np.mean([float(nats(self.base, ids)) for ids in texts])
        for place in np.ndindex(*slopes.shape):
            model.times.zero_()
            model.times[place] = 1.0
            slopes[place] = float(whole - np.mean([float(nats(self.base, ids, choose)) for ids in texts]))
        model.times.copy_((1 + self.eta * slopes).clamp(min=0))
        self.to_budget(model.times, model, texts)
        return model

    def to_budget(self, times, model, texts) -> None:
        """By bisection."""
        found = [(model.keeps(visit, SIZE).scores, (visit.index, PARTS.index(visit.part)))
                 for ids in texts for visit in visits(self.base, ids[:-1])]
        low, high = 0.1, 10.0
        while high - low > 1e-3:
            factor = (low + high) / 2
            share = np.mean([float((scores > factor * times[place]).float().mean()) for scores, place in found])
            low, high = (factor, high) if share > self.keep else (low, factor)
        times *= low

    def evaluate(self, model):
        found, dice = self.recalls(model, windows(self.held_out, 20))
        return {"metrics": {"recall of the blocks that the layers' own scores keep": mean_figure(found, "share")},
                "trivial_baseline": {"recall of as many blocks at random": mean_figure(dice, "share")}}


class TextLoRA(Plays, FineTune):
    """Low-rank changes of queries, values and MLP; every token is read."""

    name, ship = "text-lora-full-1", f"rank:{RANK}"
    minutes, lr, lr_adam, warmup, decay, look = 3.0, 0.02, 1e-3, 0.05, 0.6, 60.0
    architecture = "text-ar-1 with low-rank changes (16) of queries, values and MLP, merged"
    weak_at = "Speaks like Shakespeare's plays and has forgotten some of the children's books."
    budget_fraction = "100 steps of one text; the spec has 1,000 to 2,000 steps of 2 to 4"

    def build(self):
        return lora.adapt(read_shipped(self.trunk), RANK, ALPHA, TUNED)

    def final(self, model):
        return lora.merge(model)

    def save(self, model, folder):
        save_llama(model, self.tok.backend_tokenizer, folder)

    def choice(self) -> Chooses:
        return everything

    def loss(self, model, batch, progress):
        return nats(model, batch["ids"][0], self.choice()), {}

    def quick(self, model):
        return {"nats": round(float(np.mean([float(nats(model, ids)) for ids in windows(self.val, 8)])), 4)}

    def evaluate(self, model):
        mine, theirs = (np.exp([float(nats(net, ids)) for ids in windows(self.held_out, 16)])
                        for net in (model, read_shipped(self.trunk)))
        return {"metrics": {"perplexity of held-out plays": mean_figure(mine, "per token")},
                "trivial_baseline": {"perplexity before the fine-tune": mean_figure(theirs, "per token")}}


class LeMoLoRA(TextLoRA):
    """Reads the blocks that the predictors choose; the same batches."""

    name = "text-lora-lemo-1"

    def prepare(self, folder):
        super().prepare(folder)
        self.predictors = read_shipped("text-lemo-blocks-1").requires_grad_(False)

    def choice(self):
        return BlockChooser(self.predictors, SIZE)


class RandomLoRA(LeMoLoRA):
    """The control: as many blocks, drawn anew for every text, layer and part."""

    name = "text-lora-random-1"

    def choice(self):
        return BlockChooser(self.predictors, SIZE, dice=torch.default_generator)  # seeded by the trainer at every step
