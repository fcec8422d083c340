"""Unmask: a classifier of partly masked text steers what is filled in (first order, as in discrete guidance).

    log p(v | x_t, y) ~ log p(v | x_t) + g <d log p(y | x_t) / d e_i, e_v - e_i>      e_i: the mask's vector at place i

One gradient scores every word at every masked place; asked exactly, each pair needs a pass of its own (`exact`). Which
label is wanted is a number among moods and topics; each is one of its own group.
Letters: B texts, N words, P masked places, V words of the vocabulary, D width, W words that are tried.
"""
from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from models.backbones.story_classifier import StoryClassifier, label_logp
from models.engine.recording import array
from models.engine.statistics import spearman
from models.loops.unmask.blocks import Guide
from models.trace import Chart


def taylor(classifier: StoryClassifier, ids: Tensor, places: Tensor, label: int) -> Tensor:
    """What each word at each masked place [B, P] of texts [B, N] changes in log p(y | x), to first order: [B, P, V]."""
    with torch.inference_mode(False), torch.enable_grad():
        embedded, turned = classifier.encoder.embed(ids.clone())
        embedded = embedded.detach().requires_grad_(True)
        logp = label_logp(classifier.scores(embedded, turned), label)
        gradient, = torch.autograd.grad(logp.sum(), embedded)
    slope = gradient.gather(1, places[..., None].expand(-1, -1, gradient.shape[2]))  # [B, P, D]
    here = embedded.detach().gather(1, places[..., None].expand(-1, -1, gradient.shape[2]))
    table = classifier.encoder.embed_tokens.weight.detach()
    return slope @ table.T - (slope * here).sum(-1, keepdim=True)


@torch.no_grad()
def exact(classifier: StoryClassifier, ids: Tensor, place: int, words: Tensor, label: int) -> Tensor:
    """log p(y | x) [W] with each of some words at one place of a text [N]: a pass for every word."""
    texts = ids.clone().repeat(len(words), 1)
    texts[:, place] = words
    return label_logp(classifier(texts), label)


def orders(classifier: StoryClassifier, ids: Tensor, place: int, words: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """What some words at one place of a text [N] change, to first order and exactly, both [W]."""
    first = taylor(classifier, ids[None], torch.tensor([[place]], device=ids.device), label)[0, 0, words]
    return first, exact(classifier, ids, place, words, label)


def agreement(first: Tensor, exactly: Tensor) -> float:
    """Rank correlation of both."""
    return spearman(first.cpu().numpy(), exactly.cpu().numpy())


def tried(classifier: StoryClassifier, asked: Iterable[tuple[Tensor, int, Tensor]], label: int) -> Chart:
    """Of (text [N], place, words), the place where the gradient says most: first order beside exact scores."""
    def says(one: tuple[Tensor, int, Tensor]) -> float:
        ids, place, words = one
        at = torch.tensor([[place]], device=ids.device)
        return float(taylor(classifier, ids[None], at, label)[0, 0, words].std())
    ids, place, words = max(asked, key=says)
    first, exactly = orders(classifier, ids, place, words, label)
    return Chart("scatter", "What a word would do: first order and exactly", "exact log p (nats)",
                 "first order of its change (nats)", {"a word": array(torch.stack([exactly, first], 1))},
                 caption=f"The {len(words)} likeliest words at the place where the gradient says most.")


def steering(classifier: StoryClassifier, label: int, strength: float) -> Guide:
    """The guide of a loop: logits + strength times Taylor's scores."""
    return lambda logits, ids, places: logits + strength * taylor(classifier, ids, places, label)
