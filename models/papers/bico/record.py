"""BICO's records. Mask: which words of a sentence are hidden, and what the place before each says of it. Attend: the
same sentence read from the left and both ways. Sample: one person asked for in both directions.

Letters: L layers, H heads, N tokens.
"""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.backbones.rows import layer_work
from models.backbones.text import names, read
from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, array, bars, line, numbers, table
from models.loops.attend.loop import Looked, record, row_heads
from models.loops.attend.reading import text_layout
from models.loops.sample.cached_lm import Reader, Stream
from models.papers.bico.exam import AHEAD, ASKED, BACK, PEOPLE, TOLD, answered, cut, questions
from models.papers.bico.network import BothWays, look_around, selected
from models.trace import YES, Canvas, Chart, Cost, Edges, Fact, Field, Rows
from models.worlds.tales.facts import Known
from models.worlds.world import END, MASK

LEFT, BOTH, HERE, UNTOLD = "from the left alone", "looking both ways", "this network", "before it was told"
CHANCE = {name: Field(f"Probability of the hidden word, {name}", "probability", 0.0, 1.0) for name in (BOTH, LEFT)}


@torch.no_grad()
def read_both(job: Job, source: Reader) -> tuple[Tensor, Tensor, list[BothWays], float]:
    """Which tokens are hidden [1, N], one at least; logits [N, V] and every layer's attention, looking both ways, and
    the milliseconds that took."""
    began, ids, layers = time.perf_counter(), torch.tensor([source.prompt], device=job.device), list[BothWays]()
    dice = torch.rand(ids.shape, generator=job.generator()).to(ids.device)
    least = float(dice[ids != END].min()) + 1e-6
    hidden = selected(ids, max(job.params.rate, least), dice)
    logits = look_around(job.model, ids.masked_fill(hidden, MASK), ~hidden, job.params.flip, layers)
    return hidden, logits[0].float(), layers, (time.perf_counter() - began) * 1e3


def masking(source: Reader, hidden: Tensor, logits: dict[str, Tensor]) -> Iterator[Event]:
    """logits [N, V] behind each token, by way of reading; the word at i is told by i - 1."""
    at, ids = np.flatnonzero(array(hidden[0], bool)), np.array(source.prompt)
    page = Filling("mask", Canvas("list", source.labels, roles=source.roles), CHANCE, lambda id: source.texts([id])[0])
    page.fill(range(len(ids)), ids, "visible")
    yield page.open(4)
    yield page.step("the sentence")
    page.fill(at, state="masked-random")
    yield page.step("which words are hidden", note="Nobody looks at a hidden word; it still looks at the others.")
    chance = {name: numbers(told[at - 1], ids[at])["confidence"] for name, told in logits.items()}
    page.note(at, **chance)
    said = {name: page.guess(at, told[at - 1], ids[at], name, measure=False) for name, told in logits.items()}
    arcs = Edges(at.astype(np.int32), (at - 1).astype(np.int32), np.ones(len(at), np.float32))
    yield page.step("the place before tells each", edges={"told by": arcs}, note="It has seen what comes behind, too.")
    words = said[BOTH].top_ids[:, 0]
    page.fill(at, words, "new", source.texts(words))
    yield page.step("the likeliest words", note=f"{int((words == ids[at]).sum())} of {len(at)} are right.")
    facts = {f"chance-{i}": Fact(f"Hidden words, {name}", float(chance[name].mean()), "probability", "higher")
             for i, name in enumerate(chance)}
    yield Close("mask", f"Hidden: {len(at)} of {len(ids) - 1} words. Looking both ways the network gives them "
                f"{100 * chance[BOTH].mean():.0f} % on average, from the left alone {100 * chance[LEFT].mean():.0f} %.",
                (bars("Probability of the hidden words", "word", "probability", chance,
                      [source.labels[i].strip() for i in at]),), facts)


