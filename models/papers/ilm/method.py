"""Insertion language model (arXiv 2505.05755): nothing is masked; a token is put in between others, one at a time.

At each step one softmax over all (slot, token) pairs says where and what, and a stop head whether the text is whole
(network.py). It learned from texts of which any number of tokens was dropped, the others closing up (rule.py).
Checked against a reading of the authors' code (dhruvdcoder/ILM; not copied). What is ours is on the card.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from kernels import Sampler
from models.claims.star_lab import CELLS, FORBIDDEN, begun
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.unmask.insertion import GAP, Choose, Draft, inserted
from models.papers.ilm.controls import appended, revealed
from models.papers.ilm.rule import pair, slot_first
from models.trace.params import Choice, Span
from models.trace.subject import Example, SubjectError
from models.worlds import stars
from models.worlds.world import Doc

ILM, AR, MDM = "star-ilm-1", "star-ar-1", "star-mdm-1"
GREEDY, WARM = Sampler(0), Sampler()
ORDERS = ("likeliest pair", "likeliest slot", "drawn slot", "drawn pair")


@dataclass(frozen=True)
class Params:
    order: Annotated[str, Choice(ORDERS, "Where and what", "The pair at once; or a slot by the mass of all its tokens, "
                                 "then a token behind it.")] = ORDERS[0]
    nucleus: Annotated[float, Span(0.2, 1.0, 0.1, "Top-p of a drawn token", "Only the likeliest tokens (or pairs) that "
                                   "together reach p; the likeliest pair is not drawn.")] = 0.5
    threshold: Annotated[float, Span(0.1, 0.99, 0.01, "Stop at", "It ends where the stop head says so with this "
                                     "probability.")] = 0.5
    masks: Annotated[int, Span(1, CELLS, 1, "Masks in a gap", "Only for the network that is filled in from masks: it "
                               "has to be told how many.", fold=True)] = CELLS


def asked(job: Job) -> tuple[Doc, Draft]:
    """The graph of a text, and what is given of its way."""
    question, _, answer = job.subject.text.upper().partition(stars.ANSWERS)
    try:
        doc = stars.read(question + stars.ANSWERS)
    except ValueError as error:
        raise SubjectError(str(error)) from error
    given = "".join(GAP.sub("", answer).split())
    if given.strip(stars.NAMES) or len(given) > stars.LONGEST:
        raise SubjectError(f'Behind "|" only nodes of the way can stand, {stars.LONGEST} at most, and ___ for each '
                           'gap, as in "| A ___ D".')
    return doc, begun(job.tokenizer, doc, answer)


def chooser(job: Job) -> Choose:
    """Which pair is inserted, by the order that was set."""
    p, dice = job.params, job.generator()
    nucleus = Sampler(top_p=p.nucleus)
    return {"likeliest pair": partial(pair, sampler=GREEDY), "drawn pair": partial(pair, sampler=nucleus, dice=dice),
            "likeliest slot": partial(slot_first, where=GREEDY, what=nucleus, dice=dice),
            "drawn slot": partial(slot_first, where=WARM, what=nucleus, dice=dice)}[p.order]


WRITERS = {"InsertionLM": lambda job, text: inserted(job.model, text, chooser(job), job.params.threshold, CELLS,
                                                     FORBIDDEN),
           "LlamaForCausalLM": lambda job, text: appended(job.model, text, CELLS),
           "MaskedTransformer": lambda job, text: revealed(job.model, text, job.params.masks)}


def run(job: Job) -> Iterator[Event]:
    from models.papers.ilm.record import told

    doc, text = asked(job)
    return told(doc, text, list(WRITERS[type(job.model).__name__](job, text)), job.tokenizer.convert_ids_to_tokens)


METHOD = Method(
    bound="its graphs are written in the tokens that its own networks learned",
    card=Card(
        id="ilm", title="ILM", tabs=("unmask", "sample"), arxiv="2505.05755", year=2025, seed="A",
        summary="Starts from nothing, or from fragments, and says at each step where to insert a token and which one, "
                "until it says that the text is whole. Nobody tells it how long that is.",
        flow="tokens that stand > model > *softmax over all (slot, token) pairs > *insert one; *insert one ~> "
             "tokens that stand; model > *stop head",
        look_at="What is put in behind the centre: it is known once what comes behind it stands, while from left to "
                "right one arm of three must be taken blindly.",
        not_covered="Texts (stories, and their perplexity): star graphs alone, in two difficulties; hard graphs of "
                    "five arms; more than one training. Masks learned next to nothing in as many steps.",
        unverified="Ours: a slot is scored by the states on both its sides (the paper: the left one), arms of 2 to 4 "
                   "edges and 16 names (the paper: 3 to 6, and 20), an edge as one token that begins as the sum of "
                   "its names, ways as nodes instead of edges; one network for both difficulties; slots inside the "
                   "prefix get no mass in training, either; 700 of its 1,700 steps came after a look (it stopped too "
                   "early), the controls' in one go; 6 bits a weight, theirs 4."),
    params=Params, accepts="text", checkpoints=(ILM, AR, MDM), run=run,
    control=Control(AR, title="Left to right"),
    fixed=dict.fromkeys(("unmask", "sample"), "Where and what comes from the network: give fragments with ___ between "
                        "them, or another graph, and run again."),
    examples=(
        Example("uneven", "Arms of different lengths", "I>L J>F M>E O>M O>G O>I K>O E>J G>A A>N N>H D>K D?H |"),
        Example("even", "Three arms of one length", "E>D A>B B>P M>N P>E A>G H>J G>H J>K A>M N>F F>L A?L |"),
        Example("gap", "A gap of unknown length", "I>L J>F M>E O>M O>G O>I K>O E>J G>A A>N N>H D>K D?F | D ___ F"),
        Example("middle", "Two gaps", "E>D A>B B>P M>N P>E A>G H>J G>H J>K A>M N>F F>L A?K | A ___ J ___")))
