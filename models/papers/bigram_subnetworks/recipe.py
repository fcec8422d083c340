"""Masks over text-ar-1 that leave a bigram model, and the table they are taught (arXiv 2504.15471)."""
import numpy as np
import torch

from models.backbones import weight_masks
from models.papers.bigram_subnetworks.network import BigramTable, correlation, surprisals
from training import data, text
from training.export import figure
from training.kinds import Bits
from training.trainer import Recipe
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE

LENGTH = 128  # tokens of a row, as the authors


class Bigrams(Recipe):
    """Counted, not trained: `python -m training text-bigrams-1 --export-only`."""

    name = "text-bigrams-1"
    architecture = "BigramTable: the count of every pair of tokens (byte-level BPE 4,096), two bytes per pair"
    trained_on, data_licence = f"{BOOKS}, counted", BOOKS_LICENCE
    weak_at = "Sees one token back. A pair that the books have not has probability 0."
    budget_fraction = "all of the text"

    def prepare(self, folder):
        _, self.train, self.val = text.cached(folder, 4096)

    def build(self):
        return BigramTable.counted(self.train, 4096)

    def evaluate(self, model):
        ids = held_out(self.val)
        bigram = of_pairs(model, ids)
        alone = -model.alone[ids[:, 1:]].log()
        seen = torch.isfinite(bigram)
        share = figure(seen.float().mean(), "share", seen.numel())
        return {"metrics": {"surprisal of seen pairs": figure(bigram[seen].mean(), "nats per token", int(seen.sum())),
                            "pairs that the books have": share},
                "trivial_baseline": {"without the token before": figure(alone[seen].mean(), "nats per token",
                                                                        int(seen.sum()))}}


class BigramMask(Bits):
    name, trunk = "text-bigram-10-1", "text-ar-1"
    sparsity = 10.0  # lambda
    minutes, rows, lr_adam = 24.0, 4, 3e-3
    architecture = "LlamaForCausalLM as text-ar-1, of whose block weights only those stay that make a bigram model"
    trained_on, data_licence = f"pair counts of {BOOKS}, at every token of rows of 128", BOOKS_LICENCE
    weak_at = "Knows one token back, by intention. Fits one revision of text-ar-1."
    budget_fraction = "240 steps of 4 x 128 tokens against the authors' 15,000 of 32 x 128; r had stopped moving"

    def prepare(self, folder):
        super().prepare(folder)
        _, self.train, self.val = text.cached(folder, 4096)
        self.table = BigramTable.counted(self.train, 4096)
        self.target = self.table(torch.arange(4096)).half()  # [V, V]

    def place(self, device):
        super().place(device)
        self.target = self.target.to(device)

    def batch(self, step, progress):
        rows = data.blocks(self.train, LENGTH, self.rows, step, self.seed)[:, :LENGTH]
        return {"ids": torch.from_numpy(rows)}

    def loss(self, model, batch, progress):
        """Cross-entropy of the bigram distribution, and lambda times the mean mask."""
        soft = self.soft(model, progress)
        logits = weight_masks.call(self.base, soft, batch["ids"], use_cache=False).logits
        logp = logits.float().log_softmax(-1)  # [B, N, V]
        cross = -(self.target[batch["ids"]].float() * logp).sum(-1).mean()
        mean = sum(m.sum() for m in soft.values()) / sum(m.numel() for m in soft.values())
        return cross + self.sparsity * mean, {"cross": cross.detach(), "mask": mean.detach()}

    def quick(self, model):
        found = super().quick(model)
        ids = held_out(self.val, 16)
        masked = self.told(ids, model.hard())
        return {**found, "r": round(correlation(masked, of_pairs(self.table, ids)), 4)}

    @torch.no_grad()
    def told(self, ids, masks) -> torch.Tensor:
        """Surprisals [B, N - 1] of the trunk with only these weights."""
        place = next(self.base.parameters()).device
        return torch.cat([surprisals(weight_masks.call(self.base, masks, some.to(place), use_cache=False).logits[:, :-1]
                                     .float().log_softmax(-1), some.to(place)).cpu() for some in ids.split(16)])

    def evaluate(self, model):
        """model: the network that was shipped; its masks are read off its weights."""
        self.base.cpu()
        ids = held_out(self.val)
        masks, bigram = weight_masks.found(model), of_pairs(self.table, ids)
        none = {name: torch.zeros_like(mask) for name, mask in masks.items()}
        chance = weight_masks.permuted(masks, torch.Generator().manual_seed(0))
        r = {name: figure(correlation(self.told(ids, some), bigram), "Pearson r of surprisals", ids[:, 1:].numel())
             for name, some in {"these": masks, "as many random weights": chance, "no weights of the blocks": none,
                                "all weights": {}}.items()}
        return {"metrics": {"correlation with the bigram table": r.pop("these"),
                            "weights kept": figure(100 * weight_masks.kept(masks), "% of the blocks'", len(masks)),
                            "undecided at the end": figure(self.undecided, "of those kept", len(masks))},
                "trivial_baseline": {f"correlation, {name}": one for name, one in r.items()}}


class BigramMaskSparse(BigramMask):
    name, sparsity = "text-bigram-100-1", 100.0


def held_out(tokens: np.ndarray, rows: int = 160) -> torch.Tensor:
    """Rows [rows, LENGTH] spread evenly over a stream."""
    starts = np.linspace(0, len(tokens) - LENGTH, rows).astype(int)
    return torch.from_numpy(np.stack([tokens[start : start + LENGTH] for start in starts]).astype(np.int64))


def of_pairs(table: BigramTable, ids: torch.Tensor) -> torch.Tensor:
    """The table's surprisals [B, N - 1]; infinite where the books have not the pair."""
    return torch.cat([surprisals(table(row[:-1]).log()[None], row[None]) for row in ids])
