"""Diagram of Thought (arXiv 2409.10038): one network proposes, criticises and sums up, and its text is a graph.

Roles are tokens of one stream, and which comes next is the network's own next token: no controller, no second network,
no checker. A refuted proposition stays; its refinement is a new node. What a record's text says are the nodes and edges
(dialogues.py); the checker of the world (models/worlds/trees.py) judges the critic, and neither speaks nor chooses.
The paper gives no format, no data and no numbers: the records follow its project's later revisions, the rest is ours.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from models.engine.method import Card, Control, Event, Job, Method, Options, Turn
from models.loops.sample.cached_lm import Stream
from models.loops.sample.put_words import written_side_by_side
from models.papers.diagram_of_thought.record import Picture
from models.papers.diagram_of_thought.speech import TURNS, Speech
from models.trace import Trace
from models.trace.params import ParamError, Span
from models.trace.subject import Example, SubjectError
from models.worlds import trees
from models.worlds.dialogues import IDS, MARKS, read

DOT, COT, SHUFFLED = "tree-dot-1", "tree-cot-1", "tree-dot-shuffled-1"


@dataclass(frozen=True)
class Params:
    slips: Annotated[int, Span(0, 3, 1, "Planted slips", "So many of the first three propositions get a wrong "
                               "result.")] = 1
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature", "Of the proposer: higher ones slip by "
                                       "themselves.")] = 1.0
    critic: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature of the critic", "0 takes its likeliest word.")] = 0.0
    nodes: Annotated[int, Span(4, len(IDS), 1, "Most nodes", "The stream ends there.", fold=True)] = len(IDS)


@torch.inference_mode()
def run(job: Job) -> Iterator[Event]:
    try:
        asked = trees.read(job.subject.text)
    except ValueError as wrong:
        raise SubjectError(str(wrong)) from None
    dice, p = np.random.default_rng(job.seed), job.params
    at = frozenset(dice.permutation(trees.COUNT)[: p.slips].tolist())
    speech = Speech(slips=at, verdicts=verdicts(job), most=p.nodes, warm=p.temperature, critic=p.critic, dice=dice)
    written_side_by_side(Stream(job.model), job.tokenizer, [asked.prompt], [speech], job.generator())
    picture = Picture(read(asked, speech.words, speech.waits), speech, job.tokenizer.get_vocab())
    yield from picture.steps()
    yield picture.close(None if job.choice is None else len(job.choice))


def verdicts(job: Job) -> list[str] | None:
    """A visitor's verdicts as marks."""
    if job.choice is None:
        return None
    picks = [group[0] if len(group) == 1 else -1 for group in job.choice]
    if not all(0 <= pick < len(MARKS) for pick in picks):
        raise ParamError(f"Each verdict must be 0, {MARKS[0]}, or 1, {MARKS[1]}.")
    return [MARKS[pick] for pick in picks]


def due(trace: Trace) -> Options | None:
    """Your turn: valid or not, where a verdict is due; None where the stream is over."""
    last = trace.steps[-1]
    waiting = [at for at in last.where("new") if last.ids[at] < 0]
    return Options(int(waiting[0]), (0, 1), (" valid", " invalid"), False) if waiting else None


METHOD = Method(
    bound="its networks were trained on streams of records",
    card=Card(
        id="diagram-of-thought", title="Diagram of Thought", tabs=("sample",), arxiv="2409.10038", year=2024, seed="B",
        summary="One network proposes steps, criticises them and sums up, in one text; which role speaks next is its "
                "own next token. Read as records, the text is a growing graph of accepted and refuted steps.",
        flow="problem > *proposer > *critic > *summarizer > answer; *critic ~> *proposer",
        look_at="Results count round after 19, as hours on a clock of 20: 12 + 9 = 1. A wrong one is planted: does the "
                "critic find it, does a new node mend it, and which nodes does the summary use? A chain of thought "
                "goes on from it.",
        not_covered="Natural language, Horn clauses, summarizers that hand back, several trainings, who the critic "
                    "looks at. The topos reading proves nothing here: only the parser holds to it.",
        unverified="The paper gives no format, data, loss or numbers. Records follow its project's later revisions; a "
                   "critic that calculates for itself and names the fault, trees of 3 operations modulo 20 (the spec: "
                   "6 to 10 modulo 100), a slip in one proposition of four and later of two, no loss on slips, and "
                   "training from the start instead of from a shared base are ours.",
        states={"sample": {"accepted": "found valid by the critic", "refused": "refuted by the critic"}}),
    params=Params, accepts="text", checkpoints=(DOT, SHUFFLED, COT), run=run,
    control=Control(checkpoint=COT, title="Chain of thought, the same slip"),
    fixed={"sample": "A record is many words of one text: plant slips with the control instead."},
    examples=(
        Example("two-sides", "Two sides and their difference", "(12 + 9) - 3 * 9"),
        Example("nested", "One inside the other", "7 * (15 - (4 + 18))"),
        Example("product", "A product of sums", "(6 + 17) * (11 - 13)"),
        Example("left", "From left to right", "19 - 5 + 8 - 16")),
    turn=Turn("You are the critic: is the last proposition right (after 19 comes 0)?", "verdicts",
              lambda job: (1,) * TURNS, due, length=""))
