"""A page in the demo's web: who is linked to it, and what the adapter hears of them."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from models.engine.method import Job
from models.loops.sample.mixed_lm import MixedReader, Mixture
from models.papers.graphadapter.rule import read
from models.trace import Cost
from models.trace.params import ParamError
from models.trace.subject import SubjectError
from models.worlds import pages
from models.worlds.tales.words import NAMES

CHECKPOINTS = {arm: f"tale-graph-{arm}-1" for arm in ("sage", "gat", "mlp", "rewired", "own")}
DEMO = 3077  # the web on the page; training has 0 to 239


class LinkedPage(MixedReader):
    """Somebody's page, "Mia: You can meet Mia in the", in the place of the one that stands in the web."""

    def __init__(self, job: Job):
        name, colon, text = (part.strip() for part in job.subject.text.strip().partition(":"))
        if not colon or name not in NAMES or not text:
            raise SubjectError("Please begin with whose page it is and a colon, as in \"Mia: You can meet Mia in\". "
                               f"There are {', '.join(NAMES[:7])} and others, who stand in the picture of links.")
        super().__init__(job.bundle, replace(job.subject, text=text), job.params.length, whole=True)
        self.who, self.page, self.text, self.trunk = name, NAMES.index(name), text, job.model
        self.adapter, self.hops = job.companion(CHECKPOINTS[job.params.adapter]).model, job.params.hops
        web = pages.web(DEMO)
        self.whole = web if self.adapter.links == "friends" else web.rewired(DEMO)
        self.web = self.whole.cut(self.page, self.named(job.params.without))
        heard = self.heard(self.near())
        self.model = Mixture(job.model, lambda states: self.beside(states, heard), job.params.weight)

    def named(self, names: str) -> list[int]:
        linked = [NAMES[page] for page in self.whole.every()[self.page]]
        for name in (found := [one.strip() for one in names.split(",") if one.strip()]):
            if name not in linked:
                raise ParamError(f"without: {name[:20]} is not linked to {self.who}, but {', '.join(linked)} are")
        return [NAMES.index(name) for name in found]

    def near(self, without: Sequence[int] = ()) -> Tensor:
        """Pages [1, K, K] that are heard, perhaps without the links to some."""
        return torch.from_numpy(self.web.cut(self.page, without).near([self.page], self.hops))

    @torch.inference_mode()
    def heard(self, near: Tensor, shares: list | None = None) -> Tensor | None:
        """What the adapter hears [1, G] of such pages; None where it reads no links."""
        return None if self.adapter.kind == "mlp" else self.adapter.heard(self.says, near.to(self.says.device), shares)

    def beside(self, states: Tensor, heard: Tensor | None) -> Tensor:
        """The adapter's logits [B, T, V], by the model's own head."""
        heard = None if heard is None else heard.expand(*states.shape[:-1], -1)
        return self.trunk.lm_head(self.adapter.told(heard, states))

    @cached_property
    def says(self) -> Tensor:
        """What the model says [P, D] of those pages that can be heard; the typed text is its person's page."""
        used = [int(page) for page in self.near().unique() if page >= 0]
        found = read(self.trunk, self.tokenizer, [NAMES[page] for page in used],
                     [self.text if page == self.page else self.web.texts[page] for page in used])
        table = torch.zeros(pages.PAGES, self.trunk.config.hidden_size, device=self.trunk.device)
        table[used] = torch.stack([says for *_, says in found]).to(table)
        words = sum(len(ids) for ids, *_ in found)
        self.meter.cost += Cost(1, self.meter.layers * words, self.meter.body * words)
        return table
