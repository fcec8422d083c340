"""GraphAdapter's claim: 24 webs of forty pages that nobody trained on, every word of theirs. Bars were fixed before
anything was measured and nothing was tuned; one training of each arm, on the same pages for as many steps.

An item is a web, because its pages share circles. Words of the circle are a page's first mentions of what it has in
common with its friends; what it has said already needs no friend.
"""
from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from models.checkpoints.store import Bundle, load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, better, conclude, context, more_than_chance
from models.loops.sample.cached_lm import log_probabilities
from models.papers.graphadapter.method import ARMS, CHECKPOINTS
from models.papers.graphadapter.rule import Page, mixed, neighbourhood, read
from models.worlds import pages
from models.worlds.tales.words import NAMES

FIRST = 2000  # seed of the first web; training has 0 to 79, its figures 1000 to 1007
ALONE, HIDDEN, BLIND = "tale-ar-2 alone", "SAGE, no page heard", "SAGE that saw its own page, hidden now"
FILES = {**{title: CHECKPOINTS[arm] for arm, title in ARMS.items()}, ALONE: "tale-ar-2", HIDDEN: CHECKPOINTS["sage"],
         BLIND: CHECKPOINTS["own"]}


def measure(lab: Lab) -> Claim:
    base, nets = load("tale-ar-2"), {title: load(CHECKPOINTS[arm]).model for arm, title in ARMS.items()}
    count = lab.size(pages.PAGES, 3)
    found = [measured(base, nets, FIRST + number, count) for number in range(lab.size(24, 2))]
    once, any_word = Budget(1, "readings"), np.log(base.model.config.vocab_size)
    metrics = (*(Metric(f"cross-entropy of {of}", "nats a word", "lower", floor=any_word, ceiling=0.0)
                 for of in ("every word", "words of the circle")),
               Metric("words of the circle that were the likeliest", "of 1", floor=0.0, ceiling=1.0))
    every, circle, likeliest = ({name: metric.arm(name, np.array([web[name][at] for web in found]), checkpoints=file,
                                                  budget=once) for name, file in FILES.items()}
                                for at, metric in enumerate(metrics))
    sage, gat, mlp, rewired, own = ARMS.values()
    half = metrics[0].arm("half of what SAGE gains", (every[sage].scores + every[ALONE].scores) / 2,
                          checkpoints=FILES[sage], budget=once)
    return conclude(
        "graphadapter", trainings=1, seeds=(FIRST,), arms=(*every.values(), *circle.values()),
        paper="About 5 % better node classification with Llama 2 on average, and with RoBERTa and GPT-2, too "
              "(abstract). The cross-entropy of words, here, is what the adapter is trained on.",
        here="On pages that nobody trained on the mixture's cross-entropy is at least 0.05 nat a word below the "
             "model's, and 0.3 nat on words of the circle, with means and with attention; an adapter without links "
             "and one on rewired links gain less than half of that.",
        controls=[more_than_chance(every[ALONE], any_word),
                  better(circle[own], circle[ALONE], name="words that a page has told its adapter are likelier")],
        expect=[better(every[sage], every[ALONE], least=0.05), better(circle[sage], circle[ALONE], least=0.3),
                better(every[gat], every[ALONE], least=0.05),
                better(half, every[mlp], name="half of what SAGE gains is more than no links gain"),
                better(half, every[rewired], name="half of what SAGE gains is more than rewired links gain")],
        context=[*(context(f"{metric.name}, {name}", arm) for metric, arms in zip(metrics, (every, circle, likeliest))
                   for name, arm in arms.items()),
                 *(context(f"trainable parameters, {title}", sum(weight.numel() for weight in net.parameters()), "",
                           "a count") for title, net in nets.items())])


@torch.no_grad()
def measured(base: Bundle, nets: dict, seed: int, count: int) -> dict[str, list[float]]:
    """name -> cross-entropy of every word, of words of the circle, and how many of these were the likeliest."""
    web = pages.web(seed)
    told = read(base.model, base.tokenizer, NAMES, web.texts)
    says = torch.stack([page.says for page in told])
    links = {"friends": web.every(), "rewired": web._replace(links=pages.rewired(web.links, seed)).every()}
    near = {kind: neighbourhood(every, range(count)) for kind, every in links.items()}
    words = torch.cat([torch.tensor(page.ids[1:]) for page in told[:count]])
    circle = torch.cat([firsts(base.tokenizer, page, web.shared(number)) for number, page in enumerate(told[:count])])
    states = torch.cat([page.states for page in told[:count]])
    of = torch.repeat_interleave(torch.arange(count), torch.tensor([len(page.ids) - 1 for page in told[:count]]))
    lm, found = log_probabilities(base.model.lm_head(states)), {}

    def scored(logp: Tensor) -> list[float]:
        nats = -logp.gather(1, words[:, None])[:, 0]
        hits = (logp.argmax(-1) == words)[circle].float()
        return [float(nats.mean()), float(nats[circle].mean()), float(hits.mean())]

    for name, net in nets.items():
        found[name] = scored(mixed(lm, said(base, net, says, near[net.links], states, of)))
    none = torch.full_like(near["friends"], -1)
    none[:, 0, 0] = near["friends"][:, 0, 0]
    found[HIDDEN] = scored(mixed(lm, said(base, nets[ARMS["sage"]], says, none, states, of)))
    blind = copy.copy(nets[ARMS["own"]])
    blind.own = False
    found[BLIND] = scored(mixed(lm, said(base, blind, says, near["friends"], states, of)))
    return {**found, ALONE: scored(lm)}


def said(base: Bundle, net, says: Tensor, near: Tensor, states: Tensor, of: Tensor) -> Tensor:
    """log p [M, V] by an adapter alone."""
    return log_probabilities(base.model.lm_head(net(says, near, states, of)))


def firsts(tokenizer, page: Page, shared: frozenset[str]) -> Tensor:
    """Bool [T]: where a page says a word of its circle for the first time."""
    names, known, found = tokenizer.convert_ids_to_tokens(page.ids[1:]), set(), []
    for name in names:
        found.append(name in shared - known)
        known.add(name)
    return torch.tensor(found)
