"""The claim of dynamic tokenization, small: 128 held-out passages of 255 tokens, eight to a batch, 20 % fewer tokens.

Whole passages in pieces, where whoever predicts knows the pieces of the batch; and, without that help, 64 tokens of the
model's own behind merged prompts, where next-token accuracy stands for the paper's tasks. Nothing was tuned."""
from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab, text_lab
from models.claims.harness import Budget, Claim, Metric, as_good, at_least, better, conclude, context
from models.claims.timing import interleaved, times_faster
from models.papers.dynamic_tokenization.merging import Pieces, merged
from models.papers.dynamic_tokenization.network import larger, read

LENGTH, BEHIND, BATCH, FEWER = 255, 64, 8, 0.2
NAMES = {"every token": "text-ar-1", "hypernetwork": ("text-dynamic-1", "text-ar-1"), "mean": "text-ar-1"}


def measure(lab: Lab) -> Claim:
    bundle, net = load("text-ar-1"), load("text-dynamic-1").model
    rows = text_lab.windows(bundle.tokenizer, lab.size(128, 24), lab.size(LENGTH, BEHIND + 32))
    whole = {"every token": (0.0, "mean"), "hypernetwork": (FEWER, "hypernetwork"), "mean": (FEWER, "mean")}
    more = {f"{source}, {title}": (share, source, size) for source in ("hypernetwork", "mean") for title, share, size in
            (("10 % fewer", 0.1, 8), ("all merged", 1.0, 8), ("batch of 1", FEWER, 1), ("batch of 32", FEWER, 32))}
    found = {name: scored(bundle, net, rows, *of) for name, of in (whole | more).items()}
    behind = {name: scored(bundle, net, rows, *of, behind=BEHIND) for name, of in whole.items()}
    uniform = np.array([12 * len(row) / len(bundle.tokenizer.decode(row)) for row in rows])  # of 4,096 tokens
    text = Metric("surprise, whole passages", "bits/char", "lower", floor=uniform, ceiling=0.0)
    prompt = Metric("surprise of 64 tokens behind a merged prompt", "bits/char", "lower")
    hits = Metric("next tokens right behind a merged prompt", "of 1", floor=0.0, ceiling=1.0)
    (full, mine, mean), (far, near, plain), (known, hit, _) = (
        [metric.arm(name, of[name][at], budget=Budget(of[name][2], "pieces read"), checkpoints=NAMES[name])
         for name in NAMES] for metric, of, at in ((text, found, 0), (prompt, behind, 0), (hits, behind, 1)))
    seconds = times(bundle, net, rows[:BATCH], lab.size(24, 2))
    return conclude(
        "dynamic-tokenization", trainings=1, seeds=(0,), arms=(full, mine, mean),
        paper="Sequences over 20 % shorter in 14 languages with less than 2 % lost; Mistral-7B keeps nearly all when "
              "prompts are up to 40 % shorter, relative to words (abstract).",
        here="With 20 % fewer tokens, 64 tokens behind merged prompts are within 3 % of the model's own bits per "
             "character and better than with the mean of tokens, whole passages 10 % better than with the mean; "
             "accuracy within 2 points; no slower, all counted.",
        controls=[better(*two, unmatched="it reads every token") for two in ((full, mean), (far, plain))],
        expect=[better(mine, mean, least=10.0, by="percent"),
                as_good(near, far, within=3.0, by="percent"), better(near, plain), as_good(hit, known, within=0.02),
                at_least(times_faster(seconds, "every token", "merged", "speed, all its own time included"), 1.0)],
        context=[context("surprise, whole passages, every token minus hypernetwork", full.scores - mine.scores,
                         "bits/char", "cannot fail: who predicts in pieces is told those of the batch, which costs "
                         "nothing here"),
                 context("the same with embeddings that are known", times_faster(seconds, "every token", "cached")),
                 *(context(f"surprise, {name}", found[name][0], "bits/char") for name in more),
                 context("pieces left when all is merged", found["mean, all merged"][2].mean() / len(rows[0]), "of 1")])


def scored(bundle, net, rows, share: float, source: str, size: int = BATCH, behind: int = 0) -> np.ndarray:
    """Bits per character, accuracy and pieces [3, K] of whole passages, or of tokens `behind` merged prompts alone."""
    found = []
    for some in (rows[at : at + size] for at in range(0, len(rows), size)):
        ends = [row[len(row) - behind :] for row in some]
        prompts = merged([row[: len(row) - behind] for row in some], pieces := Pieces(bundle.tokenizer), share=share)
        texts = [[*prompt, *end] for prompt, end in zip(prompts, ends)]
        for logits, text, row, end in zip(read(bundle.model, texts, pieces, source, net), texts, some, ends):
            first, known = (len(text) - behind, pieces.base) if behind else (0, len(pieces.letters))
            own, truth = logits[first : len(text), :known], torch.tensor(text[first:])
            bits = float(torch.nn.functional.cross_entropy(own, truth, reduction="sum")) / np.log(2)
            right = (own.argmax(-1) == truth).float().mean()
            found.append((bits / len(bundle.tokenizer.decode(end or row)), float(right), len(text)))
    return np.array(found).T


def times(bundle, net, rows, rounds: int) -> dict[str, np.ndarray]:
    """Seconds of reading one batch: every token; merged, with all that it takes; and with embeddings that are known."""
    def dynamic(model=bundle.model) -> Pieces:
        texts = merged(rows, pieces := Pieces(bundle.tokenizer), share=FEWER)
        read(model, texts, pieces, "hypernetwork", net)
        return pieces
    with torch.inference_mode():
        known = larger(bundle.model, dynamic(), "hypernetwork", net)
    return interleaved({"every token": lambda: read(bundle.model, rows, Pieces(bundle.tokenizer), "mean"),
                        "merged": dynamic, "cached": lambda: dynamic(known)}, rounds)
