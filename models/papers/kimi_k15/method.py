"""Kimi k1.5 (arXiv 2501.12599): thoughts rewarded by their answer alone, and a policy carried no further than it may.

A network draws k answers to one puzzle at temperature 1. A checker rewards those that are right; within the group an
answer is worth its reward and a bonus for being short, minus the mean. Then the rule of rule.py takes a few steps on a
copy of the network, here and now, and what that changed is shown: log pi / pi_i of every answer, and k new answers.
Our own: the puzzle (models/worlds/targets.py), tau, the weight of the length bonus, and steps on this one puzzle. The
checkpoints were trained on many puzzles (recipe.py), by low-rank changes and in iterations as in the paper.
"""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch

from kernels import Sampler
from models.engine.method import Card, Close, Control, Event, Job, Method
from models.loops.sample.cached_lm import Reader, Stream, answer_logp, batched
from models.loops.sample.loop import ANSWERS, Journal, SamplingPolicy, decode
from models.loops.sample.rollouts import Ends, Trial, roll_out
from models.papers.kimi_k15.arms import ARMS, SFT, learned
from models.papers.kimi_k15.rule import length_bonus, reward, surrogate, worth
from models.trace import Chart, Fact, Field
from models.trace.params import Span
from models.trace.subject import Example, SubjectError
from models.worlds import targets
from models.worlds.world import END

ROOM = 48  # tokens of an answer
FIELDS = {"true": Field("The word is true: 1, a slip: 0", "", low=0.0, high=1.0)}


@dataclass(frozen=True)
class Params:
    samples: Annotated[int, Span(2, 16, 1, "Answers", "Drawn side by side at temperature 1: the group.")] = 8
    weight: Annotated[float, Span(0.0, 1.0, 0.1, "Weight of the length", "How much a short right answer is worth more, "
                                  "and a long one less, within the group.")] = 0.0
    steps: Annotated[int, Span(1, 8, 1, "Steps", "On a copy of the network, on these answers.")] = 4
    tau: Annotated[float, Span(0.0, 2.0, 0.1, "tau", "How strongly log pi / pi_i is pulled back to 0; at 0 it is "
                               "REINFORCE with the group's mean.", fold=True)] = 0.5
    rate: Annotated[float, Span(1e-5, 1e-3, 1e-5, "Learning rate", "Of AdamW, which begins anew.", fold=True)] = 3e-5


class PuzzleReader(Reader):
    """A network that reads a puzzle, and what of a thought stands behind it."""

    def __init__(self, job: Job):
        try:
            self.puzzle, self.typed = targets.read(job.subject.text)
        except ValueError as error:
            raise SubjectError(str(error)) from None
        super().__init__(job.bundle, job.subject, ROOM, whole=True)
        self.room = ROOM - len(self.typed)
        if self.room < 1:
            raise SubjectError(f"A thought has {ROOM} words at most here; please type fewer.")

    def words(self, ids: Sequence[int]) -> list[str]:
        return [*self.typed, *(word.strip() for one, word in zip(ids, self.texts(ids), strict=True) if one != END)]

    def true(self, ids: Sequence[int]) -> list[float]:
        """Of each word written whether it is true; the end is."""
        found = [float(true) for _, true in targets.steps(self.puzzle, self.words(ids))][len(self.typed) :]
        return [*found, *[1.0] * (len(ids) - len(found))]

    def right(self, ids: Sequence[int]) -> float:
        return reward(self.tokenizer, " ".join([self.puzzle.prompt, *self.typed]), ids)


@dataclass(frozen=True)
class AnswerGroup:
    """k answers to a puzzle: ids, rewards, weighed bonuses, advantages [k]."""

    ids: list[list[int]]
    right: np.ndarray
    bonus: np.ndarray
    advantage: np.ndarray


def grouped(source: PuzzleReader, trials: Sequence[Trial], weight: float) -> AnswerGroup:
    answers = [trial.ids for trial in trials]
    right, lengths = (torch.tensor([of]) for of in ([source.right(ids) for ids in answers], [*map(len, answers)]))
    gains = worth(right, lengths, weight)
    return AnswerGroup(answers, right[0].numpy(), (weight * length_bonus(right, lengths) + 0.0)[0].numpy(),
                 (gains - gains.mean())[0].numpy())


def run(job: Job) -> Iterator[Event]:
    source = PuzzleReader(job)
    return decode(job, source, SamplingPolicy(
        Sampler(), source.room, lambda journal: close(journal, source), trials=lambda moment: job.params.samples,
        fields=FIELDS, shown=lambda moment: {"next word": moment.logits},
        measure=lambda moment: {"true": source.true(moment.ids)}, called=ANSWERS,
        judged=lambda decision, k: rewarded(grouped(source, decision.trials, job.params.weight), k)))


def rewarded(group: AnswerGroup, k: int) -> tuple[str, str]:
    """The state of answer k, and what it is worth in words. A wrong one is not struck out: its signs must be read."""
    state, said = ("accepted", "right") if group.right[k] else ("new", "wrong")
    bonus = f", length bonus {group.bonus[k]:+.2f}" if group.bonus.any() else ""
    return state, f"{said}{bonus}, advantage {group.advantage[k]:+.2f}"


def stepped(job: Job, source: PuzzleReader, group: AnswerGroup):
    """(a copy of the network after the rule's steps on a group, log pi / pi_i [steps, k] of its answers after each)."""
    p, model, moved = job.params, copy.deepcopy(job.model).requires_grad_(True), []
    told = batched([[*source.prompt, *ids] for ids in group.ids], len(source.prompt))
    ids, answer, advantage = (of.to(model.device) for of in (*told, torch.tensor(group.advantage)))
    optimiser = torch.optim.AdamW(model.parameters(), p.rate, weight_decay=0.0)
    with torch.enable_grad():
        before = answer_logp(model, ids, answer).detach()
        for _ in range(p.steps):
            surrogate(answer_logp(model, ids, answer), before, advantage, p.tau).backward()
            optimiser.step()
            optimiser.zero_grad()
            moved.append((answer_logp(model, ids, answer) - before).detach().cpu().numpy())
    return model, np.stack(moved)


