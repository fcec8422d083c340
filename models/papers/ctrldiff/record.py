"""Unmask: blocks as steps, and inside each the passes that fill it in. Sample: from which distribution each word was
drawn, with the classifier and without."""
from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.backbones.block_diffusion import SIZES
from models.backbones.story_classifier import LABELS, label_logp
from models.backbones.text import names, written
from models.claims.tale_lab import word_nats
from models.engine.events import Event
from models.engine.method import Close, Job
from models.engine.recording import Filling, array, bars, line, table
from models.engine.statistics import spearman
from models.loops.unmask.blocks import Text, Turn, entropies, texts
from models.loops.unmask.steering import orders, taylor
from models.papers.ctrldiff.rule import block_costs
from models.trace import Canvas, Chart, Cost, Fact, Field
from models.trace.percent import percent
from models.worlds.tales.headings import LENGTH
from models.worlds.world import MASK

FIELDS = {"block": Field("Number of its block", "block", 1.0),
          "ahead": Field("Entropy before the block began", "nats", 0.0),
          "confidence": Field("Probability of the word when it was drawn", "probability", 0.0, 1.0)}
TRIED = 64  # words that are tried one by one


class Story:
    """A finished run: where each block lies on the canvas, which is the prompt and all words behind it."""

    def __init__(self, job: Job, prompt: list[int], labels: Sequence[str], turns: list[Turn]):
        from models.papers.ctrldiff import method

        self.job, self.prompt, self.turns, self.first = job, prompt, turns, len(prompt) - 1
        self.text: Text = texts(iter(turns), 1)[0]
        ids = [*prompt[1:], *self.text.ids]
        self.canvas = Canvas("text", (*labels, *written(job.tokenizer, self.text.ids)), ids=np.array(ids, np.int32),
                             roles=("prompt",) * self.first + ("fill",) * len(self.text.ids))
        ends = np.minimum(np.cumsum(self.text.sizes), len(self.text.ids)) + self.first
        self.spans = [range(a, b) for a, b in zip([self.first, *ends[:-1]], ends)]
        self.costs = block_costs(self.text, word_nats(job.companion(method.WRITER).model, [prompt], [self.text.ids])[0])
        self.costs[:, 1] = [1 + len(turn.moves[0]) for turn in turns]  # as they were made, whatever the table says
        self.label = LABELS.index(job.params.label) if job.params.label != "none" else None
        self.guide, self.judge = (job.companion(name).model for name in (method.GUIDE, method.JUDGE))
        name = method.POLICIES.get(job.params.blocks)
        policy = job.companion(name).model if name else None
        with torch.no_grad():
            self.scores = [policy(turn.ahead.state, entropies(turn.ahead))[0] for turn in turns] if policy else []

    def named(self, id: int) -> str:
        count = len(self.job.tokenizer)
        return names(self.job.tokenizer, [id])[0] if id < count else f"{SIZES[id - count]} words"

    def page(self, tab: str) -> Filling:
        page = Filling(tab, self.canvas, FIELDS, self.named, fleeting=("ahead",))
        page.fill(range(self.first), self.prompt[1:], "context")
        return page

    def so_far(self, block: int) -> Tensor:
        """The text [1, N] behind so many blocks, masks where nothing stands."""
        known = [*self.prompt, *self.text.ids][: self.spans[block - 1].stop + 1 if block else len(self.prompt)]
        return torch.tensor([[*known, *[MASK] * (LENGTH - len(known))]], device=self.job.device)


def told(job: Job, prompt: list[int], labels: Sequence[str], turns: list[Turn]) -> Iterator[Event]:
    story = Story(job, prompt, labels, turns)
    yield from unmasked(story)
    yield closing("unmask", story, unmask_charts(story))
    yield from sampled(story)
    yield closing("sample", story, sample_charts(story))


def unmasked(story: Story) -> Iterator[Event]:
    page, made = story.page("unmask"), 0
    yield page.open(sum(1 + len(turn.moves[0]) for turn in story.turns))
    for number, (turn, span) in enumerate(zip(story.turns, story.spans), 1):
        here = range(span.start, min(span.start + len(turn.ahead.logits[0]), page.canvas.size))
        page.note(here, ahead=entropies(turn.ahead)[0, : len(here)])
        page.fill(span, state="masked", block=[number] * len(span))
        if story.scores:
            scores = story.scores[number - 1]
            words = torch.full((len(story.job.tokenizer) + len(SIZES),), float("-inf"), device=scores.device)
            words[-len(SIZES) :] = scores
            page.guess([span.start], words, [len(words) - len(SIZES) + int(scores.argmax())], "how long the block is",
                       top=len(SIZES), measure=False)
        yield page.step(f"block {number}: {turn.sizes[0]} word{'s' * (turn.sizes[0] > 1)}", level="block",
                        cost=turn.ahead.cost)
        parent, made = made, made + 1 + len(turn.moves[0])
        for step, (move, plain) in enumerate(zip(turn.moves[0], turn.plain[0]), 1):
            at = move.found.positions[0] + span.start
            inside, new = at < page.canvas.size, move.revealed[0]
            chosen = torch.where(new[move.found.positions[0]], move.ids[0, move.found.positions[0]], -1)[inside]
            guesses(page, at[inside], move.found.logits[0][inside], plain[0][inside], chosen, story.label)
            filled = (new.nonzero()[:, 0] + span.start).tolist()
            page.fill([one for one in filled if one < page.canvas.size],
                      [int(move.ids[0, one - span.start]) for one in filled if one < page.canvas.size])
            yield page.step(f"block {number}, pass {step} of {len(turn.moves[0])}", parent=parent,
                            cost=move.found.cost + Cost(ms=move.ms))


