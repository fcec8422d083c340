"""BICO's records. Mask: which words of a sentence are hidden, and what the place before each says of it. Attend: the
same sentence read from the left and both ways. Sample: one person asked for in both directions.

Letters: L layers, H heads, N tokens.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.backbones.text import names, read
from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, array, bars, line, table
from models.loops.attend.loop import Looked, record, row_heads
from models.loops.attend.reading import text_layout
from models.loops.sample.cached_lm import Reader, Stream
from models.papers.bico.exam import AHEAD, BACK, QUESTIONS, TOLD, UNSEEN, Question, answered, cut, questions
from models.papers.bico.network import BothWays, look_around, selected
from models.trace import YES, Canvas, Chart, Edges, Fact, Field, Rows
from models.worlds.tales.facts import GROUPS, Known
from models.worlds.world import END, MASK

LEFT, BOTH, UNTOLD = "from the left alone", "looking both ways", "before it was told"
MASKED = {"both": Field("Probability of the hidden word, looking both ways", "probability", 0.0, 1.0),
          "left": Field("Probability of the hidden word, from the left alone", "probability", 0.0, 1.0)}
SAID = {"probability": Field("Probability", "probability", 0.0, 1.0)}


@torch.no_grad()
def read_both(job: Job, source: Reader) -> tuple[Tensor, Tensor, list[BothWays]]:
    """Which tokens are hidden [1, N], one at least; logits [1, N, V] and every layer's attention, looking both ways."""
    ids, dice = torch.tensor([source.prompt], device=job.device), torch.rand(1, len(source.prompt),
                                                                            generator=job.generator()).to(job.device)
    free = torch.where(ids == END, 1.0, dice)
    hidden, layers = selected(ids, max(job.params.rate, float(free.min()) + 1e-6), dice), list[BothWays]()
    logits = look_around(job.model, ids.masked_fill(hidden, MASK), ~hidden, job.params.flip, layers)
    return hidden, logits, layers


def masking(source: Reader, hidden: Tensor, both: Tensor, left: Tensor) -> Iterator[Event]:
    """both, left: logits [N, V] behind each token; the word at i is told by i - 1."""
    at, ids = np.flatnonzero(array(hidden[0], bool)), np.array(source.prompt)
    page = Filling("mask", Canvas("list", source.labels, roles=source.roles, ids=ids.astype(np.int32)), MASKED,
                   lambda id: source.texts([id])[0])
    page.fill(range(len(ids)), ids, "visible")
    yield page.open(4)
    yield page.step("the sentence")
    page.fill(at, state="masked-random")
    yield page.step("which words are hidden", note="Nobody may look at a hidden word; it still looks at the others.")
    told = {name: page.guess(at, logits[at - 1], ids[at], name) for name, logits in ((BOTH, both), (LEFT, left))}
    chances = {key: array([float(p[list(i).index(id)]) for p, i, id in zip(
        told[name].top_probs, told[name].top_ids, ids[at])]) for key, name in (("both", BOTH), ("left", LEFT))}
    page.note(at, **chances)
    arcs = Edges(at.astype(np.int32), (at - 1).astype(np.int32), np.ones(len(at), np.float32))
    yield page.step("the place before tells each", edges={"told by": arcs}, note="It has seen what "
                    "comes behind the word, too.")
    said = told[BOTH].top_ids[:, 0]
    page.fill(at, said, "new", source.texts(said))
    yield page.step("the likeliest words", note=f"{int((said == ids[at]).sum())} of {len(at)} are right.")
    means = {name: float(chances[key].mean()) for key, name in (("both", BOTH), ("left", LEFT))}
    yield Close("mask", f"{len(at)} of {len(ids) - 1} words are hidden. Looking both ways the network gives them "
                f"{means[BOTH]:.0%} on average, from the left alone {means[LEFT]:.0%}.",
                (bars("Probability of the hidden words", "word", "probability", {BOTH: chances["both"],
                      LEFT: chances["left"]}, [source.labels[i].strip() for i in at]),),
                {key: Fact(f"Probability of hidden words, {name}", means[name], "of 1", "higher")
                 for key, name in (("both", BOTH), ("left", LEFT))})


