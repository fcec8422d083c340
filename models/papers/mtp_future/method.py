"""Multi-token prediction by a frozen model: masks behind the text guess k tokens ahead, the base verifies them.

arXiv 2507.11851. Every call feeds the base's last own token, the guesses of the call before, and blocks of k masks.
(1) The base reads its own next token behind each guess and accepts guesses while they are what it would have written;
behind the last right one its own token stands for free. (2) The masks behind that place know what was accepted; with
the token just written the sampler turns them into k new guesses, one after the other, without another call.

linear      masks behind the last guess only: after a wrong guess there is nothing to verify in the next call
quadratic   masks behind every guess, (k + 1)^2 rows: whichever is accepted last, fresh guesses stand ready
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from models.backbones.layout import CallLayout, blocks, reals
from models.engine.method import Card, Event, Job, Method
from models.loops.sample.cached_lm import Meter, Reader, agreed, held_bytes, rewind
from models.loops.sample.examples import STORIES, SUMS
from models.loops.sample.judged_drafts import DRAFTS, turn
from models.trace import Cost
from models.trace.interventions import NOTHING, reachable
from models.trace.params import Choice, Flag, ParamError, Span

ADAPTERS = {"text-ar-1": "text-mtp-1", "algo-arithmetic-1": "algo-mtp-1"}
WAYS = ("quadratic", "linear", "plain")


@dataclass(frozen=True)
class Params:
    k: Annotated[int, Span(1, 8, 1, "Guesses ahead", "k masks behind the text, one guess each.", unit="tokens")] = 4
    way: Annotated[str, Choice(WAYS, "Masks stand", "Behind every guess costs more rows, and a wrong guess no longer "
                               "leaves the next call without any.", titles=(
                                   "behind every guess (quadratic)", "behind the last guess (linear)",
                                   "nowhere (the base alone)"))] = "quadratic"
    length: Annotated[int, Span(4, 120, 1, "Length", "The text may end earlier by itself.", unit="tokens")] = 40
    sampler: Annotated[bool, Flag("Sampler", "Off: each mask guesses without knowing the guess before it.")] = True
    gated: Annotated[bool, Flag("Gate", "Off: the low-rank changes act on real tokens too, which damages the base and "
                                "its verdicts.")] = True


@dataclass(frozen=True, eq=False)
class Call:
    """One call. guesses: what it verified; own: the base's token behind each of them and before the first;
    base [guesses + 1, V]: the logits these come from. ahead: the new guesses; masks and chain [k, V]: what the masks
    alone and the sampler said of them (empty where no block was of use)."""

    layout: CallLayout
    guesses: list[int]
    own: list[int]
    base: Tensor
    ahead: list[int]
    masks: Tensor
    chain: Tensor
    cost: Cost

    @property
    def accepted(self) -> int:
        """How many guesses are right, counted up to the first wrong one."""
        return agreed(self.guesses, self.own)

    @property
    def written(self) -> list[int]:
        """The tokens that this call adds to the text: only what the base would have written itself."""
        return [*self.guesses[: self.accepted], self.own[self.accepted]]


def call(first: int, count: int, guessed: int, k: int, way: str) -> CallLayout:
    """One decoding call: `count` real tokens from `first` on, the last `guessed` of them not yet verified, then masks:
    behind the last guess (linear), or behind each token that may turn out to be the last right one (quadratic). Real
    tokens come first, so that forgetting wrong guesses and masks is a cut at the end of the cache."""
    end = first + count
    behind = {"plain": (), "linear": (end - 1,), "quadratic": range(end - 1 - guessed, end)}[way]
    return reals(first, count) + blocks(behind, [k] * len(behind))


@torch.inference_mode()
def calls(reader, prompt: Sequence[int], p: Params, put: Mapping[int, int] = NOTHING) -> Iterator[Call]:
    """Calls without end; the first reads the prompt and verifies nothing. put: place in the text -> the token that a
    visitor wants there, as if the base had said it."""
    from transformers import DynamicCache

    cache, fed, guesses = DynamicCache(config=reader.base.config), list(prompt), []
    meter = Meter(reader.body, reader.head)  # adapters are computed for every row, then gated
    while True:
        began, first = time.perf_counter(), cache.get_seq_length()
        ids = torch.tensor([[*fed, *guesses]], device=reader.base.device)  # [1, R]
        layout = call(first, ids.shape[1], len(guesses), p.k, p.way)
        states = reader(ids, layout, cache, p.gated)[0]  # [T, D]
        base = reader.head(states[len(fed) - 1 : ids.shape[1]]).float()  # [guesses + 1, V]
        own = [put.get(first + len(fed) + j, token) for j, token in enumerate(base.argmax(-1).tolist())]
        right = agreed(guesses, own)
        masks = useful(states[ids.shape[1]:], right, len(guesses), p)
        logits, chain = ahead(reader, masks, own[right], p.sampler)
        meter.add(1, first, len(layout), len(base) + 2 * len(masks), held_bytes(cache),
                  (time.perf_counter() - began) * 1e3, int(layout.visible(first).sum()))
        yield (found := Call(layout, guesses, own, base, chain.argmax(-1).tolist(), logits, chain, meter.lap()))
        rewind(cache, first + len(fed) + right)  # forgets what is wrong, or cannot be right any more, and masks
        fed, guesses = found.written[-1:], found.ahead


def useful(states: Tensor, right: int, guessed: int, p: Params) -> Tensor:
    """The states [k, D] of the masks that stand behind the last right token, of all [M, D]; [0, D] if there are none.
    Masks behind another token have read a guess that is wrong, or not the newest one."""
    if p.way == "quadratic":
        return states[right * p.k : (right + 1) * p.k]
    return states if right == guessed else states[:0]


def ahead(reader, states: Tensor, token: int, sampler: bool) -> tuple[Tensor, Tensor]:
    """Logits [k, V] of the masks alone and of what guesses: the sampler, told each guess before the next, or the masks
    alone. token: the base's own, which stands where the first mask would."""
    masks, chain = reader.head(states).float(), []
    before = torch.tensor(token, device=states.device)
    for state in states if sampler else ():
        chain.append(reader.sampled(state, before).float())
        before = chain[-1].argmax()
    return masks, torch.stack(chain) if chain else masks


