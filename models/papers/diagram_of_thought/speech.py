"""The stream as one network writes it, and what it is told from outside: temperatures, planted slips, and a visitor's
verdicts. Which role comes next is the network's own next word, as every other."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from models.loops.sample.put_words import PutText
from models.worlds.dialogues import CRITIC, FAULTS, FINE, IDS, NODE, PROPOSER, VALIDATED, slips
from models.worlds.trees import NUMBERS, SIGNS

ROOM, TURNS = 236, 4  # words of a stream; verdicts of a visitor


@dataclass
class Speech(PutText):
    """slips: at which propositions, from 0, a wrong result is planted. verdicts: a visitor's marks in place of the
    critic's first ones, None where nobody plays; waits: the next one is due. most: nodes; planted: places of words."""

    slips: frozenset[int] = frozenset()
    verdicts: Sequence[str] | None = None
    most: int = len(IDS)
    warm: float = 1.0
    critic: float = 0.0
    dice: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    planted: list[int] = field(default_factory=list)
    judged: int = 0
    waits: bool = False

    @property
    def role(self) -> str:
        """Of the record that is being written, "" before it is known."""
        back = self.words[::-1].index(NODE) if NODE in self.words else 0
        return self.words[1 - back] if back > 1 else ""

    @property
    def heat(self) -> float:
        return self.critic if self.role == CRITIC else self.warm

    @property
    def over(self) -> bool:
        return super().over or self.waits or len(self.words) >= ROOM or self.words.count(NODE) > self.most

    def put(self, scores: Tensor, ids: Mapping[str, int]) -> str | None:
        said = self.words.count(PROPOSER) or self.words.count("=")  # propositions; a chain has no roles
        if self.words[-1:] == ["="] and self.role != CRITIC and said - 1 in self.slips:
            return self.slip(*self.words[-4:-1])
        if self.verdicts is not None and self.role == CRITIC and self.words[-2:-1] == ["="]:
            return self.verdict(scores, ids)
        return None

    def slip(self, *said: str) -> str | None:
        """A wrong result of a reduction; None where what stands there is none."""
        if len(said) < 3 or said[1] not in SIGNS.values() or not {said[0], said[2]} <= set(NUMBERS):
            return None
        self.planted.append(len(self.words))
        return str(self.dice.choice(slips(int(said[0]), said[1], int(said[2]))))

    def verdict(self, scores: Tensor, ids: Mapping[str, int]) -> str | None:
        """A visitor's verdict as a word of criticism: of a refusal, the one that the critic finds likeliest."""
        if self.judged == len(self.verdicts):
            self.waits = self.judged < TURNS
            return "" if self.waits else None
        self.judged += 1
        if self.verdicts[self.judged - 1] == VALIDATED:
            return FINE
        return max(FAULTS, key=lambda word: float(scores[ids[word]]))