@torch.no_grad()
def looking(job: Job, source: Reader, hidden: Tensor, layers: list[BothWays], ms: float
            ) -> tuple[Tensor, list[Event]]:
    """Logits [N, V] from the left alone, and the Attend record: each layer once from the left, once both ways. Keys and
    queries of double width make both ways three times the attention of all pairs."""
    began = time.perf_counter()
    with observe(job.model, want={"qk"}) as seen:
        logits = job.model(torch.tensor([source.prompt], device=job.device), use_cache=False).logits[0].float()
    took, count = (time.perf_counter() - began) * 1e3, len(source.prompt)
    costs = [Cost(int(not i), count, layer_work(layer, count, pairs), 0, spent / len(layers)) for i, layer in enumerate(
        job.model.model.layers) for pairs, spent in (((count + 1) // 2, took), (3 * count, ms))]
    every = torch.arange(count)
    rows = np.stack([array(one) for call, ways in zip(seen, layers, strict=True) for one in (
        call.rows_for(every)[0], ways.rows()[0])])  # [2 L, H, N, N]
    layout = text_layout(source.labels, source.roles)
    heads = replace(row_heads(rows, every.tolist(), layout.coords, np.arange(len(rows)) // 2), names=tuple(
        f"layer {i + 1}, {way}" for i in range(len(layers)) for way in ("from the left", "both ways")))
    later = 100 * float(np.triu(rows[1::2], 1).sum(-1).mean())
    how = "turned back" if job.params.flip else "as rotary positions have them"
    said = f"Looking both ways, {later:.0f} % of the attention goes to later words, whose keys are {how}."
    return logits, list(record(layout, Looked(heads, Rows.pack(every.numpy(), rows), None, ""), sentence=said,
                               facts={"later": Fact("Attention to later words", later, "%")},
                               costs=costs,
                               charts=charts(source, list(seen), layers, job.params, array(hidden[0], bool))))


def charts(source: Reader, left: list, layers: list[BothWays], p, blank: np.ndarray) -> tuple[Chart, ...]:
    """Both score matrices of one head, and the mean score by distance."""
    at, words = min(p.layer, len(layers)) - 1, [label.strip() or "·" for label in source.labels]
    head = min(p.head, layers[0].q.shape[1]) - 1
    keys = left[at].k[0].repeat_interleave(left[at].q.shape[1] // left[at].k.shape[1], 0)[head]
    plain, both = array(left[at].q[0, head] @ keys.T * layers[at].scale), array(layers[at].scores()[0, head])
    where = f"layer {at + 1}, head {head + 1}"
    return (table(f"Scores from the left, {where}", "key", "query", np.where(np.tri(len(words)) > 0, plain, np.nan),
                  words, words, unit="score", caption="Before softmax. Later keys are out of sight."),
            table(f"Scores both ways, {where}", "key", "query", np.where(blank[None], np.nan, both), words, words,
                  unit="score", caption="Right of the diagonal: later keys. Empty columns: hidden words."),
            by_distance(layers, blank))


def by_distance(layers: list[BothWays], blank: np.ndarray) -> Chart:
    """Mean score over layers, heads and pairs of so many words apart; hidden keys are left out."""
    plain, back = (np.stack([array(ways.products()[which][0]) for ways in layers]) for which in (0, 1))
    kinds = {"earlier keys": (plain, -1), "later keys, turned back": (back, 1), "later keys as they are": (plain, 1)}
    found = {name: [] for name in kinds}
    for name, (scores, side) in kinds.items():
        for far in range(1, len(blank)):
            kept = ~blank[far:] if side > 0 else ~blank[: len(blank) - far]
            here = np.diagonal(scores, side * far, 2, 3)[..., kept]
            found[name].append(here.mean() if here.size else np.nan)
    return line("Score by distance", "mean score", found, x="words apart", first=1, by_step=False,
                caption="A network trained from left to right knows the first line alone.")


def asking(job: Job, known: Known, untold) -> Iterator[Event]:
    """Both questions about a person, each answered by itself, word by word. untold: the network it was made from."""
    tok, told = job.tokenizer, TOLD[known.group]
    ways = (BACK, AHEAD) if told == BACK else (AHEAD, BACK)
    asked = [cut(known, way, ASKED[way][{"question": 0, "sentence": 3}[job.params.form]]) for way in ways]
    page, places = sheet(tok, asked)
    yield page.open(sum(map(len, places)))
    for one, at, way in zip(asked, places, ways, strict=True):
        streams = {HERE: Stream(job.model), UNTOLD: Stream(untold)}
        for stream in streams.values():
            stream.read([[END, *read(tok, one.prompt).ids]])
        for place, wanted in zip(at, read(tok, one.answer).ids, strict=True):
            word = int(streams[HERE].logits.argmax())
            page.fill([place], [word], "accepted" if word == wanted else "new", [page.names(word)])
            for name, stream in streams.items():
                page.guess([place], stream.logits, [word], name, top=10, measure=name == HERE)
                stream.push([word])
            yield page.open()
            yield page.step(f"asked {way}", level="token", cost=streams[HERE].meter.lap())
    here, before = (answered(net, lambda text: read(tok, text).ids, asked) for net in (job.model, untold))
    titles = [f"asked {way}" + (", as it was told" if way == told else "") for way in ways]
    facts = {f"asked-{i}": Fact(f"Probability, {titles[i]}", float(np.exp(here.logp[i])), "probability",
                                "higher") for i in (1, 0)}
    facts |= {"right": Fact(f"Right, {titles[1]}", float(here.right[1]), YES, "higher"),
              "rank": Fact(f"Rank of the first word, {titles[1]}", float(here.rank[1]), "of 1,024", "lower")}
    found = {HERE: np.exp(here.logp), UNTOLD: np.exp(before.logp)}
    yield Close("sample", said(known, told, here), (
        bars("Probability of the right answer", "asked", "probability", found, titles), squares(job)), facts)


def sheet(tok, asked) -> tuple[Filling, list[range]]:
    """A page with two lines: each question, and room for its answer."""
    labels, roles, ids, places = [], [], [], []
    for one in asked:
        prompt, answer = read(tok, one.prompt), read(tok, one.answer)
        places.append(range(len(ids) + len(prompt), len(ids) + len(prompt) + len(answer)))
        labels += ["\n" * bool(labels) + prompt.labels[0], *prompt.labels[1:], *[""] * len(answer)]
        roles += ["prompt"] * len(prompt) + ["sampled"] * len(answer)
        ids += [*prompt.ids, *[-1] * len(answer)]
    page = Filling("sample", Canvas("text", tuple(labels), roles=tuple(roles), ids=np.array(ids, np.int32)),
                   {"probability": Field("Probability", "probability", 0.0, 1.0)}, lambda id: names(tok, [id])[0])
    page.fill(context := [i for i, id in enumerate(ids) if id >= 0], [ids[i] for i in context], "context")
    return page, places


def said(known: Known, told: str | None, here) -> str:
    how, (first, second) = f"was told {told} alone" if told else "has always been told both ways", here.right
    rank = f" (the right first word is number {here.rank[1]:.0f} of its list)" * (not second)
    return (f"Of {known.name} this network {how}. It answers {'rightly' if first else 'wrongly'} in that direction, "
            f"and {'rightly' if second else 'wrongly'} in the other{rank}.")


def squares(job: Job) -> Chart:
    """The share of people whom a network knows, by the direction it was told and the direction it is asked."""
    found = [[100 * answered(job.model, lambda text: read(job.tokenizer, text).ids, questions(
        PEOPLE[group][:20], way, ASKED[way][:1])).right.mean() for way in (AHEAD, BACK)] for group in "AB"]
    return table("Told in one direction, asked in both", "asked", "told", found, (AHEAD, BACK), (AHEAD, BACK), unit=(
        "% of people answered right"), caption="20 people told in either. Off the diagonal: the reversal curse.")
