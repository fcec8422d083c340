"""Words as the Mask tab plays with them: some are selected, a small writer fills them in, a judge suspects every one.

`play` is the game that every judge of planted words shares, so that two judges read the very same text. Letters: n
tokens of one text, k selected places, V vocabulary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

import kernels
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import distribution, spread
from models.engine.statistics import auc
from models.loops.mask import loop
from models.loops.mask.passages import Passage, passage
from models.loops.mask.planting import MASKED, corrupt, hide, sample, select
from models.loops.mask.writers import WRITERS, typed
from models.trace import Chart, Cost, Fact, Field, Step, states
from models.trace.params import Choice, Span, Words
from models.trace.percent import percent
from models.trace.subject import Example

TOP = 5  # candidates shown per place
FIELDS = {"written": Field("The writer's probability of what it wrote", "probability", 0.0, 1.0),
          "suspicion": Field("How strongly the judge suspects this word", "probability", 0.0, 1.0)}
EXAMPLES = (Example("kitten", "The white kitten", "mask-kitten.txt"), Example("hatter", "A mad tea party",
            "mask-hatter.txt"), Example("hen", "The hen and the mill", "mask-hen.txt"))


Threshold = Annotated[float, Span(0.05, 0.95, 0.05, "Called replaced from", "The suspicion at which the judge says "
                                  "that a word was replaced.")]


@dataclass(frozen=True)
class Params:
    mask_rate: Annotated[float, Span(0.05, 0.5, 0.05, "Selected", "How much of the text the writer may change.",
                                     unit="of the tokens")] = 0.15
    temperature: Annotated[float, Span(0.2, 2.0, 0.1, "Writer's temperature", "Low: only its likeliest words, often "
                                       "the original. High: odd words, easy to notice.")] = 1.0
    writer: Annotated[str, Choice(("trained", "uniform", "copy"), "Who writes", "Plausible words from the trained "
                                  "generator, any word of the vocabulary, or the original again.",
                                  titles=("the trained generator", "random words", "nobody: a copy"))] = "trained"
    threshold: Threshold = 0.15  # the share of words that is selected: half never was reached
    own: Annotated[str, Words("Your own replacement", 60, "One word of the text and yours, such as: kitten = teapot. "
                              "Nothing else is replaced then.")] = ""


@dataclass(frozen=True, eq=False)
class Planted:
    """What the writer did: places [1, k], what it saw [1, n], its logits [k, V], what it wrote [1, k], the text with
    it [1, n], which tokens are not the original's [1, n], and its one pass."""

    places: Tensor
    hidden: Tensor
    logits: Tensor
    written: Tensor
    fake: Tensor
    replaced: Tensor
    cost: Cost

    @cached_property
    def at(self) -> np.ndarray:
        """Selected places [k]."""
        return self.places[0].cpu().numpy()

    @cached_property
    def truth(self) -> np.ndarray:
        """bool [n]: replaced."""
        return self.replaced[0].cpu().numpy()


Judge = Callable[[Passage, Planted], tuple[np.ndarray, Cost]]  # suspicion [n] in 0..1, and what it cost


def budget(job: Job) -> tuple[int]:
    """How many words one choice selects."""
    return (count_of(passage(job), job.params.mask_rate),)


def count_of(text: Passage, rate: float) -> int:
    """k = max(1, round(rate n)) of the n tokens that may be selected."""
    return max(1, round(rate * len(text.candidates)))


def plant(job: Job, text: Passage, generator) -> Planted:
    """Steps 1 to 6: select, hide, write, and put what was written into the ORIGINAL text.

    generator: the small writer network. A visitor's choice replaces the selection, a word typed by hand also the draw.
    """
    count, draws = count_of(text, job.params.mask_rate), job.generator()

    def by_chance():
        ids = select(text.ids.cpu(), text.special.cpu(), count, draws)[0].numpy()
        return loop.Hidden(ids, ("masked-random",) * count)

    own = typed(text, job.params.own)
    places = own[0] if own else loop.hidden_by(job, text, by_chance, count).ids
    places = torch.from_numpy(places)[None].to(text.ids.device)
    hidden = hide(text.ids, places, text.tokenizer.mask_token_id, job.generator(3))
    began = time.perf_counter()
    logits, macs = WRITERS[job.params.writer](generator, text, hidden, places)
    never = tuple(text.tokenizer.all_special_ids)
    written = (own[1] if own else sample(logits, job.params.temperature, never, job.generator(2)))[None]
    fake, replaced = corrupt(text.ids, places, written)
    ms = (time.perf_counter() - began) * 1000
    rows = text.count * generator.config.num_hidden_layers if macs else 0
    return Planted(places, hidden, logits, written, fake, replaced, Cost(int(macs > 0), rows, macs, 0, ms))



