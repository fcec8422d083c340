"""When a run breaks: one clear sentence for the visitor, a log line without their words, and a process that goes on.

Errors that a visitor can cause say themselves what to change (`CLEAR`). The others are ours or the machine's: memory, a
graphics card, a disk. `told` names them and puts the process in order, so that the next run works.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from models.checkpoints import store
from models.checkpoints.store import CheckpointError
from models.trace import TraceError
from models.trace.params import ParamError
from models.trace.subject import SubjectError

CLEAR = (ParamError, SubjectError, CheckpointError, TraceError)  # each says in one sentence what to change
GENERIC = "Something went wrong on our side; please try again or choose another example."
MEMORY = ("There was not enough memory for this run; please choose a shorter text or fewer steps, or compare with "
          "fewer methods.")
CARD_MEMORY = ("The graphics card had no memory left for this run; please try again, or choose a shorter text or fewer "
               "steps.")
CARD = "The graphics card failed in this run; from now on the server computes without it, please press Run again."
DISK = "The server's disk is full; please try again later, and tell whoever runs this server."
FILE = "The server could not read or write one of its files; please try again, and tell whoever runs this server."
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
log = logging.getLogger("tokenscope")


class Interrupted(ParamError):
    """A run that ended in its midst; the sentence says what to do."""


def told(error: BaseException) -> str:
    """The sentence for whoever asked. What is not their doing is logged, and the process is made ready to go on."""
    if isinstance(error, CLEAR):  # it may quote what was asked for, which stays on its line
        return "".join(letter if letter.isprintable() else " " for letter in str(error))
    log.error("a run failed: %s", trail(error))
    sentence = named(error)
    if sentence in (MEMORY, CARD_MEMORY):
        _make_room()
    if sentence == CARD:
        os.environ["TOKENSCOPE_DEVICE"] = "cpu"  # after such an error CUDA answers no more until the process restarts
    return sentence


def spoken(work: Callable[..., Iterator], *arguments: Any) -> Iterator:
    """What `work` yields; an error is the last word instead. For another process, whose raised errors come back with
    text of the platform's own, or not at all. `Interrupted` is one that was not the visitor's doing."""
    try:
        with closing(work(*arguments)) as found:
            yield from found
    except CLEAR as error:
        yield error
    except Exception as error:
        yield Interrupted(told(error))


def trail(error: BaseException) -> str:
    """Types and places of an error and its causes. Never its message: that may hold what a visitor typed."""
    found = [f"{type(error).__name__} at {_place(error)}"]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " after ".join([*found, trail(cause)]) if cause is not None else found[0]


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return " > ".join(f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in frames) or "an unknown place"


def named(error: BaseException) -> str:
    """The sentence for an error that is not the visitor's doing."""
    text = str(error).lower()
    if _is_torchs(error, "OutOfMemoryError") or "cuda out of memory" in text:
        return CARD_MEMORY
    if _is_torchs(error, "AcceleratorError") or (isinstance(error, RuntimeError) and "cuda error" in text):
        return CARD
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in text):
        return MEMORY
    if isinstance(error, OSError):
        return DISK if error.errno in NO_SPACE else FILE
    return GENERIC


def _is_torchs(error: BaseException, name: str) -> bool:
    """Whether it is torch's error of this name, without importing torch here; older versions lack some."""
    kind = getattr(sys.modules.get("torch"), name, None)
    return kind is not None and isinstance(error, kind)


def _make_room() -> None:
    """Gives back what can be had again: loaded models, and what torch keeps of the card's memory."""
    store.unload()
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
