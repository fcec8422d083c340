"""A haystack: lines or sentences with one that answers the question behind them, which can be moved and given less hay.

Letters: T tokens of a text, A of an answer.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

import kernels
from models.trace.subject import SubjectError
from models.worlds.retrieval import truth

FORM = ('This needs a text that holds the answer and ends in one of the three questions of its training, such as '
        '"Question: What is the number of the blue otter? Answer:" below a line "blue otter: 7412".')


@dataclass(frozen=True)
class Haystack:
    """hay: the other lines or sentences in order; at: how many of them stand before the needle; glue: what stands
    between them; question: the rest of the prompt, from "Question:" on."""

    hay: tuple[str, ...]
    needle: str
    at: int
    glue: str
    question: str
    answer: str

    @property
    def text(self) -> str:
        return self.glue.join((*self.hay[: self.at], self.needle, *self.hay[self.at :])) + "\n\n" + self.question

    @property
    def said(self) -> str:
        """The answer as it was taught, its end included."""
        return f" {self.answer}."

    def moved(self, depth: float, hay: int) -> Haystack:
        """At most `hay` other lines or sentences, the needle at a depth of 0 (first) to 1 (last)."""
        left = self.hay[:hay]
        return replace(self, hay=left, at=round(depth * len(left)))


def haystack(text: str) -> Haystack:
    """The parts of a prompt that ends in a question; SubjectError where it is none."""
    found = truth(text)
    if found is None:
        raise SubjectError(FORM)
    answer, (first, end) = found
    body, _, question = text.rpartition("Question: ")
    glue = "\n" if "\n" in body.strip() else " "
    before, after = (pieces(part, glue) for part in (body[:first], body[end:]))
    return Haystack((*before, *after), text[first:end], len(before), glue, f"Question: {question}", answer)


def pieces(text: str, glue: str) -> list[str]:
    """The lines of a text, or its sentences."""
    parts = text.split("\n") if glue == "\n" else re.split(r"(?<=[.!?])\s+", text)
    return [part.strip() for part in parts if part.strip()]


@torch.inference_mode()
def chance(model, prompt: Sequence[int], answer: Sequence[int]) -> tuple[float, bool]:
    """Probability of an answer [A] behind a prompt [T], and whether greedy decoding writes it: it does where every one
    of its tokens is the likeliest behind those before."""
    ids = torch.tensor([[*prompt, *answer]], device=model.device)
    logits = model(ids, use_cache=False, logits_to_keep=len(answer) + 1).logits[0, :-1].float()  # [A, V]
    said = kernels.vocab_stats(logits, top_k=1, chosen=ids[0, -len(answer) :])
    return float(said.chosen_logp.sum().exp()), bool((said.top_ids[:, 0] == ids[0, -len(answer) :]).all())
