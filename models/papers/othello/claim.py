"""The claim of reading Othello layer by layer: 1,000 games whose openings no training drew, of each the share of discs
that a linear map names right, mean over the boards before moves 4 to 28. The layer of every set of maps is the best on
200 other games. What is compared learned from the same games for as many steps: maps of the trained network, of one
that learned nothing, and maps taught colours. A predictor beside them knows where the discs are, and which kind is the
commoner one there at that move. One training of the network, three of each autoencoder."""
from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Quantity, Tuned, at_least, better, conclude, context, more_than_chance
from models.claims.probe import per_group, told_by_features
from models.papers.othello import network
from models.papers.othello.network import COLOUR, GPT, LENS, MINE, SAID, UNTRAINED
from models.worlds import othello

SCORED, CHOSEN, COUNTED, STABLE = 62, 61, 63, 64  # seeds: scored, for choosing layers, for the majority, for stability
TOLD = 0.8  # AUROC from which a feature tells that a disc is stable, as the paper counts
MIDDLE, LAST = (3, 4), (5, 6)
PARTS = {"moves 4 to 11": (4, 12), "moves 12 to 19": (12, 20), "moves 20 to 28": (20, 29)}


def measure(lab: Lab):
    net, lens = load(GPT).model, load(LENS).model
    nets = {MINE: net, COLOUR: net, UNTRAINED: network.untrained(net)}
    some, games, others = (othello.games(np.random.default_rng(seed), lab.size(count, 6), kept=True)
                           for seed, count in ((CHOSEN, 200), (SCORED, 1000), (STABLE, 300)))
    best = {name: int(right(lens, one, some, name)[0].mean(0).argmax()) for name, one in nets.items()}
    found = {name: right(lens, one, games, name) for name, one in nets.items()}
    discs = {name: per_game(games, one[0]) for name, one in found.items()}  # [K, L + 1]
    usual, once = majority(games, lab.size(5000, 40)), Budget(1, "games")
    metric = Metric("discs read right", "%", floor=usual, ceiling=100.0)
    arms = {name: metric.arm(SAID[name], discs[name][:, best[name]], checkpoints=(GPT, LENS), budget=once,
                             tuned=Tuned(7, "200 other games: the layer")) for name in nets}
    common = metric.arm("commoner kind", usual, budget=once)
    play = network.legality(net, games)
    knows = Metric("likeliest moves that are legal", "%", floor=play["chance"], ceiling=100.0).arm(
        "network", play["legal"], checkpoints=GPT, budget=once)
    top, (stable, disc), sparse = best[MINE], *stability(net, lens, others)
    return conclude(
        "othello", trainings=1, seeds=(SCORED,), arms=(*arms.values(), common),
        paper="Linear maps read the board better the deeper the layer; sparse autoencoders have features of corners "
              "and edges first and of inner squares later, and features of stable discs in the middle layers.",
        here="The best layer's linear map reads at least 15 points more discs right than a map of an untrained "
             "network, and than who knows the commoner kind; 10 more than one taught black and white; at least 95 % of "
             "all squares; no layer up to it loses more than 0.5 points. More edge squares have a feature of stable "
             "discs in the middle layers than in the last, in two of three autoencoders.",
        expect=[better(arms[MINE], arms[UNTRAINED], 15), better(arms[MINE], arms[COLOUR], 10),
                better(arms[MINE], common, 15, unmatched="the best layer of seven, by other games"),
                at_least(Quantity("all squares read right", per_game(games, found[MINE][1])[:, top], "%", None, 0.0,
                                  100.0), 95),
                at_least(Quantity("least gain from a layer to the next, up to the best", discs[MINE], "points",
                                  lambda rows: float(np.diff(rows.mean(0)[: top + 1]).min(initial=100.0))), -0.5),
                at_least(Quantity("squares with a feature of stable discs, layers 3 and 4 over 5 and 6, median of "
                                  "three autoencoders", over(stable), "of 1", median, -1.0, 1.0), 0)],
        controls=[more_than_chance(knows, play["chance"])],
        context=[*(context(f"discs read right, {SAID[name]}, layer {layer}", rows[:, layer], "%")
                   for name, rows in discs.items() for layer in range(rows.shape[1])),
                 *(context(f"discs read right, {SAID[name]}, {part}", rows[np.isfinite(rows)], "%")
                   for name in nets for part, moves in PARTS.items()
                   for rows in [per_game(games, found[name][0][:, best[name]], moves)]),
                 context("likeliest moves that are legal", knows),
                 *(context(f"edge squares with a feature of stable discs, layer {layer}", 100 * (
                     stable[:, :, layer] > TOLD).mean(1), "%") for layer in range(stable.shape[2])),
                 context("of these, squares where it tells no less that there is a disc at all",
                         100 * float((disc >= stable)[stable > TOLD].mean() if (stable > TOLD).any() else 0), "%"),
                 *(context(f"autoencoders: {name}, mean over layers and runs", 100 * float(share), "%")
                   for name, share in sparse.items())])


