"""GraphAdapter's claim: 24 webs of forty pages that nobody trained on, every word of theirs. Bars were fixed before
anything was measured; how long all arms train was chosen on eight webs that are not among these (NOTES.md). One
training of each arm, on the same pages for as many steps.

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
from models.loops.sample.mixed_lm import mixed
from models.papers.graphadapter.rule import web_read
from models.papers.graphadapter.source import CHECKPOINTS
from models.worlds import pages

FIRST = 2000  # seed of the first web; training has 0 to 239, its figures 1000 to 1007
SAGE, GAT, MLP, REWIRED, OWN = ARMS = "SAGE", "GAT", "no links (MLP)", "rewired links", "SAGE that sees its own page"
ALONE, HIDDEN, BLIND = "tale-ar-2 alone", "SAGE, no page heard", f"{OWN}, hidden now"
FILES = {**dict(zip(ARMS, CHECKPOINTS.values(), strict=True)), ALONE: "tale-ar-2", HIDDEN: CHECKPOINTS["sage"],
         BLIND: CHECKPOINTS["own"]}


def measure(lab: Lab) -> Claim:
    base, nets = load("tale-ar-2"), {name: load(FILES[name]).model for name in ARMS}
    nets[BLIND] = copy.copy(nets[OWN])
    nets[BLIND].own = False
    found = [scored(base, nets, FIRST + number) for number in range(lab.size(24, 1))]
    once, any_word = Budget(1, "readings"), np.log(base.model.config.vocab_size)
    every, circle = ({name: metric.arm(name, [web[name][at] for web in found], checkpoints=file, budget=once)
                      for name, file in FILES.items()} for at, metric in enumerate(
        Metric(f"cross-entropy of {of}", "nats a word", "lower", floor=any_word, ceiling=0.0)
        for of in ("every word", "words of the circle")))
    half = every[SAGE].metric.arm("half of what SAGE gains", (every[SAGE].scores + every[ALONE].scores) / 2,
                                  checkpoints=FILES[SAGE], budget=once)
    return conclude(
        "graphadapter", trainings=1, seeds=(FIRST,), arms=(*every.values(), *circle.values()),
        paper="Pages are sorted about 5 % better with Llama 2 on average, and with RoBERTa and GPT-2, too (abstract). "
              "The cross-entropy of words, here, is what the adapter is trained on.",
        here="On pages that nobody trained on the mixture's cross-entropy is at least 0.05 nat a word below the "
             "model's, with means and with attention, and 0.3 nat on words of the circle; an adapter without links "
             "and one on rewired links gain less than half of that.",
        controls=[more_than_chance(every[ALONE], any_word), better(circle[OWN], circle[ALONE])],
        expect=[better(every[SAGE], every[ALONE], least=0.05), better(circle[SAGE], circle[ALONE], least=0.3),
                better(every[GAT], every[ALONE], least=0.05), better(half, every[MLP]), better(half, every[REWIRED])],
        context=[*(context(f"{arm.metric.name}, {name}", arm) for of in (every, circle) for name, arm in of.items()),
                 *(context(f"trainable parameters, {name}", sum(weight.numel() for weight in nets[name].parameters()),
                           "", "a count") for name in ARMS)])


@torch.no_grad()
def scored(base: Bundle, nets: dict, seed: int) -> dict[str, list[float]]:
    """name -> cross-entropy of every word of a web, and of words of the circle."""
    table, web = web_read(base.model, base.tokenizer, seed), pages.web(seed)
    words = [base.tokenizer.convert_ids_to_tokens(table["ids"][table["of"] == page]) for page in range(pages.PAGES)]
    circle = torch.tensor(sum((web.firsts(page, some) for page, some in enumerate(words)), []))
    none = torch.full_like(table["friends"], -1)
    none[:, 0, 0] = table["friends"][:, 0, 0]

    def nats(net, near: Tensor) -> Tensor:
        logits = base.model.lm_head(net(table["says"], near, table["states"], table["of"]))
        return -mixed(table["lm"], log_probabilities(logits).gather(1, table["ids"][:, None])[:, 0])

    found = {name: nats(net, table[net.links]) for name, net in nets.items()}
    found |= {HIDDEN: nats(nets[SAGE], none), ALONE: -table["lm"]}
    return {name: [float(one.mean()), float(one[circle].mean())] for name, one in found.items()}
