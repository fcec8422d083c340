"""Three networks from nothing: one whose symbols mean nothing beforehand, its ordinary twin, and the toy's."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.papers.lexinvariant import markov
from models.papers.lexinvariant.alphabet import SYMBOLS, encoded
from models.papers.lexinvariant.network import LexinvariantLM
from models.papers.lexinvariant.reading import EARLY, LATE, apart, counting, looked, nats
from training import data
from training.export import mean_figure
from training.trainer import Recipe, rng_of


class StoryCipher(Recipe):
    """Fresh vectors for every symbol in every row. Rows are short at first, so that a batch has many tables."""

    name = "story-lexinvariant-1"
    minutes, lr, lr_adam, warmup, decay, look, pack = 30.0, 0.006, 2e-3, 0.03, 0.5, 240.0, 6
    tokens, length, short, learned, symbols = 4096, 512, 128, False, SYMBOLS
    compile = False  # half an hour on a quarter of a core: compiling takes longer than it saves
    asked = 400  # held-out passages that the card's figures are measured on
    architecture = "LexinvariantLM, 6 Llama layers, width 128, 2 heads, no table of symbols; probes beside each layer"
    trained_on = "123 public-domain children's books in small letters (37 symbols), fresh random vectors in every row"
    data_licence = "texts in the public domain in the USA (Project Gutenberg, names and boilerplate removed)"
    weak_at = "Knows nothing in the first lines of a text; 512 characters at most, in 37 symbols."
    budget_fraction = "half an hour of a quarter of a core; the spec has 40,000 steps of 32 x 512 characters"

    def prepare(self, folder):
        self.train, self.val = (np.concatenate([encoded(book) for book in data.stories(split)])
                                for split in ("train", "val"))

    def build(self):
        return LexinvariantLM(len(self.symbols), learned=self.learned)

    def batch(self, step, progress):
        length = self.short if progress < 0.5 else self.length
        return {"ids": torch.from_numpy(self.texts(step, length))}

    def texts(self, step: int, length: int) -> np.ndarray:
        """Rows [B, T + 1] of real symbols: under vectors of their own a cipher would change nothing."""
        return data.blocks(self.train, length, self.tokens // length, step, self.seed)

    def loss(self, model, batch, progress):
        ids = batch["ids"]
        table = model.vectors(len(ids), torch.default_generator)  # the trainer sets its seed before each step
        states = model.states(ids[:, :-1], table)
        lost = cross_entropy(model.logits(states[-1], table).flatten(0, 1).float(), ids[:, 1:].flatten())
        said = model.deciphered(tuple(state[:, 3::4] for state in states))  # every fourth place: it is only a reader
        probe = cross_entropy(said.flatten(0, 2).float(), ids[:, 3:-1:4].expand(len(states), -1, -1).flatten())
        return lost + probe, {"nats": lost.detach(), "probe": probe.detach()}

    def quick(self, model):
        found, read = self.measured(model, self.held_out(64))
        return {"early": round(float(found[:, EARLY].mean()), 3), "late": round(float(found[:, LATE].mean()), 3),
                "read": read[:, :, LATE].mean((1, 2)).round(3).tolist()}

    def held_out(self, count: int) -> np.ndarray:
        """Passages [N, T + 1] spread evenly over the held-out books."""
        starts = np.linspace(0, len(self.val) - self.length - 1, count).astype(int)
        return np.stack([self.val[start : start + self.length + 1] for start in starts]).astype(np.int64)

    def measured(self, model, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Surprise [N, T], and whether each layer's probe names the real symbol [L, N, T + 1]."""
        dice, found, read = torch.Generator().manual_seed(3), [], []
        for some in np.array_split(rows, max(1, len(rows) // 16)):
            logits, said = looked(model, some, dice)
            found.append(nats(logits, some))
            read.append(said.argmax(-1).cpu().numpy() == some)
        return np.concatenate(found), np.concatenate(read, 1)

    def evaluate(self, model):
        rows = self.held_out(self.asked)
        (found, read), simple = self.measured(model, rows), counting(rows, len(SYMBOLS))
        layers = {f"real symbol read after layer {layer}, characters 384-512":
                  mean_figure(right[:, LATE].mean(1), "share") for layer, right in enumerate(read, 1)}
        return {"metrics": {"loss of characters 384-512": mean_figure(found[:, LATE].mean(1), "nats"),
                            "loss of characters 16-64": mean_figure(found[:, EARLY].mean(1), "nats"), **layers},
                "trivial_baseline": {"loss of one who counts symbols as they come, characters 384-512":
                                     mean_figure(simple[:, LATE].mean(1), "nats")}}


class StoryPlain(StoryCipher):
    """The ordinary twin: a learned table, the same passages."""

    name, learned, minutes = "story-plain-1", True, 15.0
    architecture = "LexinvariantLM with a learned table, 6 Llama layers, width 128, 2 heads"
    trained_on = "123 public-domain children's books in small letters (37 symbols)"
    weak_at = "A small twin for comparison; 512 characters at most, in 37 symbols, and lost under a cipher."
    budget_fraction = "a quarter of an hour of a quarter of a core: about half of story-lexinvariant-1's steps"


class MarkovCipher(StoryCipher):
    """The toy: a known table of five letters under fresh vectors."""

    name, symbols, minutes, tokens, length, short, look = "markov-lexinvariant-1", SYMBOLS[:5], 9.0, 3072, 96, 96, 60.0
    lr = 0.015
    architecture = "LexinvariantLM, 2 Llama layers, width 64, 2 heads, no table of symbols"
    trained_on = "chains of five letters drawn by one table, fresh random vectors in every row"
    data_licence = "none: made by program"
    weak_at = "Knows one table of five letters, and nothing else."
    budget_fraction = "1 (a toy)"

    def prepare(self, folder):
        self.val = None

    def build(self):
        return LexinvariantLM(5, 64, 2, 2, 192, 16)

    def texts(self, step, length):
        return markov.chains(rng_of(self.seed, step), self.tokens // length, length + 1)

    def held_out(self, count):
        return markov.chains(np.random.default_rng(11), count, self.length + 1)

    def quick(self, model):
        return {"kl": round(float(self.kl(model, 64).mean()), 4)}

    def kl(self, model, count: int) -> np.ndarray:
        rows = self.held_out(count)[:, :-1]
        return apart(looked(model, rows, torch.Generator().manual_seed(3))[0], rows)

    def evaluate(self, model):
        truth = np.stack([markov.exact(row[:-1])[1] for row in self.held_out(self.asked)])
        even = (truth * np.log(5 * truth)).sum(-1)
        return {"metrics": {"KL of the exact decipherer to the network":
                            mean_figure(self.kl(model, self.asked).mean(1), "nats")},
                "trivial_baseline": {"KL to one who says a fifth each": mean_figure(even.mean(1), "nats")}}
