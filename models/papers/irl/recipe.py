"""tale-ar-2 trained on in one set of keyword sentences, each read about eight times: by maximum likelihood, by inverse
soft-Q learning with two weights of the penalty, and with the two usual means against a network that grows too sure. All
arms see the same batches in the same order."""
from __future__ import annotations

import numpy as np
import torch

from models.papers.irl.rule import objective
from models.papers.irl.sentences import answers, asked, right, told
from models.worlds.world import END, PAD
from training.export import figure, read_shipped
from training.kinds import FineTune
from training.trainer import rng_of
from training.trunks.tale_ar import TaleAR

SET, ROWS, WARM = 2400, 32, 0.1  # sentences, those of a step, and the share of the steps in which lambda grows


class OnKeywords(FineTune, TaleAR):
    """Maximum likelihood: lambda is 0."""

    name, trunk, tune, ship = "tale-words-mle-1", "tale-ar-2", "lora:8", "rank:8"
    penalty = bonus = smoothing = 0.0  # lambda; the weight of the entropy; the share of the label spread over all words
    compile, minutes, lr, lr_adam, look, decay, pack = False, 5.0, 0.002, 5e-4, 90.0, 0.5, 0
    asked = 100
    trained_on = f"{SET:,} sentences with three given words (models/worlds/tales), each read about eight times"
    weak_at = "Writes one kind of sentence, about the words that it is given."
    budget_fraction = "a few minutes of one thread; the paper trains T5 and PaLM 2 on whole corpora"

    def prepare(self, folder):
        super().prepare(folder)
        self.texts = [([END, *self.encode(prompt)], [*self.encode(text), END]) for prompt, text in told(SET)]

    def batch(self, step, progress):
        some = [self.texts[i] for i in rng_of(self.seed, step).integers(len(self.texts), size=ROWS)]
        longest = max(len(prompt) + len(text) for prompt, text in some)
        ids, answer = torch.full((ROWS, longest), PAD), torch.zeros(ROWS, longest)
        for i, (prompt, text) in enumerate(some):
            first, end = len(prompt), len(prompt) + len(text)
            ids[i, :end], answer[i, first:end] = torch.tensor(prompt + text), 1.0
        return {"ids": ids, "answer": answer}

    def loss(self, model, batch, progress):
        targets, answer = batch["ids"][:, 1:], batch["answer"][:, 1:]
        z = model(batch["ids"][:, :-1], use_cache=False).logits.float()  # [B, T, V]
        v, q = z.logsumexp(-1), z.gather(-1, targets[..., None])[..., 0]
        mle, td = objective(q, v, targets == END, answer)
        loss, weight = mle, self.penalty * min(1.0, progress / WARM)
        if weight:
            loss = loss + weight * td
        if self.bonus:
            spread = torch.distributions.Categorical(logits=z).entropy()  # [B, T]
            loss = loss - self.bonus * (spread * answer).sum() / answer.sum()
        if self.smoothing:
            even = ((v - z.mean(-1)) * answer).sum() / answer.sum()
            loss = loss + self.smoothing * (even - mle)
        return loss, {"mle": mle.detach(), "td": td.detach(), "share": (weight * td / mle).detach()}

    def quick(self, model):
        return {"right": round(float(self.judged(model, 40).mean()), 2)}

    def judged(self, model, n: int) -> np.ndarray:
        """Whether one answer to each of n tasks, drawn at temperature 1, is right."""
        tasks = [doc.pieces[0] for doc in asked(n, 29)]
        found = answers(model, self.tok, tasks, 1.0, 1, 29)
        return np.array([right(task, one) for task, (one,) in zip(tasks, found, strict=True)], float)

    def evaluate(self, model):
        name = "right sentences at temperature 1"
        mine, base = (self.judged(net, self.asked) for net in (model, read_shipped(self.trunk)))
        return {"metrics": {name: figure(mine.mean(), "share", len(mine), mine)},
                "trivial_baseline": {f"{name}, {self.trunk}": figure(base.mean(), "share", len(base), base)}}


class LowPenalty(OnKeywords):
    name, penalty = "tale-irl-low-1", 0.03


class HighPenalty(OnKeywords):
    name, penalty = "tale-irl-high-1", 0.3


class WithEntropy(OnKeywords):
    name, bonus = "tale-words-entropy-1", 0.07


class WithSmoothing(OnKeywords):
    name, smoothing = "tale-words-smoothed-1", 0.05
