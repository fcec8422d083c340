"""tale-clause-1, clauses in and out of one vector, and tale-sllm-1, a language model over them (arXiv 2408.00655)."""
from __future__ import annotations

import copy

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

from models.papers.sentencevae.claim import behind, come_again, split
from models.papers.sentencevae.network import ClauseCoder, rows_of, targets
from models.worlds import tales
from models.worlds.world import PAD, drawn, exam
from training.export import mean_figure, read_shipped
from training.kinds import Beside
from training.trainer import rng_of
from training.trunks.tale_ar import TaleAR


class TaleClause(Beside, TaleAR):
    name, trunk, network, world = "tale-clause-1", "tale-ar-2", ClauseCoder, tales.GRAMMARS["stories"]
    minutes, lr, lr_adam, warmup, decay, look, pack = 10.0, 0.02, 3e-3, 0.02, 0.6, 120.0, 4
    rows = 12  # stories a step
    architecture = ("ClauseCoder: a 1-layer encoder and a 2-layer decoder of width 192 around one vector (the words' "
                    "table is tale-ar-2's, not included)")
    trained_on = "clause stories, made by program (models/worlds/tales)"
    weak_at = "Fits one trunk only (its revision is in config.json), and knows the clauses of stories alone."
    budget_fraction = "10 minutes of half a core, 150 clauses a step; the spec asks for 20,000 steps of 256 clauses"
    said, unit = ("words and ends that come out again", "the same from another clause's vector"), "%"

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        told = [split(self.tok, drawn(self.world, rng).text) for _ in range(self.rows)]
        rows = rows_of([clause for clauses in told for clause in clauses])
        return {"ids": pad_sequence(rows.split(list(map(len, told))), True, PAD)}  # [B, M, T]

    def loss(self, model, batch, progress):
        reader, rows = model.on(self.base), batch["ids"][batch["ids"][..., 0] != PAD]  # [N, T]
        return focal(reader.logits(reader.encode(rows), rows), targets(rows)), {}

    score = staticmethod(come_again)  # by its own vectors, and by less

    @torch.no_grad()
    def measured(self, model, n: int, seed: int = 43) -> tuple[np.ndarray, np.ndarray]:
        reader, texts = model.on(self.base), [split(self.tok, doc.text) for doc in exam(self.world, seed, n)]
        return tuple(np.transpose([self.score(reader, rows_of(clauses)) for clauses in texts]))

    def quick(self, model):
        return {self.unit: round(float(self.measured(model, 20)[0].mean()), 3)}

    def evaluate(self, model):
        own, trivial = (mean_figure(found, self.unit) for found in self.measured(model, 200))
        return {"metrics": {self.said[0]: own}, "trivial_baseline": {self.said[1]: trivial}}


class TaleSLLM(TaleClause):
    name, coder, minutes, pack = "tale-sllm-1", "tale-clause-1", 18.0, 6
    architecture = ("ClauseCoder: tale-clause-1's encoder and decoder, trained on, low-rank changes of tale-ar-2's 6 "
                    "layers, and a head that says whether another clause follows (tale-ar-2 not included)")
    budget_fraction = "18 minutes of half a core, 12 stories a step; the spec asks for 20,000 steps of 32 passages"
    said, unit = ("next clauses, their ends and the text's", "the same from the last clause alone"), "nats/word"

    def rate(self, name):
        return 0.5 if name.startswith("layers.") else 1.0

    def build(self):
        model = self.network.beside(self.base, self.trunk, self.revision, rank=32)
        model.load_state_dict(read_shipped(self.coder).state_dict(), strict=False)
        return model

    def loss(self, model, batch, progress):
        reader, ids = model.on(self.base), batch["ids"]
        there = ids[..., 0] != PAD  # [B, M]
        z = reader.predict(pad_sequence(reader.encode(ids[there]).float().split(there.sum(1).tolist()), True))
        follows = there.roll(-1, 1)
        follows[:, -1] = False
        rows = ids[:, 1:][follows[:, :-1]]
        words = focal(reader.logits(z[follows], rows), targets(rows))
        stop = focal(model.another_head(z[there]), follows[there].long())
        return words + stop * (stop > 0.01), {"words": words.detach(), "stop": stop.detach()}

    def score(self, reader, rows):
        return [float(reader.story_nats(rows, alone)) / len(behind(rows)) for alone in (False, True)]

    def final(self, model):
        """The focal loss leaves the decoder too unsure: its logits are scaled once, as suits 40 other stories best."""
        scales = (1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
        twins = [copy.deepcopy(model) for _ in scales]
        for twin, scale in zip(twins, scales, strict=True):
            twin.out.weight.data *= scale
            twin.out.bias.data *= scale
        return min(twins, key=lambda twin: self.measured(twin, 40, seed=47)[0].mean())


def focal(logits: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Mean of (1 - p)^2 (-log p) over what is wanted."""
    nats = cross_entropy(logits.float().flatten(0, -2), wanted.flatten(), reduction="none", ignore_index=PAD)
    return ((1 - (-nats).exp()) ** 2 * nats).sum() / (wanted != PAD).sum()
