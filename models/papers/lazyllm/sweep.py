"""Which layers LazyLLM, static pruning and dice should cut after, at 69 % of the work: the table in NOTES.md (which has
one row only for dice).

    python -m models.papers.lazyllm.sweep          # about 25 minutes on a busy core

One rate r serves all cuts of a set of layers, so that the work is the same for every set. The questions are of other
seeds than the claim's, and each of the three rules sees all sets.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence

from models.baselines.random_keep import method as random_keep
from models.baselines.top_attention import method as top_attention
from models.checkpoints.precision import pinned
from models.claims.prune_lab import VALIDATION, exam, full, pairs, questions
from models.engine.statistics import bootstrap
from models.papers.lazyllm import method as lazyllm

LAYERS, WORK, QUESTIONS = 6, 0.6925, 120
PLACES = ((3, 5), (3, 4, 5), (3,), (4, 5), (3, 4), (2, 3), (2, 5), (2, 3, 5))  # cuts stand after these layers
RULES = {"LazyLLM": lazyllm, "static": top_attention, "random": random_keep}


def rates(places: Sequence[int], rate: float) -> tuple[float, ...]:
    """Fraction cut after each layer, from the first."""
    return tuple(rate if layer in places else 0.0 for layer in range(1, LAYERS + 1))


def work(cut: Sequence[float]) -> float:
    """Share of the prompt's (token, layer) pairs that are computed."""
    alive, total = 1.0, 0.0
    for rate in cut:
        total, alive = total + alive, alive * (1 - rate)
    return total / len(cut)


def even(places: Sequence[int], share: float = WORK) -> tuple[float, ...]:
    """One rate at all places that leaves this share of the work, by bisection."""
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        rate = (low + high) / 2
        low, high = (rate, high) if work(rates(places, rate)) > share else (low, rate)
    return rates(places, high)


def main(say: Callable[[str], None] = print) -> None:
    asked = pairs(questions(QUESTIONS, seeds=VALIDATION))
    with pinned("float32"):
        say(f"full: {bootstrap(exam(lazyllm.METHOD, asked, full).hits)}")
        for name, rule in RULES.items():
            for places in PLACES:
                cut = even(places)
                found = exam(rule.METHOD, asked, lambda job, layers, rule=rule, cut=cut: rule.policy(job, layers, cut),
                             {"revive": True} if name == "random" else {})
                say(f"{name} after {places}, rate {max(cut):.3f}: {bootstrap(found.hits)}")


if __name__ == "__main__":
    main()
