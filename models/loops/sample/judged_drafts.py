"""Your turn where drafts are verified: judge each draft before the model does.

What is written never depends on the visitor's verdicts, only on the model's. A pick is the number of guesses of a draft
that the visitor would keep, counted from the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from models.engine.method import Close, Emit, Event, Job, Options, Turn
from models.engine.recording import bars
from models.trace import Fact, Trace
from models.trace.params import ParamError

DRAFTS = 6  # of one game
PENDING = "draft to judge"  # how the last step of an open decision begins


def game(job: Job, played: Iterable, told: Callable[..., Iterator[Event]], drafts: Callable[[], Sequence],
         waiting: Callable[..., Emit | None]) -> Iterator[Event]:
    """A run up to the draft that waits for a verdict, and the score. told(round): its events; drafts(): (guesses,
    accepted ones) of those verified so far; waiting(round): the step that offers the next one, None if none waits."""
    last, offered = len(job.choice) == DRAFTS, None
    for found in played:
        yield from told(found)
        if len(drafts()) == len(job.choice):
            offered = None if last else waiting(found)
            if last or offered:
                break
    if offered:
        yield offered
    yield closing(*judged(job, drafts()))


def judged(job: Job, drafts: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """How many guesses of each verified draft the visitor and the model keep. drafts: (guesses, accepted ones).
    ParamError for picks outside a draft."""
    picks = [group[0] if len(group) == 1 else -1 for group in job.choice[: len(drafts)]]
    if not all(0 <= pick <= guesses for pick, (guesses, _) in zip(picks, drafts)):
        raise ParamError("Each verdict must be a number of guesses of its draft, from 0 to all of them.")
    return np.array(picks, int), np.array([accepted for _, accepted in drafts[: len(picks)]], int)


def fact(mine: np.ndarray, base: np.ndarray) -> Fact:
    """How many verdicts are the model's own; the method's are, by construction."""
    share = 100.0 * float((mine == base).mean()) if len(base) else 100.0
    return Fact("Drafts judged as the model does", share, f"% of {len(base)}", "higher")


def sentence(mine: np.ndarray, base: np.ndarray) -> str:
    """What the verdicts would have cost."""
    many, few = int((mine - base).clip(0).sum()), int((base - mine).clip(0).sum())
    if not many and not few:
        return f"All {len(base)} drafts judged as the model judges them."
    return (f"Over {len(base)} drafts {many} guesses too many were kept, which the model would not have written, and "
            f"{few} too few, which it must write again.")


def closing(mine: np.ndarray, base: np.ndarray) -> Close:
    """The score, and guess by guess what was kept."""
    chart = bars("Guesses kept of each draft", "draft", "tokens", {"you": mine, "the model": base},
                 range(1, len(base) + 1), caption="One too many and the result changes; one too few wastes a guess.")
    return Close("sample", sentence(mine, base), (chart,) * bool(len(base)), {"verdicts": fact(mine, base)})


def options(trace: Trace) -> Options | None:
    """Keep none of the draft, its first guess, its first two, ... None when all is written."""
    last = trace.steps[-1]
    if not last.label.startswith(PENDING):
        return None
    draft = last.where("new")
    words, counts = [trace.vocabulary[int(id)] for id in last.ids[draft]], range(1, len(draft) + 1)
    kept = ["".join(words[:n]).strip().replace("\n", "\u23ce") for n in counts]
    if trace.canvas.kind != "text":  # a picture shows its drafts
        kept = ["the first", *(f"the first {n}" for n in counts[1:])]
    labels = "\u2715 none of it", *(f"\u2713 {text}" for text in kept)
    return Options(int(min(*draft, *np.flatnonzero(last.ids < 0)[:1])), (0, *counts), labels, False)


def turn(prompt: str) -> Turn:
    """The game of a method that offers its drafts in steps called PENDING and closes with `closing`."""
    return Turn(prompt, "verdicts", lambda job: (1,) * DRAFTS, options, length="")
