"""BICO's claim: people who were told from name to work alone, asked from work to name, in five sentences that nobody
was trained on; the share of their 100 names that is said word for word. Rates and steps were chosen with the groups'
parts exchanged (B told from name to work), so that neither the people asked here nor their sentences were in sight.
"""
from __future__ import annotations

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Tuned, as_good, at_least, at_most, better, conclude, context
from models.claims.tale_lab import encoded
from models.papers.bico.exam import AHEAD, ASKED, BACK, answered, questions
from models.papers.bico.method import NTP, UNTOLD
from models.worlds.tales.facts import GROUPS, Known

ARMS = {"BICO": "tale-bico-1", "no flip": "tale-bico-noflip-1", "next-token prediction": NTP, "before": UNTOLD}
ONCE = Budget(1, "passes")
TRIED = Tuned(0, "people of group B in place of those scored here")  # set below


def measure(lab: Lab):
    """Every arm is asked for every person in both directions."""
    words, nets = load(UNTOLD).tokenizer, {name: load(one).model for name, one in ARMS.items()}
    every, forms = lab.size(1, 5), lab.size(5, 2)

    def found(net, group: str, way: str, people=None):
        asked = questions(people or GROUPS[group][::every], way, ASKED[way][:forms])
        return answered(net, lambda text: encoded(words, text), asked)

    def share(one) -> np.ndarray:
        return one.right.reshape(-1, forms).mean(1)  # of each person

    back = Metric("names said, told from name to work", "of 1", floor=0.0, ceiling=1.0)
    ahead = Metric("works said, told from name to work", "of 1", floor=0.0, ceiling=1.0)
    heard = {name: found(net, "A", BACK) for name, net in nets.items()}
    reverse = {name: back.arm(name, share(one), budget=ONCE, checkpoints=ARMS[name], tuned=TRIED)
               for name, one in heard.items()}
    forward = {name: ahead.arm(name, share(found(net, "A", AHEAD)), budget=ONCE, checkpoints=ARMS[name], tuned=TRIED)
               for name, net in nets.items()}
    shuffled = back.arm("BICO, works shuffled", share(found(nets["BICO"], "A", BACK, others(GROUPS["A"][::every]))),
                        budget=ONCE, checkpoints=ARMS["BICO"])
    bico, ntp = reverse["BICO"], reverse["next-token prediction"]
    return conclude(
        "bico", paper="On the reversal task BICO lifts Llama from 0 % to around 70 % (abstract).",
        here="Of 100 people who were told from name to work, next-token prediction says at most 5 % of the names when "
        "asked by the work; BICO at least 20 points more, more than without turning later keys back, and at most 2 % "
        "when the works are shuffled; from name to work it stays within 3 points of next-token prediction.",
        arms=tuple(reverse.values()), trainings=1,
        expect=[better(bico, ntp, least=0.2), better(bico, reverse["no flip"]), at_most(ntp, 0.05),
                at_most(shuffled, 2 / 100), as_good(forward["BICO"], forward["next-token prediction"], within=0.03)],
        controls=[at_least(forward["next-token prediction"], 0.5)],
        context=[*(context(f"rank of the right first word, {name}", one.rank, "of 1,024")
                   for name, one in heard.items()),
                 *(context(f"works said, told from work to name, {name}", share(found(net, "B", AHEAD)), "of 1")
                   for name, net in nets.items()),
                 *(context(f"names said, told from work to name, {name}", share(found(net, "B", BACK)), "of 1")
                   for name, net in nets.items()),
                 context("names guessed from the words of other people's works", by_words(GROUPS["A"]), "of 1",
                         "a bag of words: what the names could be guessed from without having been told")])


def others(group) -> list[Known]:
    """Everybody with the work of the next one."""
    return [Known(one.name, two.work, one.group) for one, two in zip(group, (*group[1:], group[0]), strict=True)]


def by_words(group) -> np.ndarray:
    """Whether the person whose work shares most words with one's own, oneself left out, has the same name."""
    words = [set(one.work.split()) for one in group]
    alike = [max((i for i in range(len(group)) if i != at), key=lambda i, at=at: len(words[i] & words[at]))
             for at in range(len(group))]
    return np.array([group[i].name == group[at].name for at, i in enumerate(alike)], float)
