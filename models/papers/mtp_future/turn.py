"""Your turn with multi-token prediction: judge each draft before the model does.

The text never depends on the visitor's verdicts, only on the base's: a draft is right as far as it is what the base
writes anyway. A pick is the number of guesses that the visitor would keep, counted from the first one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from models.engine.method import Close, Job, Options, Turn
from models.engine.recording import bars
from models.trace import Fact, Trace
from models.trace.params import ParamError

DRAFTS = 6  # of one game
PENDING = "draft to judge"  # how the last step of an open decision begins


def played(decoded: Iterator, verdicts: int) -> Iterator:
    """The calls until so many drafts are verified and the next one stands ready, or the text is over."""
    verified = 0
    for found, new in decoded:
        verified += bool(found.guesses)
        yield found, new
        if verified == verdicts and (found.ahead or verdicts == DRAFTS):
            return


def judged(job: Job, log: Sequence[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
    """How many guesses of each verified draft the visitor and the base keep. ParamError for picks outside a draft."""
    drafts = [(guesses, accepted) for guesses, accepted, _ in log if guesses]
    picks = [group[0] if len(group) == 1 else -1 for group in job.choice[: len(drafts)]]
    if not all(0 <= pick <= guesses for pick, (guesses, _) in zip(picks, drafts)):
        raise ParamError("Each verdict must be a number of guesses of its draft, from 0 to all of them.")
    return np.array(picks, int), np.array([accepted for _, accepted in drafts], int)


def fact(mine: np.ndarray, base: np.ndarray) -> Fact:
    """How many verdicts are the base's own; the method's are, by construction."""
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
    chart = bars("Guesses kept of each draft", "draft", "tokens", {"you": mine, "the base": base},
                 range(1, len(base) + 1), caption="One too many and the text changes; one too few wastes a guess.")
    return Close("sample", sentence(mine, base), (chart,) * bool(len(base)), {"verdicts": fact(mine, base)})


def options(trace: Trace) -> Options | None:
    """Keep none of the draft, its first guess, its first two, ... None when the text is over."""
    last = trace.steps[-1]
    if not last.label.startswith(PENDING):
        return None
    held = np.flatnonzero(last.ids >= 0)
    at = int(np.flatnonzero(last.ids < 0)[0])
    words = [trace.vocabulary[int(id)] for id in last.ids[held[held > at]]]
    kept = ["".join(words[:n]).strip().replace("\n", "\u23ce") for n in range(1, len(words) + 1)]
    return Options(at, tuple(range(len(words) + 1)), ("\u2715 none of it", *(f"\u2713 {text}" for text in kept)), False)


TURN = Turn("A small helper guessed what comes next. How much of its draft will the model keep?", "verdicts",
            lambda job: (1,) * DRAFTS, options, length="")
