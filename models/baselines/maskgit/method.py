"""MaskGIT: every step looks at the whole picture, keeps the most confident guesses and masks the rest again.

arXiv 2202.04200: predict all masked tokens at once, sample each, rank by the log-probability of the sample plus Gumbel
noise that is annealed to zero, keep as many as a schedule says. The paper prefers the cosine; here the cubic one, also
the paper's, starts fewer objects at once and scores higher. Guidance on captions is
(1 + g) conditional - g unconditional logits (classifier-free), while objects are being placed: in the first half of the
steps. It is the baseline of the Unmask tab.

The scenes are our own; on aMUSEd's public weights (models/backbones/amused.py) the prompt is free, and there is no
parser to say whether the picture is what was asked for.

Not covered: class-conditional ImageNet weights, editing, in- and outpainting.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np

from kernels import Sampler
from models.engine.method import Card, Close, Emit, Job, Method, Open, Turn
from models.loops.unmask import canvases
from models.loops.unmask.canvases import Board, prompt_board, scene_board
from models.loops.unmask.loop import FIELDS, Full, Plan, Record, moves, shots
from models.trace import Fact
from models.trace.params import Choice, Span
from models.trace.subject import Example, SubjectError

ORDERS = ("confidence", "entropy", "margin", "random")
SCHEDULES = ("cubic", "cosine", "linear")
SCHEDULE = SCHEDULES[0]
TURN_STEPS = 8  # so many groups are asked of a visitor; the schedule makes them small
EXAMPLES = (
    Example("two", "red circle, blue square", "red circle, blue square"),
    Example("three", "yellow ring, green cross, white diamond", "yellow ring, green cross, white diamond"),
    Example("four", "red triangle, yellow square, blue ring, pink circle",
            "red triangle, yellow square, blue ring, pink circle"),
    Example("one", "green diamond", "green diamond"),
)
PROMPTS = (
    Example("lighthouse", "A lighthouse", "a lighthouse on a cliff at sunset, oil painting", "prompt"),
    Example("teapot", "A teapot", "a photo of a blue teapot on a wooden table", "prompt"),
    Example("fox", "A fox", "a red fox in the snow, watercolour", "prompt"),
)


# Controls that other ways to fill in a scene have as well.
Pull = Annotated[float, Span(0, 6, 0.25, "Guidance", "How hard the caption pulls.")]
Noise = Annotated[float, Span(0, 8, 0.25, "Order noise", "Gumbel noise, less with every step.", fold=True)]
Temperature = Annotated[float, Span(0, 2, 0.05, "Temperature", "0 takes the likeliest code.", fold=True)]
Until = Annotated[float, Span(0, 1, 0.05, "Guided part", "After it the caption no longer pulls, and a step costs half.",
                              unit="of the steps", fold=True)]


@dataclass(frozen=True)
class Params:
    steps: Annotated[int, Span(1, 128, 1, "Steps", "Looks at the picture; fewer fill in more at once.")] = 28
    guidance: Annotated[float, Span(0, 12, 0.25, "Guidance", "How hard the caption pulls; aMUSEd was made for "
                                    "9.")] = 0.5
    order: Annotated[str, Choice(ORDERS, "Order", "Which guesses are kept first.")] = "confidence"
    noise: Annotated[float, Span(0, 8, 0.25, "Order noise", "Gumbel noise on the order, less with every step.")] = 2.0
    temperature: Temperature = 0.8
    until: Until = 0.5
    schedule: Annotated[str, Choice(SCHEDULES, "Schedule", "How many per step; cubic starts slowest.",
                                    fold=True)] = SCHEDULE


DEFAULTS = Params()


@dataclass(frozen=True)
class PictureWorld:
    """What differs between kinds of subjects: the empty board, and what can be said of the finished picture."""

    board: Callable[[Job], Board]
    facts: Callable[[Board, Record, str], Mapping[str, Fact]]
    sentence: Callable[[Mapping[str, Fact], int], str]
    scored: bool = True


def run(job):
    world, p, record = WORLDS[job.subject.kind], job.params, Record()
    board = world.board(job)
    evaluate = Full(job.model, board.cond, p.guidance, board.forbidden, p.until)
    plan = planned(p, moves(board.unknown, p.steps, p.schedule), evaluate)
    yield Open("unmask", board.canvas, FIELDS, len(plan.moves))
    for shot in shots(job, board, plan, record):
        yield Emit("unmask", shot.step, shot.names)
    facts = world.facts(board, record, job.subject.text)
    yield Close("unmask", world.sentence(facts, len(plan.moves)), record.charts(), facts, path=record.path)


def planned(p, moves, evaluate) -> Plan:
    """The plan of parameters that name order, noise and temperature as here."""
    return Plan(moves, evaluate, p.order, p.noise, Sampler(p.temperature))


def shared(p) -> dict:
    """Those parameters of another method that this one has as well: what it must be given to be its baseline."""
    return {name: value for name, value in vars(p).items() if hasattr(DEFAULTS, name)}


def caption_board(job) -> Board:
    return scene_board(job.model, job.companion("scene-vq-1").model, job.subject.text)


def scene_facts(board: Board, record: Record, caption: str) -> Mapping[str, Fact]:
    """The parser's reading of the finished picture and what the run cost."""
    return canvases.scene_facts(board.paint(record.ids), caption, record.cost.macs)


