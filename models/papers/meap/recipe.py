"""MEAP and its control: text-ar-1, trained on by the retrieval model's recipe, with and without holes in the input.

Both see the same batches in the same order. Documents are shorter than text-ar-retrieval-2's and have more questions
each: with those a network learns within 300 steps to tell one note from another.
"""
from __future__ import annotations

import torch

from models.papers.meap.rule import punched
from training.kinds import Rounded
from training.trunks.text_retrieval import TextRetrieval


class NextToken(TextRetrieval):
    """The control. One token in 512 is [MASK], a noise key, so that probes do not feed it an untrained embedding."""

    name, share, blank = "text-ntp-1", 0.001, 1
    minutes, look, ship = 15.0, 180.0, "delta3"
    length, story_rows, task_rows = 512, 2, 6
    kinds, more = ("notes", "notes", "passages", "passages", "needle"), 6
    shortest, longest_first, longest, grown = 15, 40, 200, 0.9
    exam = {"notes": (60, 120, 300), "needle": (100, 400, 900), "passages": (60, 120, 300)}  # tokens
    trained_on = TextRetrieval.trained_on.replace("(half)", "(a quarter)", 1).replace("(half)", "(three quarters)")
    weak_at = "Finds what is asked for among a few notes or passages; beyond the 200 tokens of training it errs more."
    budget_fraction = "360 steps of 8 x 512 tokens on one thread; the paper trains 1.1 B parameters from scratch"

    def batch(self, step, progress):
        made = super().batch(step, progress)
        holes = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        return {**made, "seen": punched(made["ids"][:, :-1], self.share, self.blank, holes)}

    def evaluate(self, model):
        return self.answered(model, 20)


class MaskEnhanced(NextToken):
    """The same, and 15 % of the input is [MASK]; the loss is on every position, masked or not, as before."""

    name, share = "text-meap-1", 0.15


class NextTokenSecond(Rounded, NextToken):
    """The control, gone on with as long as MEAP: after 360 steps MEAP could not yet tell notes apart."""

    name, start, replaces = "text-ntp-2", "text-ntp-1", "text-ntp-1"
    warm_lr, decay, minutes = 0.25, 0.8, 8.0
    budget_fraction = "600 steps of 8 x 512 tokens on one thread; the paper trains 1.1 B parameters from scratch"


class MaskEnhancedSecond(NextTokenSecond):
    name, start, replaces, share = "text-meap-2", "text-meap-1", "text-meap-1", MaskEnhanced.share
    weak_at = "Finds the one number in a story, but after 600 steps still guesses which of several notes is asked for."
