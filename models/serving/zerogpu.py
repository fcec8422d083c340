"""The same runs on a plain machine and on ZeroGPU, where a GPU exists only inside a task of a few seconds.

There a task is a forked worker. What goes in and what comes out is pickled, so both are plain: an Ask in, scenes of
arrays out; errors come out as values, because the platform keeps only their class. The parent stays on the processor
and asks the emulated device nothing: it checks every question before it asks for a task, computes without a GPU when
there is none to be had, and remembers what workers found out about the kernels, as the next one is forked from it.
Anywhere else `scenes` asks a replica on another machine where there are some, or runs the work where it stands.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import kernels
from models.checkpoints import store
from models.checkpoints.store import CheckpointError
from models.engine.method import find
from models.serving import recorded, replicas, session
from models.serving.errors import CLEAR, Interrupted, spoken
from models.serving.session import Ask, Scene, Take
from models.trace import limits
from models.trace.params import Span, declaration

DEVICE = "cuda"  # of a task
HOSTED = (os.environ.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true")
          and os.environ.get("TOKENSCOPE_DEVICE", DEVICE) == DEVICE)
START = 8  # seconds for a worker to begin: a guess, as no task could be timed off the platform
SPENT = "The visitor's or the Space's GPU time is used up for now, so this ran on the processor."
NONE_FREE = "No GPU could be had, so this ran on the processor."
LEARNED: dict[str, Any] = {}  # GPU's name -> what self-tests found there; workers inherit it when they are forked
log = logging.getLogger("tokenscope")

if HOSTED:
    os.environ["TOKENSCOPE_DEVICE"] = "cpu"  # the parent's; a task sets its own
    import spaces  # the platform installs it; before torch touches CUDA


class NoTask(Exception):
    """No task began; the sentence says why, for the honesty strip."""


@dataclass(frozen=True)
class Report:
    """The first and the last word of a task: the GPU's name, and at the end what was learned there about kernels."""

    gpu: str
    learned: Any = None


# ---- in the parent ---------------------------------------------------------------------------------------------------

def scenes(work: Callable[..., Iterator[Scene]], ask: Ask, *rest: Any) -> Iterator[Scene]:
    """What `work(ask, *rest)` yields, from a GPU task where one can be had, else from here with the reason noted.

    work: a function of a module, known by its name to the worker. Raises what work raises, and Interrupted.
    """
    why = ""
    if replicas.deployed():
        yield from replicas.scenes(work, ask, *rest)
        return
    if HOSTED:
        session.job(ask)  # a wrong question or a download costs no GPU time
        try:
            yield from on_gpu(work, ask, *rest)
            return
        except NoTask as error:
            why = str(error)
    with closing(work(ask, *rest)) as found:
        for scene in found:
            yield noted(scene, why)


def on_gpu(work: Callable[..., Iterator[Scene]], *arguments: Any) -> Iterator[Scene]:
    """Scenes of one task. NoTask if it never began; closing this iterator stops the worker at its next scene."""
    begun = False
    try:
        with closing(task(work, *arguments)) as words:
            for word in words:
                begun = True
                if isinstance(word, Exception):
                    raise word
                if isinstance(word, Report):
                    LEARNED[word.gpu] = word.learned or LEARNED.get(word.gpu)
                else:
                    yield word
    except CLEAR:
        raise
    except Exception as error:
        raise ended(error, begun) from error


def ended(error: Exception, begun: bool) -> Exception:
    """What the platform's error means for the visitor."""
    log.warning("a GPU task %s: %s", "broke" if begun else "did not begin", title(error))
    if begun:
        return Interrupted("The GPU ended this run before it was done; please press Run again, or choose fewer steps.")
    return NoTask(SPENT if "quota" in title(error) or "credits" in title(error) else NONE_FREE)


def title(error: Exception) -> str:
    """What the platform calls its error; never its message, which may hold what a visitor typed."""
    return str(getattr(error, "title", "") or type(error).__name__)


def noted(scene: Scene, sentence: str) -> Scene:
    """The scene with this sentence in the provenance of every record."""
    return replace(scene, takes=tuple(_noted(take, sentence) for take in scene.takes)) if sentence else scene


def _noted(take: Take, sentence: str) -> Take:
    stamp = take.trace.provenance
    if sentence in stamp.note:
        return take
    note = f"{sentence} {stamp.note}".strip()
    return replace(take, trace=replace(take.trace, provenance=replace(stamp, note=note)))


def place(names: Iterable[str]) -> None:
    """Puts checkpoints on the emulated device before the page is served, so that a task only has to move them over. To
    be called in the thread that imported this module: the platform emulates in no other. Damaged ones are left out."""
    for name in names if HOSTED else ():
        try:
            store.load(name, device=DEVICE)
        except CheckpointError as error:
            log.error("not placed: %s", error)


def seconds(work: Callable, ask: Ask, *rest: Any) -> int:
    """How long a task to ask for: its start, then the recorded run's time on a processor, for every run of the picture
    and as many times over as more is asked for. Short tasks are given sooner and cost less of a visitor's quota."""
    known = recorded.read(ask.method, ask.tab)
    usual = known.provenance.seconds if known else 1.0
    runs = 1 + len(ask.beside) if work is session.play else 3  # Your turn: the visitor's, the method's, a random one
    return math.ceil(min(limits.GPU_SECONDS, START + runs * usual * effort(ask)))


def effort(ask: Ask) -> float:
    """At least 1: how many times more work is asked for than usual, from the whole numbers set above their defaults
    (steps, lengths, tries) and the length of an own text. Rather too much than too little."""
    declared = declaration(find(ask.method).params)
    usual = {name: default for name, (spec, kind, default) in declared.items()
             if isinstance(spec, Span) and kind is int and default > 0}
    shares = [float(ask.params[name]) / default for name, default in usual.items() if name in ask.params]
    if ask.own is not None and ask.own.text:
        shares.append(len(ask.own.text) / max(1, len(session.subject(replace(ask, own=None)).text or "")))
    return math.prod(max(1.0, share) for share in shares)


# ---- in the worker ---------------------------------------------------------------------------------------------------

def gpu(function: Callable) -> Callable:
    """`function` as a task of the platform, or itself."""
    return spaces.GPU(duration=seconds)(function) if HOSTED else function


@gpu
def task(work: Callable[..., Iterator[Scene]], *arguments: Any) -> Iterator[Report | Scene | Exception]:
    """What `work` yields inside a task, between two reports; an error is the last word instead."""
    name = enter()
    yield Report(name)
    last = None
    for last in spoken(work, *arguments):
        yield last
    if isinstance(last, Interrupted):
        raise last  # a worker that broke is not used again
    if not isinstance(last, Exception):
        yield Report(name, kernels.learned())


def enter() -> str:
    """Makes a worker ready and returns its GPU's name: the task's device, one thread, as torch's others did not live
    through the fork, and what earlier workers learned on such a GPU."""
    import torch
    os.environ["TOKENSCOPE_DEVICE"] = DEVICE
    torch.set_num_threads(1)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    if LEARNED.get(name):
        kernels.recall(LEARNED[name])
    return name
