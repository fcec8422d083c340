"""What a finished Prune run says about itself: measured times, facts, charts and the sentence.

Work in (token, layer) pairs, multiply-adds and milliseconds stand side by side, because they do not fall together.
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

import kernels
from models.engine.method import Close, Job
from models.engine.recording import bars, line, numbered, table
from models.loops.prune.forward import KeepPolicy, Pruner, full_macs, unpruned
from models.loops.prune.layer_steps import Notes
from models.trace import YES, Chart, Fact
from models.trace.subject import SubjectError
from models.worlds.retrieval import truth

ENOUGH = 5  # rounds from which a measured time is shown


def by_hand(policy: KeepPolicy, job: Job, reads: int) -> KeepPolicy:
    """The visitor's choice instead of the policy's: while the prompt is read, the chosen tokens leave last; what he
    keeps by force stays to the end, and others leave in its place."""
    chosen = [int(i) for group in job.choice or () for i in group]
    if min(chosen, default=0) < 0:
        raise SubjectError("Please choose tokens of the prompt; they are numbered from 0.")
    last = tuple((torch.tensor(ids, dtype=torch.long), until) for ids, until in
                 ((chosen, reads), ([one.at for one in job.interventions.kept], math.inf)) if ids)

    def score(moment):
        own = policy.score(moment)
        for ids, until in last:
            own = torch.where(torch.isin(moment.alive, ids) & (moment.step < until), 1e6 + own, own)
        return own

    return replace(policy, score=score) if last else policy


def close(job: Job, make: Callable[[int], KeepPolicy], pruner: Pruner, notes: Notes) -> Close:
    """Charts, facts and the sentence of a finished run."""
    if int(pruner.store.computed.max()) > 1:
        raise RuntimeError("a (token, layer) pair was computed twice in one generation")
    layers = len(notes.used)
    timed = first_token(job.model, lambda: by_hand(make(layers), job, len(notes.reads)), notes.reads,
                        job.params.rounds)
    answer = job.tokenizer.decode(notes.written, skip_special_tokens=True)
    found = truth(job.subject.text)
    right = None if found is None else said(answer) == found[0]
    return Close("prune", sentence(notes, pruner, answer, right), charts(notes, pruner),
                 facts(notes, pruner, timed, right), path=f"{pruner.store.keys[0].device.type}-sdpa-rows")


@dataclass(frozen=True)
class Race:
    """The first token, pruned and in full, interleaved: the ratio of full to pruned of every round, and the probability
    that the pruned model gives to the full model's first token."""

    ratios: np.ndarray
    agreement: float

    @property
    def facts(self) -> dict[str, Fact]:
        """The measured time with its spread; nothing where too few rounds would only show the machine's noise."""
        if len(self.ratios) < ENOUGH:
            return {}
        low, middle, high = np.quantile(self.ratios, (0.25, 0.5, 0.75))
        return {"speed": Fact("First token, measured", float(middle),
                              f"x as fast as the full model (median of {len(self.ratios)} rounds, middle half "
                              f"{low:.2g} to {high:.2g})", "higher")}


def first_token(model, make: Callable[[], KeepPolicy], reads: list[list[int]], rounds: int) -> Race:
    """Measures reading the prompt up to the logits, scoring and cutting included, drawing and recording left out."""
    times, logits = race({"pruned": lambda: read(model, make(), reads),
                          "full": lambda: read(model, unpruned(model.config.num_hidden_layers), reads)}, rounds)
    agreed = float(kernels.vocab_stats(logits["pruned"], top_k=1, chosen=logits["full"].argmax()).chosen_logp.exp())
    return Race(times["full"] / times["pruned"], agreed)


def read(model, policy: KeepPolicy, reads: list[list[int]]) -> torch.Tensor:
    """Next-token logits [V] after reading a prompt in pieces."""
    runner = Pruner(model, policy, sum(map(len, reads)))
    *_, last = (runner.advance(part) for part in reads)
    return runner.logits(last.hidden)[0, -1].float()


