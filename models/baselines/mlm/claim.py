"""The masked language model's claim: a hidden word is guessed from both sides, better than from one or from frequency.

BERT's reason for masking (arXiv 1810.04805) is that a word may be guessed from what comes before and after it. Every
tenth word of held-out texts is hidden, alone, and guessed from all others, from those before it, and from none.
"""

from __future__ import annotations

import numpy as np
import torch

from models.checkpoints.store import Bundle, load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, better, conclude
from models.trace.subject import ASSETS

LENGTH, EVERY = 64, 10


def measure(lab: Lab) -> Claim:
    """Nats of every tenth word of held-out texts, hidden alone, read in three ways."""
    bundle = load("text-mlm-1")
    ids = bundle.tokenizer((ASSETS / "texts" / "heldout.txt").read_text("utf-8"))["input_ids"]
    texts = torch.tensor([ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH, LENGTH)][: lab.size(400, 24)])
    loss = Metric("loss of a hidden word", "nats", "lower", floor=float(np.log(bundle.model.config.vocab_size)),
                  ceiling=0.0)
    both, before, often = (loss.arm(name, values, budget=Budget(1, "guess"), checkpoints=checkpoint)
                           for name, values, checkpoint in zip(
                               ("all others seen", "only the words before it seen", "frequencies of the other texts"),
                               guesses(bundle, texts), ("text-mlm-1", "text-mlm-1", ())))
    return conclude(
        "mlm",
        paper="BERT (arXiv 1810.04805): masking lets a word be guessed from both sides, which one direction cannot.",
        here="On held-out texts a hidden word costs at least half a nat less from both sides than from the words "
             "before it, and than from word frequencies.",
        arms=(both, before, often), trainings=1, controls=[better(before, often)],
        expect=[better(both, before, least=0.5), better(both, often, least=0.5)])


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
