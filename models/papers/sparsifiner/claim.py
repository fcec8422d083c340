"""Sparsifiner's claim, small: what a predicted quarter of the pairs costs in accuracy, keeps in attention, and takes.

One training: predictors on photo-vit-1, then the trunk under their masks; the control was trained densely for as many
steps. Other masks are not trained. Kinds of masks are told apart at 5 % of the keys: at 25 % even random ones lose only
1.6 points (audit of 2026-11). Multiply-adds at 257 tokens are counted, no network of that size was trained.
"""

from __future__ import annotations

from copy import copy
from functools import partial

import numpy as np
import torch
from torch import Tensor

from models.baselines.vit import method as vit
from models.checkpoints.store import load
from models.claims import Lab, probe
from models.claims.harness import Budget, Claim, Metric, as_good, at_least, better, conclude, context, ratio
from models.claims.timing import race
from models.papers.sparsifiner import network as net
from models.papers.sparsifiner.method import DENSE, PREDICTORS, SPARSE
from models.papers.sparsifiner.record import AttentionWork, work
from models.trace.percent import percent

KEEP, FEW, TOKENS, CHANCE = 0.25, 0.05, 0.7, 2.0
LARGE = 257, 42, 8  # tokens, maps and coefficients of 4-pixel patches, for the count


def measure(lab: Lab) -> Claim:
    """Accuracy with masks and without; kinds of masks where few keys are left; mass kept; the price as context."""
    plain, sparse, dense, guess = (load(name).model for name in (vit.CHECKPOINT, SPARSE, DENSE, PREDICTORS))
    pixels, truth = probe.held_out(lab, lab.size(2463, 24))
    some = lab.size(1000, 24)
    learned = net.chosen(guess.learned(), KEEP)
    right = Metric("photos classified right", "%", floor=CHANCE, ceiling=100.0)
    masked = right.arm("with masks", hits(sparse, pixels, truth, learned), checkpoints=SPARSE, budget=keys(KEEP))
    control = right.arm("control, trained as long, all pairs", hits(dense, pixels, truth), checkpoints=DENSE,
                        budget=keys(1.0))
    rare = Metric("photos classified right with 4 keys per patch", "%", floor=CHANCE, ceiling=100.0)
    few = {kind: rare.arm(name, hits(sparse, pixels[:some], truth[:some], keys_by(kind, guess, FEW)), budget=keys(FEW),
                          checkpoints=SPARSE)
           for kind, name in (("learned", "predicted keys"), ("window", "nearest keys"), ("random", "random keys"),
                              ("oracle", "the oracle's keys"))}
    held = np.concatenate([mass(sparse, guess, part) for part in pixels[: lab.size(500, 24)].split(100)]).T  # [3, K]
    whole = Metric("dense attention on the kept keys", "of 1", floor=held[2], ceiling=held[1])
    own, best = (whole.arm(name, values, budget=keys(KEEP), checkpoints=SPARSE)
                 for name, values in (("predicted", held[0]), ("best", held[1])))
    return conclude(
        "sparsifiner",
        paper="Sparsifiner (arXiv 2303.13755): attention on predicted pairs alone takes 48 to 69 % fewer multiply-adds "
              "at an accuracy within 0.4 points of dense attention; with token pruning over 60 % of the whole network.",
        here="50 classes of 64 x 64 photos, 17 of 65 keys per patch: within 1 point of a control trained as long with "
             "all pairs; at least 0.8 of the attention that the best 17 keys hold; with 4 keys at least 3 points above "
             "random and 1 above nearest ones.",
        arms=(masked, control, *few.values(), own, best), trainings=1, controls=[better(few["oracle"], few["random"])],
        expect=[as_good(masked, control, within=1), better(few["learned"], few["random"], least=3),
                better(few["learned"], few["window"], least=1),
                at_least(ratio(own, best, "attention on predicted over best keys", unit="ratio",
                               floor=float(held[2].mean() / held[1].mean()), ceiling=1.0), 0.8, bar="ours")],
        context=[*untouched(plain, guess, pixels[:some], truth[:some]),
                 *leaving(sparse, dense, pixels[:some], truth[:some], learned), *counts(guess),
                 *times(sparse, learned, pixels[:16], lab)],
        would_take="predictors trained for 2,000 to 3,000 steps, and a pair of networks with 257 tokens")


