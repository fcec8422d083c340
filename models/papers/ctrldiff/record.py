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
from models.engine.recording import Filling, bars, line, table
from models.engine.statistics import spearman
from models.loops.unmask.blocks import FIELDS, BlockTurn, drawn, entropies, filled, spans, texts
from models.loops.unmask.steering import tried
from models.papers.ctrldiff.rule import GUIDE, JUDGE, POLICIES, WRITER, block_costs
from models.trace import Canvas, Chart, Fact
from models.trace.percent import percent
from models.worlds.tales.headings import LENGTH
from models.worlds.world import MASK

TRIED = 64  # words that are tried one by one


class Story:
    """A finished run: where each block lies on the canvas, which is the prompt and all words behind it."""

    def __init__(self, job: Job, prompt: list[int], labels: Sequence[str], turns: list[BlockTurn]):
        self.job, self.prompt, self.turns, self.first = job, prompt, turns, len(prompt) - 1
        self.text = texts(iter(turns), 1)[0]
        ids = [*prompt[1:], *self.text.ids]
        self.canvas = Canvas("text", (*labels, *written(job.tokenizer, self.text.ids)), ids=np.array(ids, np.int32),
                             roles=("prompt",) * self.first + ("fill",) * len(self.text.ids))
        self.spans = spans(self.first, self.text)
        self.costs = block_costs(self.text, word_nats(job.companion(WRITER).model, [prompt], [self.text.ids])[0])
        self.costs[:, 1] = [1 + len(turn.moves[0]) for turn in turns]  # as they were made, whatever the table says
        self.label = LABELS.index(job.params.label) if job.params.label != "none" and job.params.strength else None
        self.guide, self.judge = (job.companion(name).model for name in (GUIDE, JUDGE))
        name = POLICIES.get(job.params.blocks)
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


def told(job: Job, prompt: list[int], labels: Sequence[str], turns: list[BlockTurn]) -> Iterator[Event]:
    story = Story(job, prompt, labels, turns)
    page, steered = story.page("unmask"), story.label is not None

    def sizes(block: int, span: range) -> None:
        if story.scores:
            words = torch.full((len(job.tokenizer) + len(SIZES),), float("-inf"))
            words[-len(SIZES) :] = story.scores[block]
            page.guess([span.start], words, [int(words.argmax())], "how long the block is", top=len(SIZES),
                       measure=False)
    yield from filled(page, turns, story.spans, sizes, steered)
    yield closing("unmask", story, unmask_charts(story))
    yield from drawn(story.page("sample"), turns, story.spans, steered)
    yield closing("sample", story, sample_charts(story))


def unmask_charts(story: Story) -> tuple[Chart, ...]:
    ticks = [f"{number}: {story.canvas.labels[span.start].strip()}" for number, span in enumerate(story.spans, 1)]
    nats, calls, words = story.costs.T
    places = range(1, len(ticks) + 1)  # without words: a control's blocks begin with others, and would not stand beside
    charts = (bars("Length of each block", "block", "words", {"words": story.text.sizes}, places),
              bars("What each block costs", "block", "per word",
                   {"judge's nats": nats / words, "passes": calls / words}, places,
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
    """How likely a label is as the text grows, and where it is wanted, what words would do to it."""
    shown = [story.label] if story.label is not None else range(3)
    growing = torch.cat([story.so_far(block) for block in range(len(story.spans) + 1)])
    readers = {"the one that guides": story.guide, "an independent one": story.judge}
    lines = {f"{LABELS[label]}, {name}": label_logp(one(growing), label).exp().cpu().numpy()
             for name, one in readers.items() for label in shown}
    charts = [line("What classifiers make of the text so far", "probability", lines, x="blocks", by_step=False)]
    if story.label is not None:
        asked = [(story.so_far(block)[0], span.start + 1, turn.plain[0][0][0, 0].topk(TRIED).indices.clone())
                 for block, (turn, span) in enumerate(zip(story.turns, story.spans))]
        charts.append(tried(story.guide, asked, story.label))
    return tuple(charts)


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