def per_game(games: othello.Games, values: np.ndarray, moves: tuple[int, int] = (0, 99)) -> np.ndarray:
    """Mean [K, ...] over the boards [N, ...] of each game before some moves."""
    game, move = np.nonzero(network.counted(games))
    return per_group(values, game, len(games.moves), (move >= moves[0]) & (move < moves[1]))


@torch.no_grad()
def right(lens, net, games: othello.Games, reading: str) -> tuple[np.ndarray, np.ndarray]:
    """Percent of discs, and of all squares, that are read right on every board [N, L + 1]."""
    boards = othello.coloured(games.boards) if reading == COLOUR else games.boards
    true, states = boards[network.counted(games)][:, None], network.states_of(net, games)  # [N, 1, S], [N, L + 1, D]
    hits = np.concatenate([lens.read(part, reading).argmax(-1).numpy() for part in states.split(2000)]) == true
    return 100 * (hits & (true > 0)).sum(-1) / (true > 0).sum(-1), 100 * hits.mean(-1)


def majority(games: othello.Games, count: int) -> np.ndarray:
    """Percent of discs [K] right for who is told where discs are, and says the commoner kind there at that move."""
    seen = othello.games(np.random.default_rng(COUNTED), count)
    there = (np.arange(othello.LONGEST + 1) <= seen.lengths[:, None])[..., None]
    says = 1 + (((seen.boards == 2) & there).sum(0) > ((seen.boards == 1) & there).sum(0))  # [T + 1, S]
    boards, here = games.boards, network.counted(games)
    hits = (boards == says)[here]
    return per_game(games, 100 * hits.sum(-1) / (boards > 0)[here].sum(-1))


@torch.no_grad()
def stability(net, lens, games: othello.Games):
    """Of squares on an edge, runs and layers [2, E, R, L + 1]: how well the best feature tells that the disc there is
    stable (AUROC), and how well the same one tells that there is a disc. And how sparse the autoencoders are."""
    boards, edge = games.boards[network.counted(games)], othello.stable(np.ones(othello.SIDE**2))
    truth = np.concatenate([othello.stable(boards)[:, edge], (boards > 0)[:, edge]], 1)
    states = network.states_of(net, games)
    told = told_by_features(lens, states, truth, int(edge.sum()))
    return np.split(told, 2), lens.coder_loss(states[::8])[1]


def over(stable: np.ndarray) -> np.ndarray:
    """By how much more a square has a feature in the middle layers than in the last [E, R]."""
    return (stable > TOLD)[..., MIDDLE].mean(-1) - (stable > TOLD)[..., LAST].mean(-1)


def median(rows: np.ndarray) -> float:
    """The autoencoder in the middle: two of three are at least so."""
    return float(np.median(rows.mean(0)))
