"""One sum as a record: which states there are layer by layer, who looks at whom, and when the answer is there.

A node is a token behind a layer, from the tokens themselves at the bottom (layer 0) upwards; <|endoftext|> in front is
left out. Letters: T tokens with it, C = T - 1 columns, L layers, N nodes, V words.
"""
from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import torch

from models.backbones.instrument import observe
from models.backbones.layer_lens import residuals
from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, array, line, table
from models.loops.sample.cached_lm import log_probabilities
from models.papers.all_for_one import network
from models.papers.all_for_one.network import ALONE, CAMA, EVERYONE, MEAN, ZEROS
from models.trace import YES, Canvas, Cost, Edges, Fact, Field
from models.trace.percent import percent
from models.trace.subject import SubjectError, nothing_behind
from models.worlds import sums
from models.worlds.sums import ZERO

FIELDS = {"answer": Field('Chance of the right answer, read off "="', "probability", 0.0, 1.0),
          "looked": Field('Attention of "=" one layer higher, mean over heads', "share", 0.0, 1.0)}
HOLDS = {CAMA: "the mean over sums with its own token here", MEAN: "the mean over sums with any token here",
         ZEROS: "nothing but zeros"}
LOOKS = {"wait": "masked", "transfer": "visible", "compute": "dropped"}  # states of tokens that do not answer


class Staged:
    """A sum in three stages: states [T, L + 1, D], whom "=" looked at in each layer [L, T], and those of the whole
    network."""

    def __init__(self, job: Job):
        try:
            self.doc = sums.read(job.subject.text)
        except ValueError as wrong:
            raise SubjectError(str(wrong)) from wrong
        nothing_behind(job.subject.text, sums.EQUALS)
        p, self.job, self.ids = job.params, job, torch.tensor([sums.ids(self.doc)])
        self.depth, self.columns = len(job.model.model.layers), self.ids.shape[1] - 1
        self.wait = min(p.wait, self.depth)
        self.transfer = min(p.transfer, self.depth - self.wait)
        began, places = time.perf_counter(), range(1, self.columns, 2) if p.ablation == CAMA else ()
        self.table = network.ablated(job.model, self.ids, p.ablation, p.samples, job.generator())
        self.states, self.looked = self.passed()
        means = p.samples * self.depth * sum((self.columns + 1, *(place + 1 for place in places)))
        self.cost = Cost(2 + len(places), means + (self.columns + 1) * (self.depth - self.wait),
                         ms=1e3 * (time.perf_counter() - began))
        self.says, self.whole = (self.answers(of) for of in (self.states, residuals(job.model, self.ids)[0]))

    def stage(self, layer: int) -> str:
        """Of layers 1 to L."""
        return "wait" if layer <= self.wait else "transfer" if layer <= self.wait + self.transfer else "compute"

    def passed(self) -> tuple[torch.Tensor, np.ndarray]:
        count, start, model = self.columns + 1, self.job.params.start, self.job.model
        states, looked = [*self.table[0].unbind(1)[: self.wait + 1]], np.zeros((self.depth, count), np.float32)
        for layer in range(self.wait, self.depth):
            sees = network.allowed(self.job.params.who if self.stage(layer + 1) == "transfer" else ALONE, count, start)
            with observe(model, [layer], {"rows"}, rows=[-1]) as seen:
                states.append(network.through(model, states[-1][None], layer, layer + 1, sees)[0])
            looked[layer] = array(seen[layer].rows[0, :, 0].mean(0))
        return torch.stack(states, 1), looked

    def answers(self, states: torch.Tensor) -> torch.Tensor:
        """log p [L + 1, V] of what stands behind "=", read off every layer."""
        return log_probabilities(network.said(self.job.model, states[-1]))

    def chance(self, says: torch.Tensor) -> np.ndarray:
        """Of the right answer, from log p [..., V]."""
        return array(says[..., ZERO + self.doc.truth].exp())

    def chances(self) -> np.ndarray:
        """The same [L + 1, L + 1] by layers of waiting and of transfer; NaN where they are too many."""
        found, p = np.full((self.depth + 1, self.depth + 1), np.nan, np.float32), self.job.params
        for most, transfer in zip(*np.tril_indices(self.depth + 1)):
            wait = self.depth - most
            logits = network.staged(self.job.model, self.table, wait, transfer, p.who, p.start)
            found[wait, transfer] = self.chance(log_probabilities(logits)[0])
        return found


