"""Lexinvariant language models (arXiv 2305.16349).

For each text every symbol gets a random vector, e(x) = E[x], the same at all its places, and what comes next is read
off with the very same vectors, logits = E h / sqrt(d). So no symbol means anything beforehand, and the network must
find out from repetition which is which: p(x) = p(pi(x)) for every cipher pi, in expectation over E.
Our own: a matrix that brings vectors into a part of the width and one that leads back; rows of E that are orthogonal,
as a wide network's nearly are; rotary angles that turn a part of each head; a start from which it counts pairs
(network.py); probes that say which real letter stands at a place, from each layer's states.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine.method import Card, Control, Event, Job, Method
from models.papers.lexinvariant import record
from models.trace.params import Choice, Span
from models.trace.subject import Example


@dataclass(frozen=True)
class Params:
    cipher: Annotated[str, Choice(("shuffled", "shifted", "none"), "Cipher", "What is written for each letter; marks "
                                  "stay. The seed draws the shuffled one, and all vectors.", titles=(
                                      "letters shuffled", "each letter three further on", "none"))] = "shuffled"
    layer: Annotated[int, Span(1, 6, 1, "Votes after layer", "Whose probe says which letter is which; the last, where "
                               "there are fewer.")] = 4


def run(job: Job) -> Iterator[Event]:
    yield from record.reading(job)
    yield from record.attention(job)


METHOD = Method(
    bound="its symbols are those it was trained on",
    card=Card(
        id="lexinvariant", title="Lexinvariant", tabs=("sample", "attend"), arxiv="2305.16349", year=2023, seed="A",
        summary="A language model without a table of symbols: every text gives them new random vectors, so the network "
                "must find out which letter is which while it reads. A cipher makes no difference to it.",
        flow="text > *a random vector for each symbol > transformer > *the same vectors > next symbol; "
             "transformer > probe > which letter is which",
        look_at="The surprise: under the cipher the ordinary network never recovers, this one is as it always is. It "
                "counts what followed what; trained for so short, it does not decipher English. The toy does: choose "
                "markov-lexinvariant-1 and the five letters, and watch them turn green.",
        not_covered="Vocabularies of word pieces; the variant that keeps some symbols' vectors as a regulariser.",
        unverified="The probe's form; all sizes. To be learnt in minutes, its heads begin set so that they count what "
                   "came and what followed what, and its vectors are made orthogonal, as a wide network's nearly are: "
                   "both are ours, not the paper's.",
        shown={"attend": "the text under its cipher"},
        states={"sample": {"accepted": "deciphered rightly", "visible": "another letter stands here, or a mark"}}),
    params=Params, accepts="text", checkpoints=("story-lexinvariant-1", "markov-lexinvariant-1"),
    companions=("story-plain-1",), run=run, control=Control("story-plain-1", title="Ordinary network"),
    fixed={"sample": "This text is only read: change it, its cipher or the seed instead."},
    examples=(
        Example("tea", "A table under a tree",
                "There was a table set out under a tree in front of the house, and the March Hare and the Hatter were "
                "having tea at it: a Dormouse was sitting between them, fast asleep, and the other two were using it "
                "as a cushion, resting their elbows on it, and talking over its head. 'Very uncomfortable for the "
                "Dormouse,' thought Alice; 'only, as it's asleep, I suppose it doesn't mind.' The table was a large "
                "one, but the three were all crowded together at one corner of it."),
        Example("sister", "Alice on the bank",
                "Alice was beginning to get very tired of sitting by her sister on the bank, and of having nothing to "
                "do: once or twice she had peeped into the book her sister was reading, but it had no pictures or "
                "conversations in it, 'and what is the use of a book,' thought Alice 'without pictures or "
                "conversations?' So she was considering in her own mind, as well as she could, for the hot day made "
                "her feel very sleepy and stupid."),
        Example("short", "A short one", "The little princess opened the door and looked out into the garden."),
        Example("chain", "Five letters (for the toy)", "deababcabeabcedeabcabcdbcddedacabcabddbcacabcbcaadbddeadddea"
                "cbcdbcddeabcacdeebdcdeabceababcdeaea")))
