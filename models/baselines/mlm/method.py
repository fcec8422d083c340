"""Masked language model: the control of ELECTRA, which learns only from the words that were hidden.

BERT's objective (arXiv 1810.04805) on a network of the discriminator's size, trained for the same multiply-adds. It
knows no "replaced"; here it judges each word of the same planted text by hiding that word alone, as it was trained to
see words. The odds of its suspicion: how much likelier its best guess is than the word, times one factor for the whole
text, so that the suspicions add up to the number of words that were selected (which it is told).

Not covered: next-sentence prediction, random words in 10 % of the selected places.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

import kernels
from models.checkpoints import families
from models.checkpoints.store import load
from models.engine.method import Card, Job, Method, Turn
from models.loops.mask import words
from models.loops.mask.passages import Passage
from models.trace import Cost, Fact

WRITER = "text-electra-1/generator"  # the same writer as ELECTRA's, so that both judge the same text


@torch.no_grad()
def surprise(model, text: Passage, planted: words.Planted) -> tuple[np.ndarray, Cost]:
    """Suspicion [n]: every word is hidden in its own copy of the text."""
    from models.backbones.electra import macs, proposals
    own = torch.arange(text.count, device=text.ids.device)[:, None]  # [n, 1]
    copies = planted.fake.expand(text.count, -1).scatter(1, own, text.tokenizer.mask_token_id)  # [n, n]
    stats = kernels.vocab_stats(proposals(model, copies, own)[:, 0], top_k=1, chosen=planted.fake[0])  # of [n, V]
    behind = (stats.top_logp[:, 0] - stats.chosen_logp).cpu().numpy()  # 0: the best guess itself
    suspicion = np.zeros(text.count)
    suspicion[text.candidates] = adding_up(behind[text.candidates], len(planted.at))
    rows = text.count**2 * model.config.num_hidden_layers
    return suspicion, Cost(text.count, rows, text.count * macs(model.config, text.count, 1))


def adding_up(log_odds: np.ndarray, count: int) -> np.ndarray:
    """Probabilities [n] of odds that are known but for a common factor: the factor at which they add up to `count`.
    Weighed by the share of selected words alone, nearly every word would be called replaced."""
    low, high = -float(log_odds.max()) - 40, 40.0
    for _ in range(60):
        factor = (low + high) / 2
        found = 1 / (1 + np.exp(-log_odds - factor))
        low, high = (factor, high) if found.sum() < count else (low, factor)
    return found


def run(job: Job):
    """On a folder of one's own the network also writes the words: another's vocabulary would be numbered otherwise."""
    own = job.bundle.own
    generator = job.model if own else load(WRITER, device=job.bundle.device, dtype=job.bundle.dtype).model
    yield from words.play(job, generator, partial(surprise, job.model), partial(say, own=own), False)


def say(facts: dict[str, Fact], own: bool = False) -> str:
    found = f"finds {facts['found'].value:.0f} % of the replaced words and " if "found" in facts else ""
    return (f"The masked language model {found}is surprised by {facts['alarms'].value:.0f} % of the originals. It "
            "needs one look per word, because it learned only from hidden words."
            + " It wrote the planted words itself." * own)


METHOD = Method(
    card=Card(
        id="mlm", title="Masked language model", tabs=("mask",), arxiv="1810.04805", year=2018, seed=None,
        summary="Words are hidden and guessed from the rest. The control of ELECTRA: same size, same training work, "
                "but only hidden words teach it.",
        flow="text > one word hidden at a time > model > surprise at that word > replaced or original",
        look_at="It reads the same planted text. Compare what it finds, and how many looks it needs.",
        not_covered="Training; next-sentence prediction; BERT's 10 % random words.",
        unverified="Using it as a judge of planted words is our reading, not a method of the paper."),
    params=words.Params, accepts="text", layouts=families.MASKED,
    checkpoints=("text-mlm-1",), companions=(WRITER,), run=run,
    examples=words.EXAMPLES,
    turn=Turn("Choose the words to replace where the model will be surprised least.", "doubt", words.budget))
