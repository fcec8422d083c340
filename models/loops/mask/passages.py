"""One text cut for one network, the text's twin of photos.Photo. Letters: n tokens of the text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from models.backbones.text import names, read, room
from models.engine.method import Job
from models.trace import Canvas
from models.trace.subject import SubjectError

MOST = 320  # tokens of a text


@dataclass(frozen=True, eq=False)
class Passage:
    """One text cut for one network: ids int64 [1, n], how each token reads, its role, and which may be selected."""

    ids: Tensor
    labels: tuple[str, ...]
    roles: tuple[str, ...]
    special: Tensor  # bool [1, n]
    tokenizer: object

    noun: ClassVar[str] = "words"

    @property
    def count(self) -> int:
        return self.ids.shape[1]

    @cached_property
    def candidates(self) -> np.ndarray:
        """Places that may be selected."""
        return np.flatnonzero(~self.special[0].cpu().numpy())

    def names(self, ids) -> dict[int, str]:
        """The text of every token id that a step mentions."""
        unique = np.unique(np.asarray(ids)).tolist()
        return dict(zip(unique, names(self.tokenizer, unique)))

    @property
    def canvas(self) -> Canvas:
        return Canvas("text", self.labels, roles=self.roles, ids=self.ids[0].cpu().numpy().astype(np.int32))


def passage(job: Job) -> Passage:
    """The job's text; SubjectError when it is too long for the network or leaves nothing to select."""
    tokenizer, most = job.tokenizer, min(MOST, room(job.model))
    found = read(tokenizer, job.subject.text)
    if len(found) > most:
        raise SubjectError(f"This text has {len(found):,} tokens; this checkpoint reads {most}. Please shorten it.")
    special = torch.tensor([[bool(role) for role in found.roles]], device=job.device)
    if len(found) - int(special.sum()) < 2:
        raise SubjectError("Please type at least two words, so that one can be replaced and one stays.")
    return Passage(torch.tensor([found.ids], device=job.device), found.labels, found.roles, special, tokenizer)