def keys(share: float) -> Budget:
    return Budget(net.budget(share, 65), "keys per patch")


def keys_by(kind: str, guess, share: float):
    """The keys of one kind of mask; random ones from a fixed seed."""
    return net.chosen(net.score_of(kind, guess, torch.Generator().manual_seed(0)), share)


def hits(model, pixels: Tensor, truth: np.ndarray, keys: net.Keys | None = None, tokens: float = 1.0) -> np.ndarray:
    """Percent right [K], 0 or 100 each."""
    return 100 * probe.hits(partial(net.logits, model, keys=keys, tokens=tokens), pixels, truth)


def untouched(plain, guess, pixels: Tensor, truth: np.ndarray) -> list:
    """The trunk before it has adapted to any mask."""
    why = "before phase 2; kinds are 1.6 points apart here at most"
    return [context("before phase 2: all pairs", hits(plain, pixels, truth), "% correct", why),
            *(context(f"before phase 2: {name} keys", hits(plain, pixels, truth, keys_by(kind, guess, KEEP)),
                      "% correct", why)
              for kind, name in (("learned", "predicted"), ("window", "nearest"), ("random", "random")))]


def mass(model, guess, pixels: Tensor) -> np.ndarray:
    """Dense attention of patches [K, 3] on predicted, best and random keys, in the masked pass, mean over layers."""
    dice, found = net.dice(torch.Generator().manual_seed(0)), []
    rules = [net.chosen(score, KEEP) for score in (guess.learned(), net.oracle, dice)]

    def keys(layer: int, q: Tensor, k: Tensor, alive=None) -> Tensor:
        kept = [rule(layer, q, k) for rule in rules]
        found.append(torch.stack([net.kept_mass(q, k, one) for one in kept], 1))
        return kept[0]

    with torch.no_grad():
        net.states(model, pixels, keys)
    return torch.stack(found).mean(0).numpy()


def leaving(sparse, dense, pixels: Tensor, truth: np.ndarray, learned) -> list:
    """Patches leave at three layers by the class token's attention, in both networks; neither was trained for it."""
    name, why = f"{percent(TOKENS)} of the patches stay at each of three layers", "neither network was trained for it"
    return [context(f"{name}, with masks", hits(sparse, pixels, truth, learned, TOKENS), "% correct", why),
            context(f"{name}, all pairs", hits(dense, pixels, truth, tokens=TOKENS), "% correct", why)]


def counts(guess) -> list:
    """Multiply-adds of attention between the projections, predictor included, over those of dense attention."""
    own = guess.layers[0]
    tokens, maps = own.down.shape
    filled = float(np.mean([(one.maps() > 0).float().mean() for one in guess.layers]))

    def price(tokens: int, maps: int, top: int) -> AttentionWork:
        return work(tokens, own.q_proj.in_features, net.budget(KEEP, tokens), maps, top, filled * tokens, 1)

    return [context(f"multiply-adds of attention at {size} tokens, predictor included", price(*shape).share, "of dense",
                    why) for size, shape, why in ((tokens, (tokens, maps, net.TOP), "a count"),
                                                  (LARGE[0], LARGE, "a count for a network that was not trained"))]


def times(model, learned, pixels: Tensor, lab: Lab) -> list:
    """How often masked and gathered passes fit into a dense one, and attention alone at many tokens; in turns."""
    far, why = lab.size(1025, 129), "fetching keys costs more here than it saves"
    q, kept = torch.randn(1, 3, far, 64), torch.rand(1, 3, far - 1, far).topk(net.budget(KEEP, far), -1).indices
    attention = copy(model.vit.layers[0].attention)
    attention.scaling = 64**-0.5
    rounds = lab.size(15, 3)
    with torch.no_grad():
        here = race({"dense": lambda: net.states(model, pixels),
                     "gathered": lambda: net.states(model, pixels, learned, net.gathered)}, rounds)
        alone = race({"dense": lambda: net.masked(attention, q, q, q, None),
                      "gathered": lambda: net.gathered(attention, q, q, q, kept)}, rounds)
    return [context("a pass: dense over gathered time", here, "x", why),
            context(f"attention alone at {far} tokens: dense over gathered time", alone, "x", why)]
