"""Bigram subnetworks: the few weights of a language model that predict from the last word alone (arXiv 2504.15471).

A mask m per weight of the frozen trunk's attention and MLP matrices, learned so that the weights it keeps, W * m, say
what a table of word pairs says: CE(pairs(. | x_t), p(. | x_<=t)) + lambda mean(m) (recipe.py). Embeddings, head, norms
and biases are never masked. Here the mask is hard, 0 or 1, and five networks read one text and go on with it: all
weights, only the mask's, only as many random ones of every matrix, all but those random ones, all but the mask's.
Our own: the words before the last are also put in another order, to see who cares; as many of the largest weights
of every matrix may stand in the mask's place, which is magnitude pruning and not this method.
Not covered: the mask that is taught by the model itself, the lens by regression, masks along the training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from kernels import Sampler
from models.backbones import weight_masks
from models.backbones.text import counted, fitting
from models.backbones.weight_masks import Masks
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.sample.cached_lm import Reader, Stream
from models.loops.sample.examples import STORIES
from models.loops.sample.rollouts import Ends, Trial, roll_out
from models.papers.bigram_subnetworks import record
from models.papers.bigram_subnetworks.record import FULL, MASK, RANDOM, WITHOUT, WITHOUT_RANDOM
from models.trace.params import Choice, Span
from models.trace.subject import Example, SubjectError

TRUNK, TABLE = "text-ar-1", "text-bigrams-1"
SHORTEST, LONGEST = 4, 200  # tokens of a text: more would not fit under one another


@dataclass(frozen=True)
class Params:
    chosen: Annotated[str, Choice(
        ("learned", "largest", "random"), "Weights chosen", "Which weights make the small network. The other two keep "
        "as many of every matrix and are no bigram subnetworks.",
        titles=("by the learned mask (the method)", "the largest", "at random"))] = "learned"
    length: Annotated[int, Span(4, 40, 1, "Length (Prune)", "Every network goes on with the text.",
                                unit="tokens")] = 24
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature (Prune)", "0: always the likeliest.")] = 0.7


def masks_of(job: Job) -> Masks:
    """Which weights make the small network: those that the checkpoint has, or as many others of every matrix."""
    learned = weight_masks.found(job.model)
    if job.params.chosen == "largest":
        return weight_masks.largest(job.companion(TRUNK).model, learned)
    return weight_masks.permuted(learned, job.generator(3)) if job.params.chosen == "random" else learned


def networks(trunk: nn.Module, masks: Masks, generator: torch.Generator) -> dict[str, nn.Module]:
    """The five of them; random masks keep as many weights of every matrix."""
    chance = weight_masks.permuted(masks, generator)
    return {FULL: trunk, MASK: weight_masks.partial(trunk, masks), RANDOM: weight_masks.partial(trunk, chance),
            WITHOUT_RANDOM: weight_masks.partial(trunk, weight_masks.inverted(chance)),
            WITHOUT: weight_masks.partial(trunk, weight_masks.inverted(masks))}


def gone_on(model: nn.Module, prompt: list[int], p: Params, end: int | None, dice) -> tuple[Trial, Stream]:
    """What a network writes behind a text."""
    stream = Stream(model)
    stream.read([prompt])
    (trial,), _, _ = roll_out(stream, Sampler(p.temperature), Ends(end, frozenset(), p.length), dice)
    return trial, stream


def run(job: Job) -> Iterator[Event]:
    """Both records: the text read by every network, then gone on with by every network."""
    trunk, source, masks = job.companion(TRUNK), Reader(job.bundle, job.subject, job.params.length), masks_of(job)
    table = job.companion(TABLE).model
    fitting(len(source.prompt), LONGEST)
    if len(source.prompt) < SHORTEST:
        raise SubjectError(f"This text has {counted(len(source.prompt))}; please type at least {SHORTEST}.")
    five = networks(trunk.model, masks, job.generator(1))
    charted = job.params.chosen != "random"  # beside the method these would only repeat its own
    if job.wants("sample"):
        yield from record.reading(source, five, table, charted)
    written = ((name, *gone_on(model, source.prompt, job.params, source.end, job.generator(2)))
               for name, model in five.items())
    yield from record.writing(source, five, table, masks, written, job.params.length, charted, job.generator(4))


METHOD = Method(
    bound="its masks were trained for text-ar-1",
    card=Card(
        id="bigram-subnetworks", title="Bigram subnetworks", tabs=("sample", "prune"), arxiv="2504.15471", year=2025,
        seed="B",
        summary="Finds the few weights of a language model that alone predict the next word from the last word only, "
                "and shows what the model is without them.",
        flow="frozen weights > *learned mask of 0 and 1 > *the few that count word pairs > next word; "
             "frozen weights > *all the others > next word",
        look_at="Step through five networks on one text. Without the chosen weights the text falls apart; without as "
                "many random weights of the same matrices hardly anything happens.",
        not_covered="Masks taught by the model itself, masks along the training, the authors' lens by regression. "
                    "Nothing is faster: what is masked is still multiplied, by 0.",
        unverified="Steps, rate and slope of the mask's sigmoid are scaled to a small budget; the paper trains 15,000 "
                   "steps of 32 x 128 tokens."),
    params=Params, accepts="text", checkpoints=("text-bigram-10-1", "text-bigram-100-1"), companions=(TRUNK, TABLE),
    run=run, control=Control(params={"chosen": "random"}, title="As many random weights"),
    fixed=dict.fromkeys(("prune", "sample"), "Here weights leave, and the mask that was learned says which."),
    examples=(
        *STORIES[:2],
        Example("princess", "A princess at the door", "The little princess opened the door and looked out into the "
                "garden. It was raining, and"),
    ))