def again(job: Job, model, source: PuzzleReader) -> list[Trial]:
    """As many new answers of a changed network, with the dice of the first ones: what differs is the network."""
    stream = Stream(model)
    stream.read([source.prompt])
    over = Ends(END, frozenset(), source.room)
    return roll_out(stream.fork(job.params.samples), Sampler(), over, job.generator())[0]


def close(journal: Journal, source: PuzzleReader) -> Close:
    job = journal.job
    group = grouped(source, journal.decisions[0].trials, job.params.weight)
    changed, moved = stepped(job, source, group)
    after = grouped(source, again(job, changed, source), job.params.weight)
    shares = [100 * float(one.right.mean()) for one in (group, after)]
    tokens = [float(np.mean([len(ids) for ids in one.ids])) for one in (group, after)]
    facts = {"right": Fact("Right answers", shares[0], "%", "higher"),
             "tokens": Fact("Length of an answer", round(tokens[0], 1), "tokens", "lower"),
             "after": Fact("Right answers after the steps", shares[1], "%", "higher")}
    k = len(group.ids)
    said = (f"{group.right.sum():.0f} of {k} answers {'is' if group.right.sum() == 1 else 'are'} right, "
            f"{tokens[0]:.0f} tokens each; after "
            f"{counted(len(moved))} on them, on a copy of the network, "
            f"{after.right.sum():.0f} of {k} new ones, {tokens[1]:.0f} each.")
    if not source.puzzle.solutions:
        said += " No signs reach this target."
    elif not np.ptp(group.advantage):
        said += " All were worth the same, so there was nothing to learn: the rule left the network as it was."
    lines = learned() if job.bundle.name != SFT else ()  # the network before has none
    return Close("sample", said, (valued(group), carried(group, moved, job.params.tau), *lines), facts,
                 path=journal.path)


def valued(group: AnswerGroup) -> Chart:
    bonus = {"length bonus": group.bonus} if group.bonus.any() else {}
    return Chart("bar", "What each answer was worth", "answer", "reward", {
        "reward": group.right, **bonus, "advantage": group.advantage},
                 ticks=numbers(group), caption="Advantage: reward and weighed bonus, minus the mean of the group.")


def carried(group: AnswerGroup, moved: np.ndarray, tau: float) -> Chart:
    """How much likelier the steps made each answer, and where the rule wants it."""
    series = {f"after {counted(n)}": moved[n - 1] for n in (1, len(moved))}
    if tau:
        series["wanted, advantage / tau"] = group.advantage / tau
    return Chart("bar", "How the steps moved each answer", "answer", "change of log-probability (nats)", series,
                 ticks=numbers(group), caption="Above 0: likelier than before. Of whole answers: sums over tokens.")


def counted(steps: int) -> str:
    return f"{steps} step{'s' * (steps > 1)}"


def numbers(group: AnswerGroup) -> tuple[str, ...]:
    return tuple(str(k + 1) for k in range(len(group.ids)))


METHOD = Method(
    bound="its puzzles are written in the words of their world",
    card=Card(
        id="kimi-k15", title="Kimi k1.5", tabs=("sample",), arxiv="2501.12599", year=2025, seed="B",
        summary="Draws several thoughts to one problem, rewards those whose answer is right, and moves the policy by "
                "mirror descent, without a value network; a bonus within the group rewards short thoughts.",
        flow="puzzle > model > k thoughts > checker > *reward and length bonus > *minus the group's mean > *squared "
             "log-ratio loss; *squared log-ratio loss ~> model",
        look_at="The puzzle: which signs between the numbers give the last one? “+ 15” says 12 + 3 = 15, “back” begins "
                "anew. Step through the answers: each says what it was worth in its group. The network before guesses "
                "without a thought, mostly wrongly; learning took right answers from 45 to 69 of 100, and the length "
                "bonus 16 % of the tokens and 5 points.",
        not_covered="Pictures, code and web problems, chain-of-thought reward models, the curriculum and prioritised "
                    "sampling; long2short by rejection sampling, DPO and a second phase with a smaller limit; partial "
                    "rollouts are in the training alone, and nothing looks for repetitions.",
        unverified="tau, k and the learning rate are not in the report: 0.5, 8 and 8e-4 (low-rank changes) are ours; "
                   "so is the length bonus, weighed 0.5 from a third of the training on. log Z is the mean reward, as "
                   "in the report. An answer carried on from an earlier iteration counts whole in the loss. Thoughts "
                   "alone left little to gain (62 right, then 67 of 100), so before RL 0.4 of the documents became "
                   "answers at once. The rate is the third tried, for REINFORCE the first. Steps on one puzzle alone "
                   "make new answers no better on average (24 puzzles).",
        states={"sample": {"accepted": "of a right answer"}}),
    params=Params, accepts="text", checkpoints=tuple(ARMS), run=run,
    control=Control(SFT, title="Before RL"),
    fixed={"sample": "Answers are drawn side by side: type words behind the puzzle to begin the thought yourself."},
    examples=(Example("zero", "Reach 0", "12 3 8 9 2 to 0 :"),
              Example("six", "Reach 6, in two ways", "8 11 2 7 4 to 6 :"),
              Example("high", "Reach 31, a hard one", "11 9 2 8 5 to 31 :"),
              Example("begun", "A thought that began badly", "7 5 3 9 2 to 4 : + 12 + 15 + 24")))