@torch.no_grad()
def looking(job: Job, source: Reader, hidden: Tensor, layers: list[BothWays]) -> tuple[Tensor, list[Event]]:
    """Logits [N, V] from the left alone, and the Attend record: each layer once from the left, once both ways."""
    with observe(job.model, want={"qk"}) as seen:
        logits = job.model(torch.tensor([source.prompt], device=job.device), use_cache=False).logits[0].float()
    every = torch.arange(len(source.prompt))
    rows = np.stack([array(one) for call, ways in zip(seen, layers, strict=True) for one in (
        call.rows_for(every)[0], ways.rows()[0])])  # [2 L, H, N, N]
    layout = text_layout(source.labels, source.roles)
    heads = replace(row_heads(rows, every.tolist(), layout.coords), names=tuple(
        f"layer {i + 1}, {way}" for i in range(len(layers)) for way in ("from the left", "both ways")))
    later = 100 * float(np.triu(rows[1::2], 1).sum(-1).mean())
    how = "turned back" if job.params.flip else "as rotary positions have them"
    said = f"Looking both ways, {later:.0f} % of the attention goes to later words, whose keys are {how}."
    found = Looked(heads, Rows.pack(every.numpy(), rows), None, "")
    at, head = min(job.params.layer, len(layers)) - 1, min(job.params.head, rows.shape[1]) - 1
    return logits, list(record(layout, found, sentence=said, charts=charts(source, list(seen)[at], layers, at, head,
                                                                           hidden),
                               facts={"later": Fact("Attention that goes to later words, both ways", later, "%")}))


