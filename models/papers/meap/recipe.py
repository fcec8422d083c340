"""MEAP and its control: text-ar-1, trained on by the retrieval model's recipe, with and without holes in the input.

Both see the same batches in the same order. Documents are shorter than text-ar-retrieval-2's and grow more slowly: at
its lengths 350 steps had not taught it to tell one note from another.
"""
from __future__ import annotations

import numpy as np
import torch

from models.papers.meap.rule import punched
from models.worlds import retrieval
from training.trunks.text_retrieval import TextRetrieval


class NextToken(TextRetrieval):
    """The control. One token in 512 is [MASK], a noise key, so that probes do not feed it an untrained embedding."""

    name, share, blank = "text-ntp-1", 0.001, 1
    minutes, look, pack = 25.0, 150.0, 4
    length, story_rows, task_rows = 512, 2, 6
    kinds, more = ("notes", "notes", "passages", "passages", "needle"), 6
    shortest, longest_first, longest, grown = 15, 40, 420, 0.9
    exam = dict.fromkeys(retrieval.KINDS, (60, 120, 250, 500))
    trained_on = TextRetrieval.trained_on.replace("(half)", "(a quarter)", 1).replace("(half)", "(three quarters)")
    weak_at = "Picks one of many notes or passages by luck once there are more than a few."
    budget_fraction = "25 minutes of one thread beside other work; the paper trains 1.1 B parameters from scratch"

    def batch(self, step, progress):
        made = super().batch(step, progress)
        holes = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return {**made, "seen": punched(made["ids"][:, :-1], self.share, self.blank, holes)}

    def quick(self, model):
        return {f"{kind} {tokens}": round(float(np.mean(self.solve(model, kind, tokens, 16))), 2)
                for kind in ("notes", "passages") for tokens in (60, 120, 250)}


class MaskEnhanced(NextToken):
    """The same, and 15 % of the input is [MASK]; the loss is on every position, masked or not, as before."""

    name, share = "text-meap-1", 0.15
