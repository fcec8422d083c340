"""The masked language model's claim: a hidden word is guessed from both sides, better than from one or from frequency.

BERT's reason for masking (arXiv 1810.04805) is that a word may be guessed from what comes before and after it. Every
tenth word of held-out texts is hidden, alone, and guessed from all others, from those before it, and from none.
"""

from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import Bundle, load
from models.claims import Claim, Lab, Row, row
from models.trace.subject import ASSETS

LENGTH, EVERY = 64, 10


def measure(lab: Lab) -> Claim:
    bundle = load("text-mlm-1")
    ids = bundle.tokenizer((ASSETS / "texts" / "heldout.txt").read_text("utf-8"))["input_ids"]
    texts = torch.tensor([ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH, LENGTH)][: lab.size(400, 4)])
    both, before, often = guesses(bundle, texts)
    rows = (row("loss of a hidden word, all others seen", both, "nats"),
            row("loss, only the words before it seen", before, "nats"),
            row("loss of a reader who knows the other texts' word frequencies", often, "nats"),
            above("before minus both sides", before - both), above("frequencies minus both sides", often - both))
    good = [r.holds for r in rows if r.holds is not None]
    return Claim(
        method="mlm",
        paper="BERT (arXiv 1810.04805): masking lets a word be guessed from both sides, which one direction cannot.",
        here="On held-out texts a hidden word costs fewer nats from both sides than from the words before it, and than "
             "from word frequencies.", metric="nats per hidden word, paired over texts",
        baseline="the same network without the words behind; word frequencies",
        budget=f"{len(texts)} texts of {LENGTH} tokens, every {EVERY}th hidden in its own copy", rows=rows,
        verdict="holds" if all(good) else "mixed" if any(good) else "does not hold",
        reason=f"{sum(good)} of {len(good)} differences have intervals on the expected side.",
        control="Word frequencies are what is left when nothing is learned from the others.")


def above(name: str, values: np.ndarray) -> Row:
    found = row(name, values, "nats", expected="interval above 0")
    return row(name, values, "nats", expected="interval above 0", holds=bool(found.low > 0))


@torch.no_grad()
def guesses(bundle: Bundle, texts: torch.Tensor) -> np.ndarray:
    """Mean nats [3, K] of the hidden words of every text: both sides, before alone, frequency."""
    from models.backbones.electra import proposals
    at = torch.arange(EVERY - 1, texts.shape[1], EVERY)[:, None]  # [k, 1]
    total = torch.bincount(texts.flatten(), minlength=bundle.model.config.vocab_size)
    found = []
    for text in texts:
        truth = text[at[:, 0]]
        hidden = text.expand(len(at), -1).scatter(1, at, bundle.tokenizer.mask_token_id)
        seen = (torch.arange(len(text)) <= at).long()  # [k, n]
        states = bundle.model.electra(hidden, attention_mask=seen).last_hidden_state
        last = states.gather(1, at[..., None].expand(-1, -1, states.shape[-1]))
        narrow = bundle.model.generator_lm_head(bundle.model.generator_predictions(last))[:, 0]
        other = total - torch.bincount(text, minlength=len(total)) + 1.0
        found.append([nats(proposals(bundle.model, hidden, at)[:, 0], truth), nats(narrow, truth),
                      nats(other.log().expand(len(at), -1), truth)])
    return np.array(found).T


def nats(logits: torch.Tensor, truth: torch.Tensor) -> float:
    return float(torch.nn.functional.cross_entropy(logits.float(), truth))
