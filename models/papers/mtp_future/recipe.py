"""text-mtp-1 and algo-mtp-1: masks, gated LoRA and a sampler that guess ahead on a frozen model (arXiv 2507.11851)."""
from pathlib import Path

import numpy as np
import torch

from models.backbones.layout import blocks
from models.papers.mtp_future.network import FutureAdapters, lesson
from models.papers.mtp_future.record import foresight
from models.worlds import arithmetic
from models.worlds.world import PAD, drawn
from training import data, text
from training.export import mean_figure
from training.kinds import Beside
from training.language import written
from training.trainer import rng_of
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE

SHORT, LONG = 4, 8  # masks of a block; three of four blocks are short, because far guesses seldom matter


class MTP(Beside):
    """What both share. written(count, split): texts [count, length] that the base wrote itself, greedily; split 0 to
    train on, 1 to measure."""

    network = FutureAdapters
    length, rows, per_text, own = 0, 16, 32, 0
    first = measured = 1  # no block before this token, and none in a measurement
    lr, lr_adam, decay, ema, look = 0.02, 2e-3, 0.7, 0.99, 90.0

    def prepare(self, folder):
        super().prepare(folder)
        kept = data.kept(Path(folder) / f"{self.name}-own.npz",
                         lambda: {"texts": self.written(self.own, 0), "held": self.written(96, 1)})
        self.texts, self.held = kept["texts"], kept["held"]

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        ids, places = self.chosen(rng, step), np.arange(self.first, self.length - LONG - 1)
        anchors = rng.permutation(places)[: self.per_text]  # in random order: the first ones get the long blocks
        return {"ids": torch.from_numpy(ids), "anchors": torch.from_numpy(anchors)}

    def chosen(self, rng, step) -> np.ndarray:
        """Texts [rows, length] of one step."""
        return self.texts[rng.integers(len(self.texts), size=self.rows)].astype(np.int64)

    def loss(self, model, batch, progress):
        """Sum of the three terms, each the mean over masks whose token counts."""
        count = len(batch["anchors"])
        sizes = [LONG] * (count // 4) + [SHORT] * (count - count // 4)
        layout = blocks(batch["anchors"].tolist(), sizes)
        weight = self.counts(batch["ids"])[:, layout.position + 1]
        terms = lesson(model.on(self.base), batch["ids"], layout)
        mean = {name: (term * weight).sum() / weight.sum() for name, term in terms.items()}
        return sum(mean.values()), {name: term.detach() for name, term in mean.items()}

    def counts(self, ids: torch.Tensor) -> torch.Tensor:
        """1.0 where a token [B, N] is worth guessing."""
        return (ids != PAD).float()

    def quick(self, model):
        _, plain, ahead = self.runs(model, self.held[:24]).mean(1)
        return {"right in a row": round(float(ahead), 3), "without sampler": round(float(plain), 3)}

    def runs(self, model, texts: np.ndarray) -> np.ndarray:
        """Right guesses in a row [3, texts], of SHORT, mean over the base's own tokens, by each of foresight's ways."""
        reader, found = model.on(self.base), []
        for ids in torch.from_numpy(texts.astype(np.int64)):
            ranks = foresight(reader, ids.tolist(), self.measured + 1, SHORT, self.length)  # [3, A, SHORT]
            counted = self.counts(ids[None])[0, self.measured + 2 :].unfold(0, SHORT, 1).numpy()  # [A, SHORT]
            right = ((ranks == 1) * counted).cumprod(-1).sum(-1) * counted[:, 0]
            found.append(right.sum(1) / counted[:, 0].sum())
        return np.stack(found, 1)

    def evaluate(self, model):
        before, plain, ahead = self.runs(model.cpu(), self.held)
        unit = f"of {SHORT} guesses, mean over the places of what {self.trunk} writes"
        return {"metrics": {"right in a row, with the sampler": mean_figure(ahead, unit),
                            "right in a row, masks alone": mean_figure(plain, unit)},
                "trivial_baseline": {"the base fed with fillers": mean_figure(before, unit)}}


class TextMTP(MTP):
    name, trunk, length, own = "text-mtp-1", "text-ar-1", 160, 3072
    minutes = 12.0
    prompt = measured = 104  # greedy text of a small model soon goes in circles, so it is kept short
    architecture = "FutureAdapters: 8 masks, gated LoRA of rank 16, a sampler, on text-ar-1 (not included)"
    trained_on = f"half {BOOKS}, half continuations of them that text-ar-1 wrote itself, greedily"
    data_licence = BOOKS_LICENCE
    weak_at = "Fits one base only (its revision is in config.json); far masks are mostly wrong on stories."
    budget_fraction = "12 minutes on two cores; the spec asks for 10,000 steps of 32 x 256 tokens"

    def prepare(self, folder):
        _, self.train, self.val = text.cached(folder, 4096)
        super().prepare(folder)

    def written(self, count, split):
        tokens, rng = (self.train, self.val)[split], np.random.default_rng((5, split))
        starts = rng.integers(len(tokens) - self.prompt, size=count)
        return written(self.base, [tokens[start : start + self.prompt] for start in starts], self.length)

    def chosen(self, rng, step):
        half = self.rows // 2
        books = data.blocks(self.train, self.length, half, step, self.seed)[:, : self.length]
        return np.concatenate([super().chosen(rng, step)[: self.rows - half], books])


class AlgoMTP(MTP):
    name, trunk, length, own = "algo-mtp-1", "algo-arithmetic-1", 64, 8192
    minutes, lr, lr_adam, rows, per_text, first, measured = 4.0, 0.03, 4e-3, 48, 24, 8, 8
    architecture = "FutureAdapters: 8 masks, gated LoRA of rank 16, a sampler, on algo-arithmetic-1 (not included)"
    trained_on = "worded chains of 3-5 operations on 0-99, made by program and solved, rightly or not, by its base"
    data_licence = "none: made by program"
    weak_at = "Fits one base only (its revision is in config.json) and knows nothing but worded sums."
    budget_fraction = "4 minutes on two cores"

    def prepare(self, folder):
        self.tok = arithmetic.WORLD.tokenizer()
        self.stop_word = self.tok.token_to_id(".")
        super().prepare(folder)

    def written(self, count, split):
        rng, world = np.random.default_rng((6, split)), arithmetic.WORLD
        rows = [[0, *self.tok.encode(drawn(world, rng, held_out=bool(split)).prompt).ids] for _ in range(count)]
        return written(self.base, rows, self.length)[np.random.default_rng(7).permutation(count)]  # not by length

    def counts(self, ids):
        """The solution: what follows the first full stop; nothing behind the end."""
        stops = (ids == self.stop_word).long()
        return ((stops.cumsum(1) > stops) & (ids != PAD)).float()
