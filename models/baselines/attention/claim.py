"""The lens's claim: what it shows is the model's own attention, and that is not what the prediction depends on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.backbones.instrument import observe
from models.baselines.attention.attribution import ablated, attribute
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import (
    Budget,
    Claim,
    Metric,
    at_least,
    at_most,
    better,
    conclude,
    context,
    mean_of,
)
from models.engine.method import find, prepare
from models.engine.statistics import spearman
from models.loops.attend import loop
from models.loops.attend.model_adapters import Sight, sight
from models.trace.subject import ASSETS, from_text

TOKENS, STEPS, WEAK = 48, 32, 0.5
SEEDS = (0, 1, 2)


def measure(lab: Lab) -> Claim:
    """Rank correlations of attention with two attributions on held-out books; exactness against eager as context."""
    weights, entropies = exactness(lab)
    found = np.array([agreement(text) for text in windows(lab.size(14, 8))]).T  # [4, K]
    order = Metric("rank correlation over the tokens behind the query", "rho", floor=0.0, ceiling=1.0)
    gradients, ablation, head, words = (
        order.arm(name, values, budget=Budget(1, "text"), checkpoints="text-ar-1") for name, values in zip(
            ("mean attention and integrated gradients", "mean attention and ablation", "best single head and ablation",
             "ablation by some words and by other words"), found))
    return conclude(
        "attention",
        paper="The lens has no paper. Jain and Wallace (arXiv 1902.10186) report that attention weights agree only "
              "weakly with gradient and leave-one-out importance.",
        here="On held-out books, the mean attention of the last token ranks tokens differently from what its "
             "prediction needs: rank correlations below 0.5, and below what two ablations have with each other.",
        arms=(gradients, ablation, head, words), trainings=0, seeds=SEEDS,
        controls=[at_least(mean_of(words), 0.5, bar="ours")],
        expect=[at_most(mean_of(gradients), WEAK, bar="ours"), at_most(mean_of(ablation), WEAK, bar="ours"),
                better(words, ablation), better(words, gradients)],
        context=[context("largest difference of an attention weight to eager attention", weights, "probability",
                         "an identity, but for rounding"),
                 context("largest difference of an attention entropy to eager attention", entropies, "nats",
                         "an identity, but for rounding"),
                 context("rank correlation: best single head and ablation", head, why="the best of 24, chosen after")])


def exactness(lab: Lab) -> tuple[float, float]:
    """Largest difference of weights and entropies to transformers' eager maps, over one long and three short texts."""
    worst = np.zeros(2)
    for count in (lab.size(1024, 64), 64, 48, 17):
        job = prepare(find("attention"), from_text(books()[: 6 * count]), {"attribution": False})
        ids = torch.tensor([job.tokenizer(books()[: 6 * count])["input_ids"][:count]])
        with torch.no_grad(), observe(job.model, want={"stats", "qk"}) as seen:
            job.model(ids, use_cache=False)
        maps = eager_maps(job, ids)
        for call, probs in zip(seen, maps, strict=True):
            queries = torch.arange(0, count, max(1, count // 64))
            worst[0] = max(worst[0], float((call.rows_for(queries)[0] - probs[:, queries]).abs().max()))
            worst[1] = max(worst[1], float((call.entropy[0] - torch.special.entr(probs).sum(-1)).abs().max()))
    return float(worst[0]), float(worst[1])


def eager_maps(job, ids: torch.Tensor) -> list[torch.Tensor]:
    """Attention [H, N, N] per layer from a copy of the model that runs eagerly; the shared one is left alone."""
    import copy
    eager = copy.deepcopy(job.model)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        return [maps[0] for maps in eager(ids, output_attentions=True, use_cache=False).attentions]


def agreement(text: str) -> tuple[float, float, float, float]:
    """Rank correlations of attention with gradients and with ablation, of the best head, and of two ablations."""
    seen = sight(prepare(find("attention"), from_text(text), {}))
    rows, found = attention_rows(seen), attribute(seen, STEPS)
    some, others = (np.abs(sum(ablated(replace(seen, blank=word), found.target) for word in words))
                    for words in np.array(stand_ins()).reshape(2, 2).tolist())
    left_out, mean = np.abs(found.ablation), rows.mean((0, 1))
    heads = [spearman(row, left_out) for layer in rows for row in layer]
    return spearman(mean, np.abs(found.gradients)), spearman(mean, left_out), max(heads), spearman(some, others)


def stand_ins() -> list[int]:
    """Four ordinary words that may stand where a token was."""
    tokenizer = load("text-ar-1").tokenizer
    return [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" it", " house", " went", " good")]


def attention_rows(seen: Sight) -> np.ndarray:
    """The query's attention [L, H, S]."""
    with torch.no_grad(), observe(seen.observed, want={"stats", "qk"}) as calls:
        seen.forward()
    kept = loop.look(calls, seen.layout, seen.query).kept
    return np.array([[kept.row(layer, head, seen.query) for head in range(len(q))] for layer, q in enumerate(kept.q)])


def windows(count: int) -> list[str]:
    """`count` texts of exactly TOKENS tokens per seed, from held-out books at places drawn from the seed."""
    tokenizer, found = load("text-ar-1").tokenizer, []
    ids = tokenizer(books(), add_special_tokens=False)["input_ids"]
    for seed in SEEDS:
        for at in np.random.default_rng(seed).integers(0, len(ids) - 2 * TOKENS, count):
            text = tokenizer.decode(ids[at: at + 2 * TOKENS])
            found.append(tokenizer.decode(tokenizer(text)["input_ids"][:TOKENS]))
    return found


def books() -> str:
    return (ASSETS / "texts" / "heldout.txt").read_text("utf-8")
