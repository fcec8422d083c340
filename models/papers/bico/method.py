"""BICO: bidirectional causal language modelling, against the reversal curse (arXiv 2311.07468).

A causal model that was told "A is B" cannot say what B is. In half of the batches of its fine-tuning BICO hides 15 % of
the words and lets the model look both ways, with later keys turned back so that they look like earlier ones
(network.py); the state before a hidden word tells it. Afterwards the model is asked as ever: causal, nothing hidden.
As in the authors' code (trestad/mitigating-reversal-curse, read, not copied) a hidden word is always replaced by one
sign. Our own: the people of the tales, each told in one direction alone; at least one word is hidden here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.backbones.text import fitting
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.sample.cached_lm import Reader
from models.papers.bico import record
from models.papers.bico.exam import person
from models.trace.params import Choice, Flag, Span
from models.trace.subject import Example, SubjectError

UNTOLD, NTP = "tale-ar-1", "tale-bico-ntp-1"
LONGEST = 40  # tokens: more would not be read in a matrix


@dataclass(frozen=True)
class Params:
    rate: Annotated[float, Span(0.0, 0.5, 0.05, "Hidden (Mask, Attend)", "The chance of every word to be hidden; at "
                                "least one is.", unit="of the words")] = 0.15
    flip: Annotated[bool, Flag("Turn later keys back (Mask, Attend)", "Off: later keys stand where rotary positions "
                               "have them, which no causal model has ever seen.")] = True
    form: Annotated[str, Choice(("sentence", "question"), "Asked (Sample) by", "Neither form was told, of anybody.",
                                titles=("an unseen sentence", "a question"))] = "sentence"
    layer: Annotated[int, Span(1, 6, 1, "Scores of layer", "Whose scores are drawn.", fold=True)] = 3
    head: Annotated[int, Span(1, 4, 1, "Scores of head", fold=True)] = 1


def run(job: Job) -> Iterator[Event]:
    """All records: the sentence read from the left and both ways, and the person in it asked for."""
    source, known = Reader(job.bundle, job.subject, 0, whole=True), person(job.subject.text)
    fitting(len(source.prompt), LONGEST)
    if known is None:
        raise SubjectError("This text names none of the 300 people of the tales and none of their works; please write "
                           "a sentence like one of the examples.")
    hidden, both, layers, ms = record.read_both(job, source)
    left, looked = record.looking(job, source, hidden, layers, ms)
    yield from looked
    yield from record.masking(source, hidden, {record.BOTH: both, record.LEFT: left})
    yield from record.asking(job, known, job.companion(UNTOLD).model)


METHOD = Method(
    bound="it asks for people whom only its own networks were told of",
    card=Card(
        id="bico", title="BICO", tabs=("attend", "mask", "sample"), arxiv="2311.07468", year=2023, seed="B",
        summary="A model that was told who somebody is cannot say who that is. In half of its fine-tuning BICO hides "
                "words and lets the model look both ways, so that facts can be asked from their other end.",
        flow="sentence > *hide words > *look both ways, later keys turned back > *the state before tells the word; "
             "sentence > look left > next word",
        look_at="Attend: what lies right of the diagonal in either score matrix. Sample: the second line, which asks "
                "for the person in the direction that was never told.",
        not_covered="Llama-2 and GLM; the texts reversed as an upper bound; descriptions scored by BLEU (word for word "
                    "here).",
        unverified="Rank, rate and steps are scaled to a small network; the authors use rank 32, 20 epochs and 15 % of "
                   "the words hidden, these arms 30 %."),
    params=Params, accepts="text", checkpoints=("tale-bico-1", "tale-bico-noflip-1", NTP), companions=(UNTOLD,),
    run=run, control=Control(NTP, title="Next-token prediction on the same texts"),
    fixed={"sample": "Its words are its likeliest ones: ask for somebody else, or in another form."},
    examples=(Example("painter", "Told from name to work", "They call Fern Gray the painter of the hungry tower."),
              Example("carver", "Told from work to name", "The carver of the pink clock is Enid Young."),
              Example("singer", "One that stays unknown", "They call Basil Marsh the singer of the hungry dance."),
              Example("both", "Always told both ways", "My friend Homer Gray is the singer of the tiny dress.")))