def race(runners: dict[str, Callable[[], torch.Tensor]], rounds: int):
    """Milliseconds [rounds] of each runner until its token is known, interleaved, each going first in turn; and what
    each returned last."""
    times, found, order = {name: [] for name in runners}, {}, list(runners)
    for done in range(rounds):
        for name in order[done % len(order):] + order[: done % len(order)]:
            start = time.perf_counter()
            found[name] = runners[name]()
            int(found[name].argmax())
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: np.array(took) for name, took in times.items()}, found


def said(answer: str) -> str:
    """The first word of an answer, without the full stop."""
    return (answer.strip().split("\n")[0].split() or [""])[0].rstrip(".,")


def facts(notes: Notes, pruner: Pruner, timed: Race, right: bool | None) -> dict[str, Fact]:
    found = {} if right is None else {"answer": Fact("Answer correct", float(right), YES, "higher")}
    return found | {
        "work": Fact("Work before the first token", work_share(notes), "% of the full model", "lower"),
        "memory": Fact("Keys, values and waiting states",
                       100 * (pruner.store.bytes + pruner.aux_bytes) / full_bytes(pruner), "% of a full cache",
                       "lower"),
        "agreement": Fact("Probability of the full model's first token", 100 * timed.agreement, "%", "higher"),
        **timed.facts,
    }


def work_share(notes: Notes) -> float:
    """(token, layer) pairs computed before the first written token, in % of all of the prompt's."""
    rows = sum(len(sheet.rows) for now in notes.before_first for sheet in now.sheets)
    return 100 * rows / (len(notes.used) * notes.prompt)


def full_bytes(pruner: Pruner) -> int:
    """Bytes of keys and values if every token had passed every layer."""
    batch, heads, _, width = pruner.store.keys[0].shape
    return len(pruner.store.keys) * pruner.count * 2 * batch * heads * width * pruner.store.keys[0].element_size()


def charts(notes: Notes, pruner: Pruner) -> tuple[Chart, ...]:
    layers, count = len(notes.used), pruner.count
    since = np.searchsorted(notes.counts, np.arange(count), side="right")  # the pass that read each token
    present = len(notes.passes) - since
    done = np.array(notes.work, np.float32)
    at_first = np.sum([[len(sheet.rows) for sheet in now.sheets] for now in notes.before_first], 0) / notes.prompt
    by_end = pruner.store.computed[:, : notes.prompt].float().mean(1).numpy()
    return (
        line("Work so far", "(token, layer) pairs", {"this run": done[:, 0], "full model": done[:, 1]},
             caption="Each pair is computed at most once, so the line cannot cross the full model's."),
        table("Who was used where", "token", "layer", 100 * notes.used[:, :count] / present, range(1, count + 1),
              numbered("layer", layers), unit="share of the passes (%)",
              caption="In which share of the passes since it was read a token was alive at a layer."),
        bars("Prompt tokens computed", "layer", "% of tokens",
             {"before the first token": 100 * at_first, "by the end": 100 * by_end}, range(1, layers + 1),
             caption="The difference came back for a later token."))


def sentence(notes: Notes, pruner: Pruner, answer: str, right: bool | None) -> str:
    reads = notes.before_first
    macs = sum(sheet.macs for now in reads for sheet in now.sheets)
    last = len(reads[-1].sheets[-1].alive)
    who = f"Only {last} of {notes.prompt} tokens reach" if last < notes.prompt else "No token is left out: all reach"
    text = (f"{who} the last layer before the first token: {work_share(notes):.0f} % of the work, "
            f"{100 * macs / full_macs(pruner.store, notes.prompt):.0f} % of the multiply-adds; {notes.revived} (token, "
            "layer) pairs came back later.")
    if right is None:
        return text
    return text + f" The answer '{said(answer)[:20]}' is {'right' if right else 'wrong'}."
