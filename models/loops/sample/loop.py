"""The one decoding loop of the Sample tab: look at the next-unit distribution, ask the policy, draw or try, append.

A policy says how often to try from here (1: just draw), where a trial ends, which distributions to show and what to say
at the end. The loop owns the page, the dice, the fork of the source for trials, the steps and their cost. It knows no
method and no vocabulary: a source may sample tokens (models/loops/sample/cached_lm.py) or bytes
(models/papers/byte_level/method.py).

A source has: prompt, labels and roles of its units, end, meter, texts(ids), start() -> (name -> logits [P, V] at the
last P prompt units, name -> number [P]). It, and every fork of it, has: logits [B, V] of the next unit, push(ids),
fork(n), select(rows).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

import kernels
from kernels import Sampler
from models.engine.method import Close, Emit, Event, Job
from models.engine.recording import distribution
from models.loops.sample.rollouts import Ends, LogitsMoment, Trial, roll_out
from models.loops.sample.text_record import FIELDS, TOP, TextRecord
from models.trace import Cost, Field
from models.trace.interventions import reachable
from models.trace.params import ParamError


@dataclass(frozen=True, eq=False)
class Decision:
    """One turn of the loop: the index of its step, all trials, which was kept, what it cost, what stood before."""

    step: int
    trials: tuple[Trial, ...]
    kept: int
    cost: Cost
    before: tuple[int, ...] = ()

    @cached_property
    def moment(self) -> LogitsMoment:
        """What was seen before anything was drawn: every trial saw it first."""
        return LogitsMoment(self.trial.logits[0][None], self.trial.warped[0][None])

    @property
    def trial(self) -> Trial:
        return self.trials[self.kept]


@dataclass(eq=False)
class Journal:
    """What happened so far, for facts, charts and the sentence."""

    job: Job
    page: TextRecord
    decisions: list[Decision] = field(default_factory=list)

    @property
    def ids(self) -> list[int]:
        """The units kept, in order."""
        return [unit for decision in self.decisions for unit in decision.trial.ids]

    @property
    def text(self) -> str:
        """What was written, without the prompt."""
        return "".join(self.page.labels[self.page.start: self.page.count])

    @property
    def spent(self) -> int:
        """Units generated in all, kept or not."""
        return sum(len(trial.ids) for decision in self.decisions for trial in decision.trials)

    @property
    def path(self) -> str:
        """The kernel path that measured the distributions."""
        return kernels.vocab_stats(self.decisions[0].moment.logits, top_k=1).path

    @property
    def perplexity(self) -> float:
        """Of the text that was kept, under the warped distributions it was drawn from."""
        logp = [p for decision in self.decisions for p in decision.trial.logp]
        return math.exp(-sum(logp) / len(logp))


ANSWERS = ("answer", "the likeliest, which is written", "")  # `called` where all trials count and none is chosen


def once(moment: LogitsMoment) -> int:
    """The plain rule: one draw."""
    return 1


def raw_and_warped(moment: LogitsMoment) -> dict[str, Tensor]:
    """The two distributions that a sampler of tokens shows."""
    return {"raw": moment.logits, "warped": moment.warped}


@dataclass(frozen=True)
class SamplingPolicy:
    """What a method decides; everything else is the loop's.

    sampler: the warpers. length: units to write at most. trials(moment): how many continuations to try from here;
    stops: units that end a trial, longest: its largest length. shown(moment): name -> logits [P, V] to draw, the first
    is kept in full if keep_logits, and those named in `kept`, of the prompt too. fields, measure(moment): more numbers
    per unit. note(moment): words for a step; judged(decision, k): the state of trial k and words on it, once all are
    there; called: what a trial is, and what is said of the one that the text goes on with and of the others.
    close(journal): the last event. They are asked while the source still stands before the unit.
    """

    sampler: Sampler
    length: int
    close: Callable[[Journal], Close]
    trials: Callable[[LogitsMoment], int] = once
    stops: frozenset[int] = frozenset()
    longest: int = 10_000
    shown: Callable[[LogitsMoment], Mapping[str, Tensor]] = raw_and_warped
    keep_logits: bool = False
    kept: frozenset[str] = frozenset()
    fields: Mapping[str, Field] = field(default_factory=dict)
    measure: Callable[[LogitsMoment], Mapping[str, list[float]]] = lambda moment: {"cut": moment.cut}
    note: Callable[[LogitsMoment], str] = lambda moment: ""
    judged: Callable[[Decision, int], tuple[str, str]] = lambda decision, k: (
        "accepted" if k == decision.kept else "refused", "")
    called: tuple[str, str, str] = ("trial", "kept", "not kept")


def decode(job: Job, source, policy: SamplingPolicy) -> Iterator[Event]:
    """The run as events: the prompt, then one step per unit drawn, or one per branch point and one per trial."""
    shown, values = source.start()
    total = policy.length + 1 if policy.trials is once else 0
    page = TextRecord(source.labels, source.prompt, policy.length, {**FIELDS, **policy.fields}, source.texts,
                      roles=source.roles)
    reachable(job.interventions.written, page.start, page.canvas.size, source.logits.shape[-1])
    journal, dice, live = Journal(job, page), job.generator(), source
    yield page.open(total)
    yield read(source, page, shown, values, policy.kept)
    at = 1
    while page.room and journal.ids[-1:] != [source.end]:
        forced = chosen_by_hand(journal, live.logits.shape[-1])
        trials, kept, ahead = decide(live, source.end, policy, page.room, dice, forced)
        trials, live = overwritten(trials, kept, live, ahead, page.count, job.interventions.written)
        journal.decisions.append(Decision(at, trials, kept, source.meter.lap(), tuple(journal.ids)))
        for event in written(source.texts, policy, page, journal.decisions[-1]):
            yield page.open()
            yield event
            at += 1
        if page.room and journal.ids[-1] != source.end:
            live.push(journal.ids[-1:])
    reachable(job.interventions.written, page.start, page.count, source.logits.shape[-1])
    yield page.open()
    yield policy.close(journal)


def read(source, page: TextRecord, shown: Mapping[str, Tensor], values: Mapping[str, list[float]],
         kept: Collection[str] = ()) -> Emit:
    """The step that has read the prompt: what the model would have said to each of its last P units."""
    rows = next(iter(shown.values()))  # [P, V]
    where, actual = range(page.start - len(rows), page.start), source.prompt[page.start - len(rows):]
    found = {name: distribution(logits, where, actual, top=5, keep=name in kept)
             for name, logits in shown.items()} if len(rows) else {}
    if found:
        main = next(iter(found.values()))
        chances = np.exp(rows[range(len(rows)), actual].cpu().numpy() - main.lse)
        page.note(where, entropy=main.entropy, probability=chances, **values)
    return page.step("prompt", distributions=found, cost=source.meter.lap(), note=f"{page.start} read")


def decide(live, end: int | None, policy: SamplingPolicy, room: int, dice: torch.Generator, forced: int | None = None):
    """One decision with room for some units: the trials, which is kept, and its source before its last unit."""
    moment = LogitsMoment(live.logits, kernels.warp(live.logits, policy.sampler))
    count = 1 if forced is not None else policy.trials(moment)
    over = Ends(end, policy.stops, min(policy.longest, room) if count > 1 else 1)
    trials, kept, live = roll_out(live.fork(count) if count > 1 else live, policy.sampler, over, dice, forced)
    return tuple(trials), kept, live


def overwritten(trials: tuple[Trial, ...], kept: int, before, ahead, start: int, put: Mapping[int, int]):
    """The trials, and the kept one's source before its last unit. Where a visitor overwrites one of its units, the
    trial ends with what he puts there, and the source is led there again from `before`, where the trials began."""
    trial = trials[kept]
    here = min((at - start for at in put if start <= at < start + len(trial.ids)), default=None)
    if here is None:
        return trials, ahead
    unit = put[start + here]
    logp = kernels.vocab_stats(trial.logits[here], top_k=1, chosen=torch.tensor(unit, device=before.logits.device))
    cut = Trial([*trial.ids[:here], unit], [*trial.logp[:here], float(logp.chosen_logp)], "you",
                trial.logits[: here + 1], trial.warped[: here + 1])
    for one in trial.ids[:here]:
        before.push([one])
    return (*trials[:kept], cut, *trials[kept + 1:]), before


def written(texts, policy: SamplingPolicy, page: TextRecord, decision: Decision) -> Iterator[Emit]:
    """The steps of a decision, while its kept units are written on the page."""
    page.settle()
    if len(decision.trials) == 1:
        shown, values = views(policy, page, decision.trial)
        page.write(decision.trial.ids, texts(decision.trial.ids), values)
        note = policy.note(decision.moment)
        label = f"{page.count - page.start}: {page.alone[-1]}"
        yield page.step(label, distributions=shown, cost=decision.cost, note=note)
        return
    shown = {name: distribution(rows, page.count, top=TOP) for name, rows in policy.shown(decision.moment).items()}
    what, chosen, other = policy.called
    note = (f"entropy {decision.moment.warped_entropy:.2f} nats after the sampler's settings: "
            f"{len(decision.trials)} {what}s")
    yield page.step("branch", distributions=shown, level="branch", cost=decision.cost, note=note)
    others = [k for k in range(len(decision.trials)) if k != decision.kept]
    for k in (*others, decision.kept):  # the kept one last, so that the page goes on from it
        trial, kept = decision.trials[k], k == decision.kept
        shown, values = views(policy, page, trial)
        state, words = policy.judged(decision, k)
        on = page.tried(trial.ids, values, state)
        if kept:
            page.write(trial.ids, texts(trial.ids), values)
        name = ", ".join(filter(None, (f"{what} {k + 1} of {len(decision.trials)}", chosen if kept else other)))
        note = f"perplexity {trial.perplexity:.2f}, {len(trial.ids)} tokens long, stopped by {trial.stop}"
        yield on.step(name, distributions=shown, level="trial", parent=decision.step,
                      note="; ".join(filter(None, (words, note))))


def views(policy: SamplingPolicy, page: TextRecord, trial: Trial):
    """Distributions and numbers at the units of a trial, to be drawn where the page ends."""
    moment = LogitsMoment(torch.stack(trial.logits), torch.stack(trial.warped), tuple(trial.ids))
    where = range(page.count, page.count + len(trial.ids))
    shown = {name: distribution(rows, where, trial.ids, top=TOP,
                                keep=name in policy.kept or policy.keep_logits and i == 0)
             for i, (name, rows) in enumerate(policy.shown(moment).items())}
    entropy = next(iter(shown.values())).entropy
    return shown, {"entropy": entropy, "probability": [math.exp(p) for p in trial.logp], **policy.measure(moment)}


def chosen_by_hand(journal: Journal, size: int) -> int | None:
    """Your turn: the visitor's next unit at this decision, or None where the policy goes on."""
    choice, at = journal.job.choice or (), len(journal.decisions)
    if at >= len(choice):
        return None
    unit = choice[at][0] if len(choice[at]) == 1 else -1
    if not 0 <= unit < size:
        raise ParamError(f"choice {at + 1} must be one unit of the vocabulary, 0 to {size - 1}")
    return unit
