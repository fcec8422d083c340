"""The claim of POPri: what 512 synthetic texts are worth to a small language model, on the notes of 300 clients who
scored nothing. Its steps and rate were chosen on the notes of other clients by real and public texts alone; the bars
were fixed before any arm was measured: 0.2 and the order of budgets are the plan's, margins are ours."""
from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Quantity, at_least, better, close_to, conclude, context
from models.claims.tale_lab import foreseen, schooled, student
from models.papers.popri.federation import CLIENTS, candidates, cut, federation, private, topical
from models.papers.popri.rule import ROUNDS, epsilon, exact_delta, noise_for
from models.worlds.federation import openings, public

TRUNK, SEEDS, TEXTS, BUDGET = "tale-ar-2", (61, 62), 512, 2.0
TAUGHT = {"POPri, epsilon 2": "tale-popri-1", "POPri, no noise": "tale-popri-free-1",
          "POPri, epsilon 0.5": "tale-popri-tight-1", "shuffled pairs": "tale-popri-shuffled-1"}
START, BEST, REAL = "round 0", "best of all candidates, epsilon 2", "the clients' own notes"
ARMS = {START: TRUNK, **TAUGHT}
SCORED = Budget(ROUNDS * TEXTS, "texts scored by all clients")


def measure(lab: Lab):
    base, tokenizer, count = load(TRUNK).model, load(TRUNK).tokenizer, lab.size(TEXTS, 4)
    tested, asked = private(tokenizer, lab.size(300, 6), "tested"), len(cut(tokenizer, openings(1))[0])
    pupil = student(len(tokenizer), cut(tokenizer, public(lab.size(3000, 20), 7)), lab.size(300, 2))
    writers = {name: load(one).model for name, one in ARMS.items()}
    found, topics = {name: [] for name in (*ARMS, BEST, REAL)}, {}
    for seed in SEEDS[: lab.size(len(SEEDS), 1)]:
        sets = {name: candidates(net, tokenizer, openings(count), 1, 1000 * seed) for name, net in writers.items()}
        sets |= {BEST: selected(base, tokenizer, lab, count, seed), REAL: own(tokenizer, lab, count, seed)}
        for name, rows in sets.items():
            net = schooled(pupil, rows, lab.size(80, 2), 2e-3, seed)
            found[name].append([100 * foreseen(net, notes, asked) for notes in tested])
            topics[name] = topical(tokenizer, rows)
    metric = Metric("next words of clients' notes that are said right", "%", floor=0.0,
                    ceiling=np.mean(found[REAL], 0))
    made = metric.arms({name: np.array(one) for name, one in found.items()}, {**ARMS, BEST: TRUNK},
                       {name: SCORED for name in found} | {START: Budget(0, SCORED.unit), REAL: Budget(0, SCORED.unit)})
    two, free, tight, shuffled = (made[name] for name in TAUGHT)
    sigma = noise_for(BUDGET)

    def closed(name: str, *others: str) -> Quantity:
        """The share of the gap that an arm closes; of several, by how much more the first does than the second."""
        rows = np.stack([made[one].scores for one in (START, REAL, name, *others)], 1)  # [K, 3 or 4]
        title = f"share of the gap closed, {name}" + "".join(f", minus {one}" for one in others)
        return Quantity(title, rows, "of 1", gap, -1.0, 1.0, tuple(made[one] for one in (name, *others)))

    return conclude(
        "popri", trainings=1, seeds=SEEDS, arms=(two, made[START], made[REAL], made[BEST], shuffled, free, tight),
        paper="Closes the gap in next-token accuracy between the fully private and the non-private setting by up to "
              "58 %, against 28 % for earlier synthetic data and 3 % for DP federated learning (abstract).",
        here="At epsilon 2 texts of POPri close at least 0.2 of the gap between texts of the public network and the "
             "clients' own notes, more than the best of as many scored texts; less noise is no worse; pairs in random "
             "order close nothing.",
        expect=[at_least(closed(two.name), 0.2), better(two, made[BEST]), better(two, shuffled),
                close_to(closed(shuffled.name), 0.0, 0.15),
                at_least(closed(free.name, two.name), -0.1), at_least(closed(two.name, tight.name), -0.1)],
        controls=[better(made[REAL], made[START], least=1.0, unmatched="notes are not scored, they are read")],
        context=[*(context(f"share of the gap closed, {name}", closed(name)) for name in (free.name, tight.name, BEST)),
                 *(context(f"texts of the clients' topics, {name}", 100 * one, "%") for name, one in topics.items()),
                 context("epsilon of all rounds by Renyi DP", epsilon(sigma, ROUNDS), "at delta 1 in 10,000",
                         "a formula"),
                 context("delta at that epsilon by the exact formula of one Gaussian",
                         1e4 * exact_delta(BUDGET, sigma, ROUNDS), "in 10,000", "a formula")])


def gap(rows: np.ndarray) -> float:
    start, real, *arms = rows.mean(0)
    shares = (np.array(arms) - start) / (real - start) if real != start else np.zeros(len(arms))
    return float(shares[0] - (shares[1] if len(arms) > 1 else 0.0))


def selected(base, tokenizer, lab: Lab, count: int, seed: int) -> list[list[int]]:
    """Of as many texts of the public network as all rounds score, with the same noise, the best."""
    asked, dice = federation(base, tokenizer, lab.size(CLIENTS, 20)), torch.Generator().manual_seed(seed)
    rows, values = list[list[int]](), list[float]()
    for number in range(lab.size(ROUNDS, 2)):
        some = candidates(base, tokenizer, openings(count), 1, 1000 * seed + 100 * number)
        rows, values = rows + some, [*values, *asked.told(asked.phi(some), noise_for(BUDGET), dice)[1].tolist()]
    return [rows[i] for i in np.argsort(values, kind="stable")[::-1][:count]]


def own(tokenizer, lab: Lab, count: int, seed: int) -> list[list[int]]:
    """Notes of clients who scored, read as no server may."""
    notes = [note for client in private(tokenizer, lab.size(CLIENTS, 20)) for note in client]
    return [notes[i] for i in np.random.default_rng(seed).permutation(len(notes))[:count]]
