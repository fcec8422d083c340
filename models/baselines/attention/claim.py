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
from models.claims.judging import FEWEST
from models.engine.method import find, prepare
from models.engine.statistics import spearman, spearman_rows
from models.loops.attend import loop
from models.loops.attend.model_adapters import Sight, sight
from models.trace.subject import ASSETS, from_text

SHIPPED, TOKENS, STEPS, WEAK = "text-ar-1", 48, 32, 0.5
SEEDS = (0, 1, 2)


def measure(lab: Lab) -> Claim:
    """Rank correlations of attention with two attributions on held-out books; exactness against eager as context."""
    return concluded("attention", SHIPPED, windows(lab.size(20, 8)), exactness(lab))


def concluded(id: str, checkpoint: str, texts: list[str], exact: tuple[float, float], books: str = "held-out books"
              ) -> Claim:
    """The claim on the last tokens of these texts. exact: what `exactness` found."""
    weights, entropies = exact
    *found, converged = np.array([agreement(text, checkpoint) for text in texts]).T  # four [K], bool [K]
    names = ("mean attention and integrated gradients", "mean attention and ablation", "best single head and ablation",
             "ablation by some words and by other words")
    order = Metric("rank correlation over the tokens behind the query", "rho", floor=0.0, ceiling=1.0)
    _, ablation, head, words = (order.arm(name, values, **source(checkpoint)) for name, values in zip(names, found))
    sure, where = converged.astype(bool), replace(order, name="rank correlation where the integral converged")
    gradients, same = ([where.arm(names[i], found[i][sure], **source(checkpoint))] if sure.sum() >= FEWEST else []
                       for i in (0, 3))
    return conclude(
        id,
        paper="The lens has no paper. Jain and Wallace (arXiv 1902.10186) report that attention weights agree only "
              "weakly with gradient and leave-one-out importance.",
        here=f"On {books}, the mean attention of the last token ranks tokens differently from what its "
             "prediction needs: rank correlations below 0.5, and below what two ablations have with each other.",
        arms=(ablation, head, words, *gradients, *same), trainings=0, seeds=SEEDS,
        controls=[at_least(mean_of(words), 0.5, bar="ours")],
        expect=[*(at_most(mean_of(one), WEAK, bar="ours") for one in gradients),
                at_most(mean_of(ablation), WEAK, bar="ours"), better(words, ablation),
                *(better(*pair) for pair in zip(same, gradients))],
        context=[context("largest difference of an attention weight to eager attention", weights, "probability",
                         "an identity, but for rounding"),
                 context("largest difference of an attention entropy to eager attention", entropies, "nats",
                         "an identity, but for rounding"),
                 context("rank correlation: best single head and ablation", head, why="the best of all, chosen after"),
                 context("integrals that converged", 100.0 * converged, "% of texts",
                         "the others are left out of what is said of integrated gradients")])


def source(checkpoint: str) -> dict:
    return {"budget": Budget(1, "text"), "checkpoints": checkpoint}


def exactness(lab: Lab, checkpoint: str = SHIPPED) -> tuple[float, float]:
    """Largest difference of weights and entropies to transformers' eager maps, over one long and three short texts."""
    worst = np.zeros(2)
    for count in (lab.size(1024, 64), 64, 48, 17):
        job = prepare(find("attention"), from_text(books()[: 6 * count]), {"attribution": False}, checkpoint=checkpoint)
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


def agreement(text: str, checkpoint: str) -> tuple[float, float, float, float, bool]:
    """Rank correlations of attention with gradients and with ablation, of the best head, and of two ablations; and
    whether the integral of the gradients converged."""
    seen = sight(prepare(find("attention"), from_text(text), {}, checkpoint=checkpoint))
    rows, found = attention_rows(seen), attribute(seen, STEPS)
    some, others = (np.abs(sum(ablated(replace(seen, blank=word), found.target) for word in words))
                    for words in np.array(stand_ins(checkpoint)).reshape(2, 2).tolist())
    left_out, mean = np.abs(found.ablation), rows.mean((0, 1))
    heads = spearman_rows(np.concatenate(rows), left_out)
    found_orders = (spearman(mean, np.abs(found.gradients)), spearman(mean, left_out), np.nanmax(heads),
                    spearman(some, others))
    return *np.nan_to_num(found_orders), found.converged  # no order at all: no relation


def stand_ins(checkpoint: str) -> list[int]:
    """Four ordinary words that may stand where a token was."""
    tokenizer = load(checkpoint).tokenizer
    return [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (" it", " house", " went", " good")]


def attention_rows(seen: Sight) -> np.ndarray:
    """The query's attention [L, H, S]."""
    with torch.no_grad(), observe(seen.observed, want={"stats", "qk"}) as calls:
        seen.forward()
    kept = loop.look(calls, seen.layout, seen.query).kept
    return np.array([[kept.row(layer, head, seen.query) for head in range(len(q))] for layer, q in enumerate(kept.q)])


def windows(count: int, checkpoint: str = SHIPPED, tokens: int = TOKENS) -> list[str]:
    """`count` texts of so many tokens per seed, from held-out books at places drawn from the seed."""
    tokenizer, found = load(checkpoint).tokenizer, []
    ids = tokenizer(books(), add_special_tokens=False)["input_ids"]
    for seed in SEEDS:
        for at in np.random.default_rng(seed).integers(0, len(ids) - 2 * tokens, count):
            text = tokenizer.decode(ids[at: at + 2 * tokens])
            found.append(tokenizer.decode(tokenizer(text)["input_ids"][:tokens]))
    return found


def books() -> str:
    return (ASSETS / "texts" / "heldout.txt").read_text("utf-8")