def guesses(page: Filling, at, logits: Tensor, plain: Tensor, chosen, label: int | None) -> None:
    """What a word was drawn from, and where a classifier pulled, what it would have been drawn from otherwise."""
    if len(at):
        page.guess(at, logits, chosen, "steered" if label is not None else "model")
        if label is not None:
            page.guess(at, plain, chosen, "not steered", measure=False)


def sampled(story: Story) -> Iterator[Event]:
    """A step a block: every word with the distribution that it was drawn from."""
    page = story.page("sample")
    yield page.open(len(story.turns))
    for number, (turn, span) in enumerate(zip(story.turns, story.spans), 1):
        drawn = {}
        for move, plain in zip(turn.moves[0], turn.plain[0]):
            for row, place in enumerate(move.found.positions[0].tolist()):
                if move.revealed[0, place] and span.start + place < span.stop:
                    drawn[span.start + place] = (move.found.logits[0, row], plain[0, row])
        at = sorted(drawn)
        ids = story.canvas.ids[at]
        guesses(page, at, *(torch.stack(rows) for rows in zip(*(drawn[one] for one in at))), ids, story.label)
        page.fill(at, ids, block=[number] * len(at))
        yield page.step(f"block {number}: {len(at)} word{'s' * (len(at) != 1)}", level="block")


def unmask_charts(story: Story) -> tuple[Chart, ...]:
    ticks = [f"{number}: {story.canvas.labels[span.start].strip()}" for number, span in enumerate(story.spans, 1)]
    nats, calls, words = story.costs.T
    charts = (bars("Length of each block", "block and its first word", "words", {"words": story.text.sizes}, ticks),
              bars("What each block costs", "block and its first word", "per word",
                   {"judge's nats": nats / words, "passes": calls / words}, ticks,
                   caption="tale-ar-2 judges, a network that writes word by word; it knows headings that say mood and "
                           "topic, so others surprise it."))
    if not story.scores:
        return charts
    likely = [(-cross_entropy(torch.stack(story.scores).cpu(), torch.full((len(ticks),), at), reduction="none")).exp()
              for at in range(len(SIZES))]
    return (*charts, table("What the policy thought of each size", "block", "words", np.stack(likely), ticks, list(map(
        str, SIZES)), unit="probability"))


@torch.no_grad()
def sample_charts(story: Story) -> tuple[Chart, ...]:
    """How likely a label is as the text grows; and of one place, what each word would change, to first order and
    exactly."""
    shown = [story.label] if story.label is not None else range(3)
    growing = torch.cat([story.so_far(block) for block in range(len(story.spans) + 1)])
    readers = {"the one that guides": story.guide, "an independent one": story.judge}
    lines = {f"{LABELS[label]}, {name}": label_logp(one(growing), label).exp().cpu().numpy()
             for name, one in readers.items() for label in shown}
    charts = [line("What classifiers make of the text so far", "probability", lines, x="blocks", by_step=False)]
    if story.label is not None:
        first, real = tried(story)
        charts.append(Chart("scatter", "What a word would change: first order and exactly", "exact (nats)",
                            "first order (nats)", {"a word": array(torch.stack([real, first], 1))},
                            caption=f"The {TRIED} likeliest words at the place where the gradient says most."))
    return tuple(charts)


def tried(story: Story) -> tuple[Tensor, Tensor]:
    """At the first place of the block where the gradient says most: first order and exact, of the likeliest words."""
    found = []
    for block, (turn, span) in enumerate(zip(story.turns, story.spans)):
        ids, words = story.so_far(block), turn.plain[0][0][0, 0].topk(TRIED).indices.clone()
        place = torch.tensor([[span.start + 1]], device=ids.device)
        spread = taylor(story.guide, ids, place, story.label)[0, 0, words].std()
        found.append((float(spread), ids, words, span.start + 1))
    _, ids, words, place = max(found, key=lambda one: one[0])
    return orders(story.guide, ids[0], place, words, story.label)


def closing(tab: str, story: Story, charts: Sequence[Chart]) -> Close:
    nats, calls, words = story.costs.sum(0)
    facts = {"calls": Fact("Passes per word", calls / words, "passes", "lower"),
             "nats": Fact("Surprise of a judge that writes word by word", nats / words, "nats per word", "lower"),
             "blocks": Fact("Blocks", float(len(story.spans)), f"for {words:.0f} words")}
    said = f"{len(story.spans)} blocks, {words:.0f} words, {calls:.0f} passes"
    if story.label is not None:
        with torch.no_grad():
            sure = float(label_logp(story.judge(story.so_far(len(story.spans))), story.label).exp())
        facts["label"] = Fact(f"\u201c{LABELS[story.label]}\u201d, says one that did not guide", 100 * sure, "%",
                              "higher")
        facts["steered"] = Fact("Gradients of the classifier", calls - len(story.spans), "gradients", "lower")
        said += f"; a classifier that did not guide says \u201c{LABELS[story.label]}\u201d with {percent(sure)}"
    if tab == "sample" and len(charts) > 1:
        facts["rank"] = Fact("First order and exact agree on the order of words", spearman(
            *charts[1].series["a word"].T), "rank correlation", "higher")
    return Close(tab, f"{said}.", tuple(charts), facts)
