"""Inverse reinforcement learning for language (arXiv 2409.01369): a language model's logits are soft Q-values.

A network is fine-tuned on answers with the usual loss and a penalty on the reward that its own logits imply (rule.py).
Here it writes several answers to one task, and of every word the page says what it was worth: Q(s, a) - gamma V(s').
There is no public code; the offline objective is derived from the abstract and from IQLearn (arXiv 2106.12142).
Our own: the task (three words, a sentence that must use them, a parser as judge), lambda, gamma, and that lambda grows
over the first tenth of the training.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

import kernels
from kernels import Sampler
from models.engine.method import Card, Close, Control, Event, Job, Method
from models.engine.recording import line
from models.loops.sample.cached_lm import Reader
from models.loops.sample.loop import ANSWERS, Decision, Journal, SamplingPolicy, decode
from models.papers.irl.frontier import ARMS, MLE, frontier
from models.papers.irl.rule import value_after
from models.papers.irl.sentences import LONGEST, right, self_bleu
from models.trace import Chart, Fact, Field
from models.trace.params import Span
from models.trace.subject import Example, SubjectError
from models.worlds import tales
from models.worlds.world import END

FIELDS = {"reward": Field("Reward that the logits imply", "nats", diverging=True),
          "value": Field("Value of the text before the word", "nats"),
          "surprise": Field("Surprise, -log pi, at temperature 1", "nats", low=0.0)}


@dataclass(frozen=True)
class Params:
    temperature: Annotated[float, Span(0.2, 1.5, 0.1, "Temperature", "Divides the logits before a word is drawn; the "
                                       "rewards are those of temperature 1.")] = 0.4
    samples: Annotated[int, Span(2, 16, 1, "Answers", "Drawn side by side; the one that the network finds likeliest "
                                 "is written.")] = 16
    gamma: Annotated[float, Span(0.9, 1.0, 0.01, "Discount", "gamma in Q - gamma V'; the networks were trained with 1.",
                                 fold=True)] = 1.0


class WordsTask(Reader):
    """A network that reads a task, "A tale with ring, fox and river.", and what of an answer stands behind it."""

    def __init__(self, job: Job):
        task, dot, self.typed = job.subject.text.strip().partition(".")
        if not dot or tales.grammar(task + dot) != "keywords":
            raise SubjectError('This needs a task such as "A tale with ring, fox and river." and, if you like, the '
                               "beginning of an answer behind it.")
        super().__init__(job.bundle, job.subject, LONGEST, whole=True)
        self.task, self.gamma = task + dot, job.params.gamma

    def start(self):
        """Logits of every word of the prompt after the first, and what those of the answer are worth."""
        logits = self.read([self.prompt], every=True)[0].float()  # [T, V]
        here = kernels.vocab_stats(logits[-1:], top_k=1).lse
        found = implied(logits[:-1], self.prompt[1:], self.gamma, float(here))
        asked = self.texts(self.prompt).index(".")  # the task is given: nobody chose its words
        return {"next word": logits[:-1]}, {name: [np.nan] * asked + row[asked:] for name, row in found.items()}

    def answer(self, ids: Sequence[int]) -> str:
        """What stands behind the task, typed and written."""
        return f"{self.typed} {self.tokenizer.decode([one for one in ids if one != END])}"

    def right(self, ids: Sequence[int]) -> bool:
        """Whether the parser finds it right."""
        return right(self.task, self.answer(ids))


def implied(logits: Tensor, ids: Sequence[int], gamma: float, last: float = np.nan) -> dict[str, list[float]]:
    """FIELDS of words that were written, from the raw logits [T, V] that each was drawn from. last: the value of the
    text behind the last one, where that is known and not the end."""
    chosen = torch.as_tensor(ids, device=logits.device)
    stats = kernels.vocab_stats(logits, top_k=1, chosen=chosen)
    q = stats.chosen_logp + stats.lse
    reward = q - gamma * value_after(stats.lse, chosen == END, last)
    return {"reward": reward.tolist(), "value": stats.lse.tolist(), "surprise": (-stats.chosen_logp).tolist()}


def run(job: Job) -> Iterator[Event]:
    source = WordsTask(job)
    return decode(job, source, SamplingPolicy(
        Sampler(job.params.temperature), LONGEST, lambda journal: close(journal, source),
        trials=lambda moment: job.params.samples, fields=FIELDS, shown=lambda moment: {"next word": moment.logits},
        measure=lambda moment: implied(moment.logits, moment.ids, source.gamma), called=ANSWERS,
        judged=lambda decision, k: ("accepted", "right") if source.right(written(decision)[k]) else ("new", "wrong")))


def written(decision: Decision) -> list[list[int]]:
    """The answers, with the words that a visitor may have chosen before they were drawn."""
    return [[*decision.before, *trial.ids] for trial in decision.trials]


def close(journal: Journal, source: WordsTask) -> Close:
    """How many answers are right, how varied they are, and what a right one was worth."""
    branches = [decision for decision in journal.decisions if len(decision.trials) > 1]
    last = (branches or journal.decisions)[-1]  # a visitor may have chosen every word
    texts = written(last)
    good = [source.right(ids) for ids in texts]
    varied = 100 * (1 - self_bleu([[one for one in ids if one != END] for ids in texts])) if len(texts) > 1 else 0.0
    different = len({source.answer(ids) for ids, fine in zip(texts, good, strict=True) if fine})
    facts = {"different": Fact("Different right answers", different, f"of {len(texts)}", "higher"),
             "right": Fact("Right answers", 100 * float(np.mean(good)), "%", "higher"),
             "varied": Fact("Diversity, 1 - Self-BLEU", round(varied, 1), "points of 100", "higher")}
    each = [implied(torch.stack(trial.logits), trial.ids, source.gamma) for trial in last.trials]
    sentence = (f"{sum(good)} of {len(good)} answers are right by the parser, and {different} of those differ; "
                f"diversity is {varied:.0f} of 100. A low reward says that the text became worse than it had to.")
    along = {name: journal.page.values[name][1 : journal.page.count] for name in FIELDS}
    worth = line("What each word was worth", "nats", along, x="word", first=1, by_step=False, caption="Reward is Q - "
                 "gamma V': low where the text went wrong. Value is V, of the text before the word.")
    return Close("sample", sentence, (worth, compared(each, good), *frontier(facts)), facts, path=journal.path)


def compared(each: list[dict[str, list[float]]], good: list[bool]) -> Chart:
    """Every answer by its mean surprise and its mean reward."""
    points = {"right": [], "wrong": []}
    for found, fine in zip(each, good, strict=True):
        if np.isfinite(found["reward"]).any():  # what a last word was worth is not known where it is no end
            points["right" if fine else "wrong"].append([np.nanmean(found[name]) for name in ("surprise", "reward")])
    return Chart("scatter", "Answers by surprise and reward", "mean surprise (nats a word)",
                 "mean reward (nats a word)", {name: np.array(rows) for name, rows in points.items() if rows})


METHOD = Method(
    bound="its tasks are told in the words of the tales",
    card=Card(
        id="irl", title="Inverse RL for language", tabs=("sample",), arxiv="2409.01369", year=2024, seed="B",
        summary="Reads the logits of a language model as values of a decision process and adds to the usual loss a "
                "penalty on the reward that they imply: fine-tuning should keep more variety, and every word has a "
                "reward.",
        flow="text > model > logits; logits > *Q, and V = log-sum-exp > *reward Q - gamma V' > *penalty; logits > next "
             "word; logits > usual loss",
        look_at="How many answers differ, beside maximum likelihood. Most get a second sentence, which is why (20 "
                "words against 11); first sentences are no more varied. Last example: the reward dips at a wrong word.",
        not_covered="Adversarial imitation (GAIL) and the online variants with the model's own samples; T5 and PaLM 2 "
                    "on XSUM, WMT22, GSM8k and TLDR; several trainings.",
        unverified="The objective is derived, since no code is public. lambda (0.03 and 0.3), its warm-up, gamma = 1 "
                   "and the gradient through V' are ours.",
        states={"sample": {"accepted": "of a right answer"}}),
    params=Params, accepts="text", checkpoints=tuple(ARMS), run=run,
    control=Control(MLE, title="Maximum likelihood"),
    fixed={"sample": "Answers are drawn side by side: type words behind the task to see what they are worth."},
    examples=(Example("fox", "A ring, a fox, a river", "A tale with ring, fox and river."),
              Example("baker", "A baker, a shop, scissors", "A tale with shop, scissors and baker."),
              Example("begun", "An answer that has begun", "A tale with crown, teacher and lake. In the lake a"),
              Example("wrong", "A wrong word: the spoon was not asked for", "A tale with ring, fox and river. The fox "
                      "crossed the river and found a spoon.")))
