"""tale-hlp-1 and its control tale-fim-1: tale-ar-2 learns to fill gaps, with and without what is left of them.

Both read the same batches for as many steps. The control has a gauge, too, which learns from states that it cannot
change: what next-word prediction alone knows of the length.
"""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.papers.hlp.gaps import EOI, KINDS, OUTSIDE, asked, cut, fill, horizon, lesson, right, said
from models.papers.hlp.network import HorizonLlama
from models.worlds import tales
from models.worlds.world import END, PAD, drawn
from training.export import mean_figure
from training.kinds import FineTune
from training.trainer import rng_of
from training.trunks.tale_ar import TaleAR

GAPS, WEIGHT = 0.75, 0.1  # share of the texts that have a gap, and the weight of what is left in the loss


class TaleHLP(FineTune, TaleAR):
    name, trunk, ship, pack = "tale-hlp-1", "tale-ar-2", "delta3:64", 0
    minutes, lr, lr_adam, warmup, decay, look = 15.0, 0.01, 3e-3, 0.03, 0.6, 300.0
    rows, length = 12, 256
    shapes = True  # whether what is left changes the network, or is only read off it
    architecture = "HorizonLlama: LlamaForCausalLM as tale-ar-2, and a linear gauge on the last state"
    trained_on = "stories and programs (models/worlds/tales), three in four with a gap to fill, made by program"
    weak_at = "Fills gaps in two kinds of little texts only."
    budget_fraction = "three texts in four have a gap; the spec asks for 10,000 steps and three seeds"

    def build(self):
        return HorizonLlama.on(super().build())

    def batch(self, step, progress):
        """Whole texts one behind the other, <|endoftext|> between them; none is torn at the end of a row."""
        rng, waiting = rng_of(self.seed, step), None
        ids = torch.full((self.rows, self.length + 1), PAD)
        left = torch.full((self.rows, self.length + 1), OUTSIDE)
        for row, share in zip(ids, left, strict=True):
            row[0], at = END, 1
            while True:
                words, shares = waiting = waiting or self.text(rng)
                if (end := at + len(words)) > len(row):
                    break
                row[at:end], share[at:end] = torch.tensor(words), torch.tensor(shares)
                at, waiting = end, None
        return {"ids": ids, "left": left}

    def text(self, rng) -> tuple[list[int], list[float]]:
        """A story or a program with its end, most of them with a gap."""
        words = self.encode(drawn(tales.GRAMMARS[KINDS[int(rng.integers(len(KINDS)))]], rng).text)
        if rng.random() >= GAPS:
            return [*words, END], [OUTSIDE] * (len(words) + 1)
        asking, shares = lesson(cut(words, rng))
        return [*asking[1:], END], [*shares[1:], OUTSIDE]

    def loss(self, model, batch, progress):
        """Cross-entropy of every next word, and the mean distance of the gauge inside the gaps."""
        states = model.model(batch["ids"][:, :-1], use_cache=False).last_hidden_state
        nats = cross_entropy(model.lm_head(states).flatten(0, 1).float(), batch["ids"][:, 1:].flatten(),
                             ignore_index=PAD)
        left, said = batch["left"][:, :-1], model.gauge(states if self.shapes else states.detach())
        inside = left != OUTSIDE
        error = ((said - left).abs() * inside).sum() / inside.sum()
        return nats + WEIGHT * error, {"nats": nats.detach(), "gauge": error.detach()}

    def quick(self, model):
        return {name: round(float(np.mean(found)), 3) for name, found in self.measured(model, 16).items()}

    def measured(self, model, n: int) -> dict[str, np.ndarray]:
        """Of n gaps of each kind: is the text right again, was no end found, how far off is the gauge inside."""
        found = {}
        for kind in KINDS:
            gaps = asked(kind, self.encode, n, 61)
            made = fill(model, gaps)
            found[f"right, {kind}"] = [right(self.tok, *pair) for pair in zip(gaps, made)]
            found[f"no end, {kind}"] = [words[-1] != EOI for words in made]
            found[f"gauge off, {kind}"] = [np.abs(said(model, gap) - horizon(gap.count))[1:-1].mean() for gap in gaps]
        return {name: np.array(one, float) for name, one in found.items()}

    def evaluate(self, model):
        empty = {kind: np.array([right(self.tok, gap, []) for gap in asked(kind, self.encode, 150, 61)], float)
                 for kind in KINDS}
        return {"metrics": {name: mean_figure(one, "share") for name, one in self.measured(model, 150).items()},
                "trivial_baseline": {f"right, {kind}, nothing in the gap": mean_figure(one, "share")
                                     for kind, one in empty.items()}}


class TaleFIM(TaleHLP):
    name, shapes = "tale-fim-1", False
    weak_at = "Fills gaps by next-word prediction alone: the control, not HLP. Its gauge is read off, not taught."