def charts(source: Reader, left, layers: list[BothWays], at: int, head: int, hidden: Tensor) -> tuple[Chart, ...]:
    """Both score matrices of one head, and the mean score by distance."""
    words, blank = [label.strip() or "·" for label in source.labels], array(hidden[0], bool)
    keys = left.k.repeat_interleave(left.q.shape[1] // left.k.shape[1], 1)
    plain = array((left.q @ keys.transpose(-1, -2) * left.options["scale"])[0, head])
    lower, both = np.tril(np.ones_like(plain)) > 0, array(layers[at].scores()[0, head])
    where = f"layer {at + 1}, head {head + 1}"
    return (table(f"Scores from the left, {where}", "key", "query", np.where(lower, plain, np.nan), words, words,
                  unit="score", caption="Before softmax. Later keys are out of sight."),
            table(f"Scores both ways, {where}", "key", "query", np.where(blank[None], np.nan, both), words, words,
                  unit="score", caption="Right of the diagonal: later keys. Empty columns: hidden words."),
            by_distance(layers, blank))


def by_distance(layers: list[BothWays], blank: np.ndarray) -> Chart:
    """Mean score over layers, heads and pairs of so many words apart."""
    plain, back = (np.stack([array(ways.products()[which][0]) for ways in layers]) for which in (0, 1))
    seen, far = np.where(blank, np.nan, 0.0), range(1, len(blank))
    series = {"earlier keys": [np.nanmean(np.diagonal(plain + seen, -d, 2, 3)) for d in far],
              "later keys, turned back": [np.nanmean(np.diagonal(back + seen, d, 2, 3)) for d in far],
              "later keys as they are": [np.nanmean(np.diagonal(plain + seen, d, 2, 3)) for d in far]}
    return line("Score by distance", "mean score", series, x="words apart", first=1, by_step=False,
                caption="A network trained from left to right knows the first line alone.")


def asking(job: Job, known: Known, untold) -> Iterator[Event]:
    """Both questions about a person, each answered by itself, word by word. untold: the network it was made from."""
    tok, told = job.tokenizer, TOLD[known.group]
    ways = (told or AHEAD, AHEAD if told == BACK else BACK)
    asked = [cut(known, way, {"question": QUESTIONS, "sentence": UNSEEN}[job.params.form][way][0]) for way in ways]
    encode = lambda text: list(read(tok, text).ids)  # noqa: E731
    page, places = sheet(tok, asked)
    yield page.open(sum(map(len, places)))
    for one, at, way in zip(asked, places, ways, strict=True):
        yield from answering(page, (Stream(job.model), Stream(untold)), [END, *encode(one.prompt)],
                             encode(one.answer), at, f"asked {way}")
    here, before = (answered(net, encode, asked) for net in (job.model, untold))
    titles = [f"asked {way}" + (", as it was told" if way == told else "") for way in ways]
    facts = {f"asked-{i}": Fact(f"Probability of the right answer, {title}", float(np.exp(here.logp[i])), "of 1",
                                "higher") for i, title in enumerate(titles)}
    facts["right"] = Fact("Answered right in the other direction", float(here.right[1]), YES, "higher")
    rank = Fact("Rank of the right first word in the other direction", float(here.rank[1]), "of 1,024", "lower")
    yield Close("sample", said(known, told, here), (
        bars("Probability of the right answer", "asked", "probability", {"this network": np.exp(here.logp), UNTOLD:
             np.exp(before.logp)}, titles), squares(job.model, encode)), {**facts, "rank": rank})


def sheet(tok, asked: list[Question]) -> tuple[Filling, list[range]]:
    """A page with two lines: each question, and room for its answer."""
    labels, roles, ids, truth, places = [], [], [], [], []
    for one in asked:
        prompt, answer = read(tok, one.prompt), read(tok, one.answer)
        labels += ["\n" * bool(labels) + prompt.labels[0], *prompt.labels[1:], *[""] * len(answer)]
        roles += ["prompt"] * len(prompt) + ["sampled"] * len(answer)
        places.append(range(len(ids) + len(prompt), len(ids) + len(prompt) + len(answer)))
        ids, truth = [*ids, *prompt.ids, *[-1] * len(answer)], [*truth, *prompt.labels, *names(tok, answer.ids)]
    page = Filling("sample", Canvas("text", tuple(labels), roles=tuple(roles), truth=tuple(truth),
                                    ids=np.array(ids, np.int32)), SAID, lambda id: names(tok, [id])[0])
    context = [i for i, id in enumerate(ids) if id >= 0]
    page.fill(context, [ids[i] for i in context], "context")
    return page, places


def answering(page: Filling, streams, prompt: list[int], gold: list[int], at: range, title: str) -> Iterator[Event]:
    """The likeliest words, as many as the answer has; the first network's are written."""
    for stream in streams:
        stream.read([prompt])
    for place, wanted in zip(at, gold, strict=True):
        word = int(streams[0].logits.argmax())
        page.fill([place], [word], "accepted" if word == wanted else "new", [page.names(word)])
        for name, stream in zip(("this network", UNTOLD), streams, strict=True):
            page.guess([place], stream.logits, [word], name, top=10, measure=name == "this network")
            stream.push([word])
        yield page.open()
        yield page.step(title, level="token", cost=streams[0].meter.lap())


def said(known: Known, told: str | None, here) -> str:
    how = f"was told {told} alone" if told else "has always been told both ways"
    return (f"Of {known.name} this network {how}. It answers {'rightly' if here.right[0] else 'wrongly'} in that "
            f"direction, and {'rightly' if here.right[1] else 'wrongly'} in the other (the right first word is number "
            f"{here.rank[1]:.0f} of its list).")


def squares(model, encode) -> Chart:
    """The share of people whom a network knows, by the direction it was told and the direction it is asked."""
    found = [[float(answered(model, encode, questions(GROUPS[group][::4], way, UNSEEN[way][:1])).right.mean())
              for way in (AHEAD, BACK)] for group in "AB"]
    return table("Told in one direction, asked in both", "asked", "told", 100 * np.array(found), (AHEAD, BACK),
                 (AHEAD, BACK), unit="% of people answered right",
                 caption="25 people told in either direction. Off the diagonal: the reversal curse.")
