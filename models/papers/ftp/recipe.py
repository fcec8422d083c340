"""tale-ftp-1 and its control tale-heads-1: the same words ahead, loss, batches and steps (arXiv 2410.18160)."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.papers.ftp.claim import asked
from models.papers.ftp.network import FutureDecoder, FutureHeads
from models.worlds.world import END, drawn, exam
from training.export import figure, mean_figure
from training.kinds import Beside
from training.trunks.tale_ar import TaleAR

GAMMA = 0.8  # a word's weight by each place that it is farther away


class TaleFTP(Beside, TaleAR):
    name, trunk, network = "tale-ftp-1", "tale-ar-2", FutureDecoder
    minutes, lr, lr_adam, warmup, decay, look, pack = 12.0, 0.02, 3e-3, 0.02, 0.6, 400.0, 6
    rows, learned_at = 8, 128  # places of a row at which a step learns what comes
    architecture = ("FutureDecoder: low-rank changes of tale-ar-2's first 4 layers, 8 pseudo-tokens, a 2-layer decoder "
                    "of width 128 (tale-ar-2 not included)")
    weak_at = "Fits one trunk only (its revision is in config.json); words beyond the end of a text are not learned."
    budget_fraction = "half of the places of 8 x 256 words a step; the spec asks for 30,000 steps of 32 x 256"

    def rate(self, name):
        """Slower where the trunk reads: at the full rate its changes undid more in 400 steps than they learned."""
        return 0.2 if name.startswith("layers.") else 1.0

    def batch(self, step, progress):
        made, ahead = super().batch(step, progress), 8
        at = np.random.default_rng((self.seed, step, 1)).permutation(self.length - ahead)[: self.learned_at]
        return {**made, "at": torch.from_numpy(np.sort(at))}

    def loss(self, model, batch, progress):
        """Cross-entropy of the words 1 .. N behind each place, GAMMA times as heavy by each step away; what stands
        behind the end of a text is another one's."""
        reader, ids = model.on(self.base), batch["ids"]
        z = reader.vectors(ids[:, :-1])[:, batch["at"]].flatten(0, 1)  # [M, D]
        words, weight = (future(batch[name], batch["at"], reader.ahead) for name in ("ids", "weight"))
        logits = reader.logits(z, words[:, :-1]).float()
        losses = cross_entropy(logits.flatten(0, 1), words.flatten(), reduction="none").view(words.shape)
        inside = (words == END).cumsum(1) - (words == END).long() == 0
        weight = weight * inside * GAMMA ** torch.arange(reader.ahead, device=ids.device)
        first, fourth = ((losses[:, k] * inside[:, k]).sum().detach() / inside[:, k].sum() for k in (0, 3))
        return (losses * weight).sum() / weight.sum(), {"next": first, "fourth": fourth}

    def quick(self, model):
        return {name: round(float(found.mean()), 3) for name, found in self.measured(model, 20).items()}

    def measured(self, model, n: int) -> dict[str, np.ndarray]:
        """Of n held-out documents: how often the word four ahead is among the five likeliest, nats of the next word."""
        texts = [[END, *self.encode(doc.text), END] for doc in exam(self.world, 41, n)]
        hits, nats, _ = np.transpose([asked(model.on(self.base), ids) for ids in texts])
        return {"word four ahead among the five likeliest": hits, "next word": nats}

    def evaluate(self, model):
        rng = np.random.default_rng(3)
        words = np.concatenate([self.encode(drawn(self.world, rng).text) for _ in range(400)])
        usual = np.sort(np.bincount(words))[-5:].sum() / len(words)
        return {"metrics": {name: mean_figure(found, unit) for (name, found), unit in zip(
            self.measured(model, 200).items(), ("%", "nats"), strict=True)},
            "trivial_baseline": {"the five commonest words": figure(100 * usual, "%", len(words))}}


class TaleHeads(TaleFTP):
    name, network = "tale-heads-1", FutureHeads
    architecture = "FutureHeads: low-rank changes of tale-ar-2, and a linear map for each of 7 distances"


def future(values: torch.Tensor, at: torch.Tensor, ahead: int) -> torch.Tensor:
    """[B * places, ahead]: what stands behind some places of rows [B, T]."""
    return values[:, at[:, None] + 1 + torch.arange(ahead, device=at.device)].flatten(0, 1)