def scene_sentence(facts: Mapping[str, Fact], steps: int) -> str:
    score, whole, broken = (facts[name].value for name in ("score", "objects", "broken"))
    return (f"In {steps} step{'s' * (steps > 1)} the model painted {whole:.0f} whole object{'s' * (whole != 1)} "
            f"{facts['objects'].unit} and {broken:.0f} broken: score {score:.2f}. With fewer steps neighbouring cells "
            f"guess without knowing of each other.")


def prompt_facts(board: Board, record: Record, prompt: str) -> Mapping[str, Fact]:
    """What can be measured where nobody can read the picture: how sure the model was, and what the run cost."""
    return {"sure": Fact("Confidence when filled in", record.sure, "probability"),
            "entropy": Fact("Entropy of masked cells", float(np.mean(record.entropy)), "nats, mean of the steps"),
            "macs": Fact("Work", record.cost.macs / 1e9, "G multiply-adds", "lower")}


def prompt_sentence(facts: Mapping[str, Fact], steps: int) -> str:
    return (f"In {steps} step{'s' * (steps > 1)} the model filled in every cell, on average with probability "
            f"{facts['sure'].value:.2f}. Whether it shows what was asked, only you can say: nothing here reads it.")


WORLDS = {
    "caption": PictureWorld(caption_board, scene_facts, scene_sentence),
    "prompt": PictureWorld(lambda job: prompt_board(job.model, job.subject.text), prompt_facts, prompt_sentence,
                           scored=False),
}


def turn_count(job) -> tuple[int, ...]:
    """Cells per group of a visitor's turn: what the schedule reveals in its first steps."""
    if not WORLDS[job.subject.kind].scored:
        raise SubjectError("Nothing here can say how well this picture was painted, so there is no game; please choose "
                           "a checkpoint of scenes.")
    rows, columns = job.model.grid
    return tuple(move.count for move in moves(rows * columns, job.params.steps, job.params.schedule)[:TURN_STEPS])


METHOD = Method(
    card=Card(
        id="maskgit", title="MaskGIT: every step in full", tabs=("unmask",), arxiv="2202.04200", year=2022,
        summary="All masked cells are guessed at once, the most confident guesses stay, the rest is masked again. How "
                "many stay follows the cubic schedule here, the paper's slowest start; the paper itself settles on "
                "the cosine.",
        flow="masked cells > network sees all cells > confidence of every guess > most confident cells "
             "revealed; most confident cells revealed ~> masked cells",
        look_at="The first cells decide where objects stand; watch what happens with 4 steps instead of 28.",
        not_covered="ImageNet weights, editing, in- and outpainting."),
    params=Params, accepts="caption", checkpoints=("scene-mgm-1",), companions=("scene-vq-1",), run=run,
    examples=(*EXAMPLES, *PROMPTS), kinds={"AmusedPipeline": "prompt"},
    turn=Turn("Choose the cells that are filled in first, group after group; the model goes on from there.", "score",
              turn_count))
