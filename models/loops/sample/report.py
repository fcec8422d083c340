"""What the samplers of tokens say at the end of a run: the numbers of the header and the curve under the text."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.loops.sample.loop import Journal
from models.trace import YES, Chart, Fact


def along(journal: Journal, name: str) -> np.ndarray:
    """A number of every sampled unit, in order."""
    page = journal.page
    return page.values[name][page.start: page.count].astype(np.float64)


def facts(journal: Journal) -> dict[str, Fact]:
    """Numbers that every sampler reports, so that runs can be set side by side."""
    calls = sum(decision.cost.calls for decision in journal.decisions)
    return {
        **judged(journal),
        "spent": Fact("Generated in all", journal.spent, "tokens", "lower"),
        "perplexity": Fact("Surprise at its own text", round(journal.perplexity, 3), "perplexity", "lower"),
        "kept": Fact("Written", len(journal.ids), "tokens"),
        **({"per_call": Fact("Written", len(journal.ids) / calls, "tokens per call of the model", "higher")}
           if calls else {}),  # none: what the reading of the prompt had said was enough
        "entropy": Fact("Mean entropy", round(float(along(journal, "entropy").mean()), 3), "nats"),
    }


def judged(journal: Journal) -> dict[str, Fact]:
    """Whether the answer is right, where the subject is a problem that can be checked."""
    from models.worlds import routes
    subject = journal.job.subject
    try:
        right = subject.kind == "problem" and routes.check(f"{subject.text} {journal.text}")
    except ValueError:  # a visitor's own text that is no sum
        return {}
    return {"right": Fact("Right answer", float(right), YES, "higher")} if subject.kind == "problem" else {}


def entropy_curve(journal: Journal) -> Chart:
    """Entropy before and after the warpers, at each step that decided something."""
    seen = [(d.step, d.moment) for d in journal.decisions]
    series = {"the model's own": pairs((at, m.entropy) for at, m in seen),
              "after the sampler's settings": pairs((at, m.warped_entropy) for at, m in seen)}
    return Chart("line", "How sure the model is", "step", "entropy (nats)", series, by_step=True)


def pairs(points: Iterable[tuple[float, float]]) -> np.ndarray:
    """Points as float [K, 2]."""
    return np.array(list(points), np.float32).reshape(-1, 2)


def shown(piece: str) -> str:
    """A piece inside a sentence: in quotes, white space named."""
    names = {"": "nothing", " ": "a space", "\n": "a line break"}
    return names.get(piece) or names.get(piece.strip(" ")) or f"\u201c{piece.strip()}\u201d"
