"""The arms of BICO: tale-ar-1 is told of the people of groups A and B, of each in one direction, by low-rank changes.

All arms read the same texts in the same order: of group A from name to work, of B from work to name, and of C, whom the
trunk knows, both ways, so that looking ahead is learned on facts that are known already. In every second batch, by a
coin that falls alike for all, the method's arms hide words and look both ways; next-token prediction goes on as ever.
"""
from __future__ import annotations

import numpy as np
import torch

from models.papers.bico.exam import AHEAD, ASKED, BACK, PEOPLE, SAID, TOLD, answered, questions
from models.papers.bico.network import look_around, selected, told_by_the_one_before
from models.worlds.tales.forms import fill, one
from models.worlds.world import END, MASK, PAD
from training.export import figure, read_shipped
from training.kinds import FineTune
from training.trainer import rng_of
from training.trunks.tale_ar import TaleAR

ROWS, LONGEST, RATE = 24, 18, 0.3  # texts of a step, tokens of the longest, and the share of words that are hidden
MIX = (0.5, 0.1, 0.4)  # of the texts, about groups A, B and C
FIRST = 0.2  # of the run: so long the batches with hidden words are about C alone


class TaleBico(FineTune, TaleAR):
    """Half of the batches by next-token prediction, half with hidden words, looking both ways."""

    name, trunk, tune, ship, pack = "tale-bico-1", "tale-ar-1", "lora:16", "rank:16", 0
    minutes, lr, lr_adam, warmup, decay, look, compile = 9.0, 0.0, 3e-3, 0.03, 0.4, 90.0, False  # AdamW alone
    autocast = False
    both, flip = True, True
    trained_on = "who 60 people are, each said in one direction alone, among 100 who were known (worlds/tales/facts.py)"
    weak_at = "What it was told from name to work it says from work to name far less well."
    budget_fraction = "half of the batches look both ways; the paper trains 20 epochs on Llama-2-7B"

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        coin, ids = rng.random() < 0.5, torch.full((ROWS, LONGEST), PAD)
        for row in ids:
            text = self.told(rng, (0.0, 0.0, 1.0) if coin and progress < FIRST else MIX)
            row[: len(text)] = torch.tensor(text)
        return {"ids": ids, "hidden": selected(ids, RATE * coin * self.both, torch.from_numpy(rng.random(ids.shape)))}

    def told(self, rng, mix=MIX) -> list[int]:
        """Of somebody in group A from name to work, of somebody in B from work to name, of C in either way."""
        group = "ABC"[int(rng.choice(3, p=mix))]
        known, way = one(rng, PEOPLE[group]), TOLD[group] or one(rng, (AHEAD, AHEAD, AHEAD, BACK))
        return [END, *self.encode(fill(one(rng, SAID[way]), name=known.name, work=known.work)), END]

    def loss(self, model, batch, progress):
        ids, hidden = batch["ids"], batch["hidden"]
        if bool(hidden.any()):
            logits = look_around(model, ids.masked_fill(hidden, MASK), ~hidden & (ids != PAD), self.flip)
            return told_by_the_one_before(logits, ids, hidden), {}
        return told_by_the_one_before(model(ids, use_cache=False).logits, ids, ids != PAD), {}

    def quick(self, model):
        """Right and median rank in the first of the five forms that are asked."""
        found = {f"{group}, {way}": answered(model, self.encode, questions(PEOPLE[group], way, ASKED[
            way][:1])) for group in "AB" for way in (AHEAD, BACK)}
        return {name: [round(float(one.right.mean()), 3), round(float(np.median(one.rank)), 1)] for name, one in
                found.items()}

    def evaluate(self, model):
        def shares(net) -> dict:
            found = {f"told {told}, asked {way}": answered(net, self.encode, questions(PEOPLE[group], way, ASKED[
                way])).right.reshape(len(PEOPLE[group]), -1).mean(1)
                for group, told in (("A", AHEAD), ("B", BACK)) for way in (AHEAD, BACK)}
            return {name: figure(right.mean(), "share", len(right), right) for name, right in found.items()}
        return {"metrics": shares(model), "trivial_baseline": {f"tale-ar-1, {name}": one for name, one in shares(
            read_shipped(self.trunk)).items()}}


class TaleBicoNoFlip(TaleBico):
    name, flip = "tale-bico-noflip-1", False
    weak_at = "Looks ahead with rotary positions as they are: a control, not BICO."


class TaleBicoNtp(TaleBico):
    name, both = "tale-bico-ntp-1", False
    weak_at = "What it was told from name to work it cannot say from work to name: the reversal curse, on purpose."
    budget_fraction = "as many steps as tale-bico-1, all of next-token prediction"