def told(staged: Staged) -> Iterator[Event]:
    columns, right = staged.columns, staged.chance(staged.says)
    page = Filling("attend", lattice(staged), FIELDS, staged.job.tokenizer.decode)
    page.fill(range(columns), staged.ids[0, 1:], "context")
    yield page.open(staged.depth + 1)
    for layer, (says, chance) in enumerate(zip(staged.says, right, strict=True)):
        row, last, word = layer * columns, (layer + 1) * columns - 1, [int(says.argmax())]
        if layer:
            page.fill(range(row, last + 1), state=LOOKS[staged.stage(layer)])
            if layer > staged.wait:
                page.fill([last], word)
            page.note(range(row - columns, row), looked=staged.looked[layer - 1, 1:])
        page.guess([last], says, word, 'behind "="')
        page.note([last], answer=[chance])
        yield page.step(f"layer {layer}: {staged.stage(layer)}" if layer else "the tokens", level="layer",
                        note=note(staged, layer, chance), edges=arrows(staged, layer),
                        cost=Cost() if layer else staged.cost)
    yield closing(staged, right)


def lattice(staged: Staged) -> Canvas:
    """Every token behind every layer, from the bottom upwards; links are what may be heard."""
    columns, depth, all_look = staged.columns, staged.depth, staged.job.params.who == EVERYONE
    at = [(x * depth / (columns - 1), depth - layer) for layer in range(depth + 1) for x in range(columns)]
    links = [((layer - 1) * columns + x, layer * columns + y) for layer in range(1, depth + 1)
             for x in range(columns) for y in (range(x, columns) if all_look else {x, columns - 1})
             if x == y or staged.stage(layer) == "transfer"]
    return Canvas("graph", (*staged.doc.prompt.split(), *[""] * (columns * depth)), positions=np.array(at, np.float32),
                  links=np.array(links, np.int32))


def arrows(staged: Staged, layer: int) -> dict[str, Edges]:
    """Whom "=" looked at on its way up to this layer; in waiting layers at nobody."""
    looked = staged.looked[:layer, 1:]
    at, key = np.nonzero(looked)  # layers, and whom there
    return {"attention": Edges(((at + 2) * staged.columns - 1).astype(np.int32),
                               (at * staged.columns + key).astype(np.int32), looked[at, key])}


def note(staged: Staged, layer: int, chance: float) -> str:
    if layer == 0:
        rest = staged.depth - staged.wait - staged.transfer
        return f"then {staged.wait} layers wait, {staged.transfer} transfer and {rest} compute"
    if layer <= staged.wait:
        return f"every token holds {HOLDS[staged.job.params.ablation]}"
    looks = f"looks at other tokens with {percent(staged.looked[layer - 1, 1:-1].sum())} of its attention"
    now = looks if staged.stage(layer) == "transfer" else "is alone"
    return f'"=" {now}; the right answer has {percent(chance)}'


def closing(staged: Staged, right: np.ndarray) -> Close:
    truth, whole, depth = staged.doc.truth, staged.chance(staged.whole), staged.depth
    word, other = (staged.job.tokenizer.decode([int(says[-1].argmax())]) for says in (staged.says, staged.whole))
    facts = {"right": Fact("Right with these stages", float(word == str(truth)), YES, "higher"),
             "chance": Fact("Chance of the right answer, these stages", 100 * float(right[-1]), "%", "higher"),
             "whole": Fact("Chance of the right answer, whole network", 100 * float(whole[-1]), "%", "higher"),
             "transfer": Fact("Layers of transfer", float(staged.transfer), f"of {depth}")}
    series, words = {"these stages": right, "whole network": whole}, staged.doc.prompt.split()
    if len(words) > 4:  # the first two numbers alone
        first = sums.read(" ".join(words[:3]))
        series[f"{first.text}, whole network"] = array(staged.whole[:, ZERO + first.truth].exp())
    charts = (line("When the right answer is there", "probability", series, x="layer", first=0, caption='Read off "=" '
                   "behind every layer, through the network's last norm and its table of answers."),
              table(f"Chance of {truth} for {' '.join(words[:-1])}", "layers of transfer", "waiting layers",
                    staged.chances(), range(depth + 1), range(depth + 1), unit="probability",
                    caption="Every setting of the two sliders for this sum. Empty: more layers than there are."))
    judged = "right" if word == str(truth) else f"wrong: it is {truth}"
    lost = " What it needs came from other tokens, and no longer does." if word != other == str(truth) else ""
    chances = f"The chance of {truth} is {percent(right[-1])} against {percent(whole[-1])}."
    return Close("attend", f"With these stages the answer is {word}, {judged}; the whole network says {other}. "
                           f"{chances}{lost}", charts, facts)
