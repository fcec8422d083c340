"""star-ilm-1: ways through star graphs by insertion. It has the shape of its controls (training/trunks/star.py) and
reads as many graphs."""
from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from models.claims.star_lab import begun, from_inside
from models.loops.unmask.insertion import side_by_side
from models.papers.ilm.network import InsertionLM
from models.papers.ilm.rule import NOWHERE, lesson
from training.trainer import rng_of
from training.trunks.star import SHAPE, Ways, composed


class StarILM(Ways):
    name, pack, warm_lr = "star-ilm-1", 6, 0.7  # its first run was short
    architecture = "InsertionLM, 4 layers, width 128, 4 heads, tied embeddings, a stop head; a token per node or edge"
    budget_fraction = "the spec asks for 10,000 and more steps of 128 graphs, and three seeds"

    def build(self):
        return composed(InsertionLM(self.tok.get_vocab_size(), *SHAPE[:3], SHAPE.ff))

    def batch(self, step, progress):
        rng, texts, slots = rng_of(self.seed, step), [], []
        targets = torch.full((self.rows, self.most, 2), NOWHERE)
        for row in targets:
            prefix, answer = self.pair(rng)
            kept, missing = lesson(prefix, answer, rng)
            row[: len(missing)] = torch.tensor(missing, dtype=torch.long).reshape(-1, 2)
            texts.append(kept)
            slots.append([i >= len(prefix) - 1 for i in range(len(kept))])
        ids, slots, there = side_by_side(texts, slots, self.length)
        return {"ids": ids, "slots": slots, "there": there, "targets": targets}

    def loss(self, model, batch, progress):
        """The mean cross-entropy of a text's missing (slot, token) pairs under one softmax, and the stop head's."""
        scores, stop = model.told(batch["ids"], batch["slots"], batch["there"])
        slot, token = batch["targets"].unbind(-1)
        missing = slot != NOWHERE
        count, at = missing.sum(1), slot.clamp_min(0) * scores.shape[2] + token.clamp_min(0)
        flat = scores.flatten(1)
        nats = torch.where(missing, flat.logsumexp(1)[:, None] - flat.gather(1, at), 0.0)
        insert = (nats.sum(1) / count.clamp_min(1)).mean()
        ends = cross_entropy(stop, (count == 0).long())
        return insert + ends, {"insert": insert.detach(), "stop": ends.detach()}

    def texts(self, model, docs):
        return from_inside(model, self.tok, [begun(self.tok, doc) for doc in docs])