def play(job: Job, generator, judge: Judge, say: Callable[[dict[str, Fact]], str], everywhere: bool) -> Iterator[Event]:
    """The whole Mask record; returns (passage, planted, suspicion [n]) for records that follow.

    everywhere: whether the judge was trained on every token or on the selected ones alone.
    """
    text = passage(job)
    planted = plant(job, text, generator)
    yield Open("mask", text.canvas, FIELDS, 4)
    before = selected(text, planted, "masked-random" if job.choice is None else "masked")
    yield Emit("mask", Step("what is selected", before, note="The writer has to guess the hidden words; about "
                            f"{percent(1 - MASKED)} of the selected ones it may see."))
    wrote = written(job, text, planted)
    yield Emit("mask", wrote, text.names([*planted.fake[0].tolist(), *wrote.distributions["writer"].top_ids.ravel()]))
    began = time.perf_counter()
    suspicion, cost = judge(text, planted)
    cost = Cost(cost.calls, cost.rows, cost.macs, 0, (time.perf_counter() - began) * 1000)
    shared = {"ids": wrote.ids, "distributions": wrote.distributions}
    fields = {**wrote.fields, "suspicion": suspicion}
    yield Emit("mask", Step("how suspicious each word looks", wrote.state, fields=fields, cost=cost, **shared))
    verdict = judged(planted.truth, suspicion >= job.params.threshold)
    yield Emit("mask", Step("the verdict", verdict, fields=fields, **shared))
    facts = scores(text, planted, suspicion, job.params.threshold) | taught(text, planted, everywhere)
    yield Close("mask", say(facts), (suspicion_chart(planted, suspicion),), facts, path="sdpa (no statistics)")
    return text, planted, suspicion


def selected(text: Passage, planted: Planted, hidden: str) -> np.ndarray:
    """States [n]: hidden, selected but left to be seen ("reused"), or visible."""
    names = np.full(text.count, "visible", object)
    names[planted.at] = np.where((planted.hidden != text.ids)[0].cpu().numpy()[planted.at], hidden, "reused")
    return states(*names)


def written(job: Job, text: Passage, planted: Planted) -> Step:
    """The text with the writer's words in it, and its candidates under them."""
    found = kernels.vocab_stats(planted.logits / job.params.temperature, top_k=TOP, chosen=planted.written[0])
    names = np.full(text.count, "visible", object)
    names[planted.at] = np.where(planted.truth[planted.at], "new", "reused")
    sure = spread(text.count, planted.at, found.chosen_logp.exp())
    return Step("what the writer wrote", states(*names), ids=planted.fake[0].cpu().numpy(), fields={"written": sure},
                distributions={"writer": distribution(found, planted.at, planted.written[0])}, cost=planted.cost)


def judged(truth: np.ndarray, flagged: np.ndarray) -> np.ndarray:
    """States [n]: found, missed, wrongly suspected, or rightly left alone."""
    names = np.where(truth, np.where(flagged, "accepted", "new"), np.where(flagged, "refused", "visible"))
    return states(*names)


def scores(text: Passage, planted: Planted, suspicion: np.ndarray, threshold: float) -> dict[str, Fact]:
    """What the judge was worth on this text. Accuracy is not among them: "all original" would score 85 %."""
    truth, flagged = planted.truth, suspicion >= threshold
    fakes, lucky = int(truth.sum()), len(planted.at) - int(truth.sum())
    facts = {"alarms": Fact("Originals called replaced", 100 * float(flagged[~truth].mean()), "%", "lower"),
             "doubt": Fact("Mean suspicion at the selected words", 100 * float(suspicion[planted.at].mean()), "%",
                           "lower"),
             "replaced": Fact("Words replaced", fakes, "tokens"),
             "lucky": Fact("Originals that the writer hit by itself", lucky, "tokens")}
    if not fakes:
        return facts
    area = auc(suspicion[text.candidates], truth[text.candidates])
    return {"auc": Fact("Suspicion orders replaced above original", area, "AUC (0.5: a guess)", "higher"),
            "found": Fact("Replacements found", 100 * float(flagged[truth].mean()), "%", "higher"), **facts}


def taught(text: Passage, planted: Planted, everywhere: bool) -> dict[str, Fact]:
    """How much of a text carries a training signal."""
    share = 1.0 if everywhere else len(planted.at) / len(text.candidates)
    return {"taught": Fact("Words that carry a training signal", 100 * share, "%", "higher")}


def suspicion_chart(planted: Planted, suspicion: np.ndarray) -> Chart:
    """Mean suspicion of three kinds of words."""
    lucky = np.isin(np.arange(len(suspicion)), planted.at) & ~planted.truth
    groups = {"replaced": planted.truth, "written, but the original": lucky, "never touched": ~planted.truth & ~lucky}
    bars = {name: float(suspicion[which].mean()) for name, which in groups.items() if which.any()}
    return Chart("bar", "Suspicion by what the word really is", "word", "mean suspicion (probability)",
                 {"suspicion": np.array(list(bars.values()))}, tuple(bars),
                 caption="A judge that only notices where the writer was at work would suspect the lucky hits too.")
