"""The lens's claim: what it shows is the model's own attention, and that is not what the prediction depends on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from models.backbones.instrument import observe
from models.baselines.attention.attribution import ablated, attribute
from models.checkpoints.store import load
from models.claims import Claim, Lab, Row, row
from models.engine.method import find, prepare
from models.engine.statistics import spearman
from models.loops.attend import loop
from models.loops.attend.model_adapters import Sight, sight
from models.trace.subject import ASSETS, from_text

TOKENS, STEPS, WEAK, CLOSE = 48, 32, 0.5, 1e-4
SEEDS = (0, 1, 2)


def measure(lab: Lab) -> Claim:
    """Largest difference to eager attention; rank correlations of attention with two attributions on held-out books."""
    weights, entropies = exactness(lab)
    found = np.array([agreement(text) for text in windows(lab.size(20, 2))])  # [K, 4]
    names = ("mean attention and integrated gradients", "mean attention and ablation",
             "best single head and ablation", "ablation by some words and by other words (control)")
    rows = [Row("largest difference of an attention weight to eager attention", weights, "probability", 4,
                expected=f"below {CLOSE:g}", holds=weights < CLOSE),
            Row("largest difference of an attention entropy to eager attention", entropies, "nats", 4,
                expected="below 0.001", holds=entropies < 1e-3)]
    rows += [row(f"rank correlation: {name}", found[:, at], "rho") for at, name in enumerate(names)]
    rows[2:4] = [replace(r, expected=f"below {WEAK}", holds=r.high < WEAK) for r in rows[2:4]]
    most = max(r.high for r in rows[2:4])
    rows[5] = replace(rows[5], expected="above the two attention rows", holds=rows[5].low > most)
    judged = [r.holds for r in rows if r.holds is not None]
    return Claim(
        method="attention",
        paper="The lens has no paper. Jain and Wallace (arXiv 1902.10186) report that attention weights agree only "
              "weakly with gradient and leave-one-out importance.",
        here="The fused statistics equal eager attention's; on held-out books, the mean attention of the last token "
             "ranks tokens differently from what its prediction needs.",
        metric="largest absolute difference; Spearman rank correlation over the tokens behind the query",
        baseline="transformers' eager attention maps; ablation by other words",
        budget=f"{len(found)} texts of {TOKENS} tokens, {STEPS} points of the integral", rows=tuple(rows),
        verdict="holds" if all(judged) else "mixed",
        reason="The statistics are exact; attention agrees with attribution less than two ablations do with each other."
        if all(judged) else f"{sum(judged)} of {len(judged)} rows are as expected.",
        control="Ablation by two words against ablation by two other words: the same correlation where measures agree.",
        seeds=SEEDS)


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
