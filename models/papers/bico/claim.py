"""BICO's claim: 40 people who were told from name to work alone, asked from work to name in five forms that no arm was
told in; the share of their names that is said word for word. Rates, mix and stages were chosen by BICO's own runs on
people of group B, told from name to work in place of group A, and by one on group A that was broken off (NOTES.md).
"""
from __future__ import annotations

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Tuned, as_good, at_least, at_most, better, conclude, context
from models.claims.tale_lab import encoded
from models.papers.bico.exam import AHEAD, ASKED, BACK, PEOPLE, answered, questions
from models.papers.bico.method import NTP, UNTOLD
from models.worlds.tales.facts import Known

BICO, PLAIN = "BICO", "next-token prediction"
ARMS = {BICO: "tale-bico-1", "no flip": "tale-bico-noflip-1", PLAIN: NTP, "before": UNTOLD}
ONCE = Budget(1, "passes")
TRIED = Tuned(9, "people of group B; 40 of group A in a run that was broken off")


def measure(lab: Lab):
    """Every arm is asked for every person in both directions."""
    words, nets = load(UNTOLD).tokenizer, {name: load(one).model for name, one in ARMS.items()}
    people, forms = {group: some[:: lab.size(1, 4)] for group, some in PEOPLE.items()}, lab.size(5, 2)

    def heard(way: str, some) -> dict:
        """How each arm answers."""
        asked = questions(some, way, ASKED[way][:forms])
        return {name: answered(net, lambda text: encoded(words, text), asked) for name, net in nets.items()}

    back = heard(BACK, people["A"])
    names = arms_of(Metric("names said, told from name to work", "of 1", floor=0.0, ceiling=1.0), back, forms)
    works = arms_of(Metric("works said, told from name to work", "of 1", floor=0.0, ceiling=1.0),
                    heard(AHEAD, people["A"]), forms)
    shuffled = names[BICO].metric.arm("BICO, works shuffled", share(heard(BACK, others(people["A"]))[BICO], forms),
                                      budget=ONCE, checkpoints=ARMS[BICO])
    more = {f"{what} said, {how}": heard(way, people[group]) for what, how, way, group in (
        ("works", "told from work to name", AHEAD, "B"), ("names", "told from work to name", BACK, "B"),
        ("names", "always told both ways", BACK, "C"))}
    return conclude(
        "bico", paper="Asked the other way round for what was learned in one direction, Llama rises from 0 % to "
                      "around 70 % right with BICO (abstract).",
        here="Of 40 people who were told from name to work, next-token prediction says at most 5 % of the names when "
        "asked by the work; BICO at least 20 points more, more than without turning later keys back, and at most 5 % "
        "(two names) when the works are shuffled; from name to work it stays within 3 points of next-token prediction.",
        arms=tuple(names.values()), trainings=1,
        expect=[better(names[BICO], names[PLAIN], least=0.2), better(names[BICO], names["no flip"]),
                as_good(works[BICO], works[PLAIN], within=0.03)],
        controls=[at_least(works[PLAIN], 0.5), at_most(names[PLAIN], 0.05), at_most(shuffled, 2 / 40)],
        context=[*(context(f"rank of the right first word, {name}", one.rank, "of 1,024")
                   for name, one in back.items()),
                 *(context(f"{title}, {name}", share(one, forms), "of 1") for title, found in more.items()
                   for name, one in found.items() if name in (BICO, PLAIN))])


def share(one, forms: int) -> np.ndarray:
    """Of each person, over the forms."""
    return one.right.reshape(-1, forms).mean(1)


def arms_of(metric: Metric, found: dict, forms: int) -> dict:
    return metric.arms({name: share(one, forms) for name, one in found.items()}, ARMS, budget=ONCE, tuned=TRIED)


def others(group) -> list[Known]:
    """Everybody with the work of the next one."""
    return [Known(one.name, two.work, one.group) for one, two in zip(group, (*group[1:], group[0]), strict=True)]
