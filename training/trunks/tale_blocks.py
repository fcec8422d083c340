"""tale-blocks-1: block diffusion on short stories (models/backbones/block_diffusion.py), from the layers of tale-ar-2.
"""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.backbones.block_diffusion import LONGEST, SIZES, BlockDiffusionLM
from models.loops.sample.cached_lm import nats
from models.worlds.tales.headings import LENGTH, WORLD, headed
from models.worlds.world import END, MASK, drawn, exam
from training import text
from training.export import mean_figure, read_shipped, save_hub
from training.kinds import FineTune
from training.trainer import Recipe, rng_of


class TaleBlocks(FineTune, Recipe):
    name, trunk, ship = "tale-blocks-1", "tale-ar-2", "delta4"
    minutes, lr, lr_adam, decay, look, rows = 12.0, 0.015, 2e-3, 0.6, 200.0, 16
    architecture = ("BlockDiffusionLM, 6 layers, width 192, 4 heads, tied embeddings, one token per word (1,024), "
                    "blocks of 1 to 16 words")
    trained_on = "stories of one topic (models/worlds/tales), from the layers of tale-ar-2"
    data_licence = "none: made by program"
    weak_at = "Writes one kind of story, of at most 78 words and signs."
    budget_fraction = "12 minutes of one thread; the spec asks for 40,000 steps"

    def prepare(self, folder):
        self.tok = WORLD.tokenizer()

    def build(self):
        model = BlockDiffusionLM(self.tok.get_vocab_size())
        causal = read_shipped(self.trunk).state_dict()
        causal.pop("lm_head.weight", None)  # tied
        model.load_state_dict(causal)
        return model

    def batch(self, step, progress):
        return lesson([headed(drawn(WORLD, rng), rng) for rng in (rng_of(self.seed, step),) for _ in range(self.rows)],
                      self.tok, rng_of(self.seed + 1, step))

    def loss(self, model, batch, progress):
        return self.nats(model, batch).sum() / batch["counted"].sum(), {}

    def nats(self, model, batch) -> torch.Tensor:
        """The weighed nats [B, N] of what was masked."""
        logits = model(torch.where(batch["masked"], MASK, batch["ids"]), batch["ids"], batch["blocks"])
        return torch.where(batch["masked"], nats(logits, batch["ids"]), 0.0) * batch["weight"]

    def bounds(self, model, n: int, size: int) -> np.ndarray:
        """Nats per word of n held-out stories, an upper bound on average, in blocks of one size."""
        docs, rng = exam(WORLD, 31, n), np.random.default_rng(5)
        found = []
        for at in range(0, n, 50):
            batch = lesson([headed(doc, rng) for doc in docs[at: at + 50]], self.tok, rng, size)
            found.append(self.nats(model, batch).sum(1) / batch["counted"].sum(1))
        return torch.cat(found).numpy()

    def quick(self, model):
        return {f"bound, blocks of {size}": round(float(self.bounds(model, 50, size).mean()), 3) for size in (1, 4, 16)}

    def evaluate(self, model):
        bounds = {size: self.bounds(model, 300, size) for size in SIZES}
        return {"metrics": {f"bound, blocks of {size}": mean_figure(found, "nats per word")
                            for size, found in bounds.items()},
                "trivial_baseline": {"tale-ar-2, from left to right": mean_figure(self.causal(300), "nats per word")}}

    def causal(self, n: int) -> np.ndarray:
        """Nats per word of the network that it began as, of stories under their full headings."""
        base, found = read_shipped(self.trunk), []
        for doc in exam(WORLD, 31, n):
            prompt, told = ([*first, *self.tok.encode(piece).ids] for first, piece in zip(([END], []), doc.pieces))
            ids = torch.tensor([[*prompt, *told, END]])
            logits = base(ids[:, :-1], use_cache=False).logits[0, len(prompt) - 1:].float()
            found.append(float(cross_entropy(logits, ids[0, len(prompt):])))
        return np.array(found)

    def save(self, model, folder):
        save_hub(model, folder)
        text.wrap(self.tok, unk_token="<|unk|>", clean_up_tokenization_spaces=True).save_pretrained(folder)


def lesson(told: list[tuple[str, str]], tok, rng: np.random.Generator, size: int = 0) -> dict[str, torch.Tensor]:
    """Texts of a heading and a story in blocks, in each of which l ~ U(1..L) of its words are masked, their loss times
    L / l: the mean over all orders of filling it in. The heading and now and then more is given. size: of all blocks,
    by default of one size in half of the texts and mixed in the others. What stands behind the end is the end again, as
    far as the block of the end goes.
    """
    ids = torch.full((len(told), LENGTH), END)
    blocks, masked = torch.zeros(len(told), LENGTH, dtype=torch.long), torch.zeros(len(told), LENGTH, dtype=torch.bool)
    weight, counted = torch.zeros(len(told), LENGTH), torch.zeros(len(told), LENGTH)
    for row, (heading, story) in enumerate(told):
        prompt, words = [END, *tok.encode(heading).ids], tok.encode(story).ids
        whole = [*prompt, *words]
        ids[row, : len(whole)] = torch.tensor(whole)
        at = len(prompt) if size or rng.random() < 0.5 else int(rng.integers(len(prompt), LONGEST + 1))
        same = size or (SIZES[int(rng.integers(len(SIZES)))] if rng.random() < 0.5 else 0)
        number = 0
        while at <= len(whole) and at < LENGTH:
            long = min(same or SIZES[int(rng.integers(len(SIZES)))], LENGTH - at)
            number += 1
            blocks[row, at:] = number
            some = int(rng.integers(1, long + 1))
            masked[row, at + torch.from_numpy(rng.permutation(long)[:some])] = True
            weight[row, at : at + long] = long / some
            counted[row, at : at + long] = (torch.arange(at, at + long) <= len(whole)).float()
            at += long
        blocks[row, at:] = number + 1
    return {"ids": ids, "blocks": blocks, "masked": masked, "weight": weight, "counted": counted}