def written(reader, prompt: Sequence[int], p: Params, end: int | None,
            put: Mapping[int, int] = NOTHING) -> Iterator[tuple[Call, list[int]]]:
    """Calls with the tokens that each adds, until the text has `length` new ones or is over."""
    reachable(put, len(prompt), len(prompt) + p.length, reader.base.config.vocab_size)
    left = p.length
    for found in calls(reader, prompt, p, put):
        new = found.written[:left]
        new = new[: new.index(end) + 1] if end in new else new
        left -= len(new)
        yield found, new
        if not left or new[-1] == end:
            return


def run(job: Job) -> Iterator[Event]:
    """Decodes, then looks back: how far the masks saw, and what they attend to."""
    from models.papers.mtp_future.record import told

    p = job.params if job.choice is None else for_turn(job.params)
    source = Reader(job.bundle, job.subject, p.length + p.k)
    reader = job.companion(ADAPTERS[job.bundle.key]).model.on(job.model)
    decoded = written(reader, source.prompt, p, source.end, job.interventions.written)
    return told(replace(job, params=p), source, reader, decoded)


def for_turn(p: Params) -> Params:
    """Room for all drafts of a game, however short the visitor's text is. ParamError where nothing is guessed."""
    if p.way == "plain":
        raise ParamError("The base alone drafts nothing to judge: let masks stand behind the guesses.")
    return replace(p, length=2 * DRAFTS * (p.k + 1))


METHOD = Method(
    bound="its masks and adapters were trained for its own checkpoints",
    card=Card(
        id="mtp-future", title="Your LLM knows the future", tabs=("sample", "unmask", "attend"), arxiv="2507.11851",
        year=2025, seed="A",
        summary="Masks behind the text, small adapters that act on these masks only, and a tiny sampler guess the next "
                "tokens in one call; the untouched model verifies them in its next call and keeps only what it would "
                "have written itself.",
        flow="text so far > *masks behind every guess > one call of the model > *sampler fills the masks > "
             "guesses checked by the next call; guesses checked by the next call ~> text so far",
        look_at="Accepted tokens cost no call of their own. Struck ones, beside the text, were guessed and refused.",
        not_covered="Sampling with rejection; ablations trained without the sampler, the consistency loss or the gate; "
                    "the paper's Tulu-3 8B.",
        unverified="The adapted layers, the sampler's shape and the masks' number follow a re-implementation; the "
                   "sampler's shortcut from the mask's own state is ours."),
    params=Params, accepts="text", kinds={"algo-arithmetic-1": "problem"}, checkpoints=tuple(ADAPTERS),
    companions=tuple(ADAPTERS.values()), run=run, baseline="sampling",
    baseline_params=lambda p: {"temperature": 0.0, "top_p": 1.0, "length": p.length}, turn=turn(
        "A small helper guessed what comes next. How much of its draft will the model keep?"),
    examples=(*STORIES, *SUMS),
    fixed={"attend": "It shows who may look at whom in a call of training, not a run."})
