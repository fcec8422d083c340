"""LeMo's claim: 20 pieces of 1,024 tokens of plays that no fine-tune read, for the loss; bytes are measured text by
text in a live backward pass (backward.py). Networks are read whole: what was skipped was skipped in the fine-tune.
Rates and steps were taken once for all arms; thresholds were set on other plays."""

from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Arm, Budget, Metric, Tuned, as_good, at_least, at_most, better, conclude, context
from models.papers.lemo.backward import learner, step
from models.papers.lemo.elimination import everything, nats
from models.papers.lemo.network import BlockChooser, recalls
from models.trace.subject import ASSETS

BLOCKS, TRUNK = "text-lemo-blocks-1", "text-ar-1"
ARMS = {"LeMo": "text-lora-lemo-1", "everything read": "text-lora-full-1", "random blocks": "text-lora-random-1"}
LENGTH, SIZE, SEGMENTS, LENGTHS = 1024, 16, 8, (256, 512, 1024)
STEPS, TRIED = Budget(100, "steps"), Tuned(1, "nothing: one rate for all arms, not searched")


def measure(lab: Lab):
    words, predictors = load(TRUNK).tokenizer, load(BLOCKS).model
    nets = {name: load(checkpoint).model for name, checkpoint in {**ARMS, "before": TRUNK}.items()}
    texts = pieces(words, lab.size(LENGTH, 64), 20)
    before = perplexities(nets["before"], texts)
    loss = Metric("perplexity of held-out plays", "per token", "lower", floor=before, ceiling=1.0)
    found = {name: loss.arm(name, perplexities(nets[name], texts), checkpoints=ARMS[name], budget=STEPS, tuned=TRIED)
             for name in ARMS}
    base = loss.arm("before", before, checkpoints=TRUNK, budget=Budget(0, "steps"))
    sizes = kept_bytes(nets["LeMo"], predictors, words, lab)
    mine = found["LeMo"]
    return conclude(
        "lemo", paper="Up to 1.93 times less memory and up to 1.36 times faster than other fine-tuning systems, the "
        "accuracy preserved (abstract); its predictors find 95 % of the blocks.",
        here="At 1,024 tokens a step of fine-tuning keeps at most 65 % of the bytes for its backward pass; perplexity "
        "on held-out plays is within 3 % of a fine-tune that reads everything and 2 % better than one that reads as "
        "many random blocks; the guess finds 90 % of the blocks; longer texts save a larger share.",
        arms=(sizes[lab.size(LENGTH, 64)], *found.values()), trainings=1,
        expect=[at_most(sizes[lab.size(LENGTH, 64)], 65.0), as_good(mine, found["everything read"], 3.0, by="percent"),
                better(mine, found["random blocks"], 2.0, by="percent"),
                at_least(guessed(nets["before"], predictors, texts), 90.0),
                better(sizes[max(sizes)], sizes[min(sizes)], unmatched="texts of another length, by intent")],
        controls=[better(found["everything read"], base, unmatched="what a fine-tune is worth at all")],
        context=[*(context(f"kept for the backward pass at {length} tokens", arm) for length, arm in sizes.items()),
                 *skipping(nets, predictors, texts)])


def pieces(words, length: int, count: int) -> list[torch.Tensor]:
    """Texts [length + 1], side by side, from the plays that nobody trained on."""
    ids = words((ASSETS / "texts" / "heldout-plays.txt").read_text("utf-8"), add_special_tokens=False)["input_ids"]
    starts = np.linspace(0, len(ids) - length - 1, count).astype(int)
    return [torch.tensor(ids[at: at + length + 1]) for at in starts]


@torch.inference_mode()
def perplexities(model, texts, choose=everything) -> np.ndarray:
    return np.exp([float(nats(model, ids, choose)) for ids in texts])


def kept_bytes(model, predictors, words, lab: Lab) -> dict[int, Arm]:
    """Length -> the peak of bytes kept for the backward pass, in % of reading everything, text by text."""
    net, choose, found = learner(model), BlockChooser(predictors, SIZE), {}
    metric = Metric("bytes kept for the backward pass", "% of reading everything", "lower", floor=100.0, ceiling=0.0)
    for length in (lab.size(one, one // 16) for one in LENGTHS):
        texts, shares = pieces(words, length, 20), []
        whole = step(net, texts[0], everything, SEGMENTS)[1].peak  # the same for every text of this length
        for ids in texts:
            shares.append(100 * step(net, ids, choose, SEGMENTS)[1].peak / whole)
            net.zero_grad(set_to_none=True)
        found[length] = metric.arm(f"LeMo, {length} tokens", shares, checkpoints=(ARMS["LeMo"], BLOCKS),
                                   budget=Budget(length, "tokens"))
    return found


def guessed(model, predictors, texts) -> Arm:
    """Every item a text; the floor is what dice would find."""
    found = 100 * np.array([recalls(predictors, model, ids[:-1], SIZE) for ids in texts])
    metric = Metric("blocks found by the guess", "% of those kept by own scores", floor=found[:, 1], ceiling=100.0)
    return metric.arm("the guess", found[:, 0], checkpoints=(BLOCKS, TRUNK), budget=Budget(1, "passes"))


def skipping(nets, predictors, texts) -> list:
    """What the networks are worth if blocks are skipped while they are read, too: no use of the paper's, but it shows
    what the fine-tunes saw."""
    some = texts[::4]
    return [context(f"perplexity while blocks are skipped, {name}",
                    perplexities(nets[name], some, BlockChooser(predictors, SIZE)), "per token")
            for name in (*ARMS, "before")]
