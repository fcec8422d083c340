"""Our test of the paper's argument, which has no numbers: 1,000 boards that no training drew, told over four hops. Four
slots are judged. Words stand beside vectors where neither was trained for it and where both were; they are as long and
hold 16 and 12,288 bits, so the medium itself is judged at 16 bits each. One training of each arm, NOTES.md says after
which failures; those from end to end for as many steps on the same boards."""
import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, advantage, better, conclude, context, more_than_chance
from models.papers.agent_language.method import BASE, FILES, channel
from models.papers.agent_language.telling import CHANNELS
from models.worlds import discs

SEED, SLOTS, HOPS = 102, 4, 4


@torch.no_grad()
def measure(lab: Lab):
    base, boards = load(BASE).model, discs.boards(SEED, lab.size(1000, 24))
    lines = {name: channel(name, base, lambda of: load(of).model) for name in CHANNELS}
    knows = {(name, k): told_on(line, boards, k, HOPS if k == SLOTS else 1) for name, line in lines.items()
             for k in (2, 4, 6)}  # [hops, K, 3]: bits, discs known, discs wrong
    told, equal = (Metric(f"known of a board from {sent}", "bits of 24", floor=0.0, ceiling=float(discs.BITS))
                   for sent in ("4 slots", "16 bits"))
    wrong = Metric("changed or invented after four hops, from 16 bits", "discs of 12", "lower", ceiling=0.0)

    def arm(metric: Metric, hop: int, what: int, budget: Budget, name: str):
        return metric.arm(CHANNELS[name], knows[name, SLOTS][hop, :, what], checkpoints=FILES.get(name, BASE),
                          budget=budget)

    words, vectors, own, free = (arm(told, 0, 0, Budget(SLOTS, "slots"), name) for name in (
        "words", "vectors", "trained-words", "trained-vectors"))
    return conclude(
        "agent-language", trainings=1, seeds=(SEED,), arms=(words, vectors, own, free),
        paper="Words lose what the vectors inside models hold, and what agents do drifts when they talk in words (an "
              "argument without numbers, abstract).",
        here="From four slots vectors let a receiver know at least 20 % more of a board than words, between frozen "
             "networks and between networks that were trained for their channel; at equal bits, trained, they let it "
             "know more than words, and after four hops fewer discs are changed or invented.",
        expect=[better(vectors, words, least=20, by="percent"), better(free, own, least=20, by="percent"),
                *(better(*(arm(*how, Budget(16, "bits"), name) for name in ("trained-bits", "trained-words")))
                  for how in ((equal, 0, 0), (wrong, -1, 2)))],
        controls=[more_than_chance(words, 0.0)],
        context=[context("frozen vectors over words that were trained for it, 4 slots", advantage(vectors, own)),
                 *(context(f"known from {k} slots, {CHANNELS[name]}", found[0, :, 0], told.unit)
                   for (name, k), found in knows.items()),
                 *(context(f"{what} after {hop} hops, {CHANNELS[name]}", knows[name, SLOTS][hop - 1, :, at], unit)
                   for name in CHANNELS for hop in (2, 4) for at, (what, unit) in enumerate(((told.name, told.unit), (
                       "discs known", "of 12"), ("changed or invented", wrong.unit))))])


def told_on(line, boards, slots: int, hops: int) -> np.ndarray:
    """Bits, discs known and wrong ones that are taken for known [hops, K, 3], receiver by receiver."""
    knows = [heard.chances for heard in line.chain(boards, slots, hops)]
    return np.array([[discs.known(one, boards).sum(1), *discs.believed(one, boards).sum(-1)] for one in knows],
                    float).swapaxes(1, 2)
