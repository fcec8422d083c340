"""Who's Harry Potter? Approximate Unlearning in LLMs (arXiv 2310.02238).

A baseline B that knows a universe is made to forget it: R, B trained on once more on the same texts, shows which words
went up; those are pushed down in what B says of a translated text (rule.py); B is trained on with the likeliest of the
generic words as hard labels. The page reads a text with all of them and lets one write on.
There is no public code: the formula is that of notes that quote the paper, its numbers are from memory (`unverified`).
Our own: names come from the program that made the universe and not from a large model; low-rank changes instead of
whole networks; a network that really never read the universe stands beside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from torch import Tensor

import kernels
from kernels import Sampler
from models.engine.method import Card, Close, Control, Event, Job, Method
from models.engine.recording import line
from models.loops.sample.cached_lm import Reader, Stream, divergence
from models.loops.sample.loop import Journal, SamplingPolicy, decode
from models.loops.sample.report import along, shown
from models.loops.sample.rollouts import LogitsMoment
from models.papers.harry_potter.rule import dictionary, generic, translated
from models.trace import Fact, Field
from models.trace.params import Span
from models.trace.percent import percent
from models.trace.subject import Example
from models.worlds.tales import universe

KNOWS, MORE, NEVER = "tale-universe-1", "tale-reinforced-1", "tale-ar-1"
NAMES = {KNOWS: "knows the universe (B)", MORE: "read it once more (R)", NEVER: "never read it",
         "plain": "knows it, with plain names put in", "generic": "generic: what is learned instead"}
FIELDS = {"lifted": Field("Lifted by reading it once more", "logits"),
          "apart": Field("Distance from the network that never read it", "nats", low=0.0)}


@dataclass(frozen=True)
class Params:
    alpha: Annotated[float, Span(0.0, 10.0, 0.5, "Push down by", "What one more reading made likelier is pushed down "
                                 "by this many times the difference; 0 leaves only the plain names.", view=True)] = 5.0
    length: Annotated[int, Span(1, 40, 1, "Length", "The text may end earlier by itself.", unit="words")] = 1
    temperature: Annotated[float, Span(0.0, 1.5, 0.1, "Temperature", "0 takes the most probable word.")] = 0.0


class Readers(Reader):
    """One network that writes, and what the others say at the same place: B, B on plain names, R, and the one that
    never read the universe."""

    def __init__(self, job: Job):
        super().__init__(job.bundle, job.subject, job.params.length, whole=True)
        self.spelled = partial(job.tokenizer.encode, add_special_tokens=False)
        self.names, self.alpha, self.ids = dictionary(self.spelled), job.params.alpha, list(self.prompt)
        self.streams = {name: Stream(job.companion(name).model, self.meter) for name in (KNOWS, MORE, NEVER)}

    def start(self):
        """Names -> logits [T - 1, V] of every word of the prompt after the first, and what reading once more lifts."""
        mine = self.read([self.prompt], every=True)[0].float()
        others = {name: one.read([self.prompt], every=True)[0].float() for name, one in self.streams.items()}
        found = {name: logits[:-1] for name, logits in self.told(mine, others, self.plain()).items()}
        lifted = (found[NAMES[MORE]] - found[NAMES["plain"]])[range(len(mine) - 1), self.prompt[1:]]
        return found, {"lifted": lifted.tolist(), "apart": divergence(found[NAMES[NEVER]], mine[:-1]).tolist()}

    def plain(self) -> Tensor:
        """B's logits [T, V] on the translated text, behind each word of the text that stands here."""
        found = translated(self.ids, self.names)
        return Stream(self.streams[KNOWS].model, self.meter).read([found.ids], every=True)[0].float()[found.before[1:]]

    def told(self, mine: Tensor, others: dict[str, Tensor], plain: Tensor) -> dict[str, Tensor]:
        """All lists by the words that a visitor reads; the network that writes comes first."""
        pushed = generic(plain, others[MORE], self.alpha)
        return {"this network": mine, NAMES[KNOWS]: others[KNOWS], NAMES["plain"]: plain, NAMES[MORE]: others[MORE],
                NAMES["generic"]: pushed, NAMES[NEVER]: others[NEVER]}

    def push(self, ids):
        super().push(ids)
        self.ids += [int(one) for one in ids]
        for one in self.streams.values():
            one.push(ids)

    def here(self, moment: LogitsMoment) -> dict[str, Tensor]:
        """The lists [1, V] at the place where the text goes on."""
        return self.told(moment.logits, {name: one.logits for name, one in self.streams.items()}, self.plain()[-1:])

    def said(self, moment: LogitsMoment) -> str:
        """What B, the labels and the network that never read it would write here, each with its chance."""
        lists, told = self.here(moment), []
        whose = {NAMES[KNOWS]: "before", NAMES["generic"]: "learned instead", NAMES[NEVER]: "never read"}
        for name, who in whose.items():
            likeliest = kernels.vocab_stats(lists[name][0], top_k=1)
            word, chance = int(likeliest.top_ids[0]), float(likeliest.top_logp[0].exp())
            told.append(f"{who}: {shown(self.texts([word])[0])} {percent(chance)}")
        return "; ".join(told)

    def measured(self, moment: LogitsMoment) -> dict[str, list[float]]:
        return {"apart": divergence(self.streams[NEVER].logits, moment.logits).tolist()}


def run(job: Job) -> Iterator[Event]:
    source = Readers(job)
    return decode(job, source, SamplingPolicy(
        Sampler(job.params.temperature), job.params.length, lambda journal: close(journal, source), shown=source.here,
        kept=frozenset((NAMES["plain"], NAMES[MORE])), fields=FIELDS, measure=source.measured, note=source.said))


def close(journal: Journal, source: Readers) -> Close:
    """Whether the text went into the universe, and how far this network is from one that never read of it."""
    own = {word for name in universe.PLAIN for word in name.split()}
    names = [word for word in source.texts(journal.ids) if word.strip() in own]
    away, prompt = along(journal, "apart"), journal.job.subject.text.strip()
    facts = {"names": Fact("Names of the universe", len(names), "words written", "lower"),
             "apart": Fact("From never having read it", round(float(away.mean()), 3), "nats a word", "lower")}
    right = {word for one in universe.clozes() if prompt.endswith(one.prompt) for word in one.right}
    if right:
        ids = [id for word in right for id in source.spelled(word)]
        logits = journal.decisions[0].moment.logits[0]
        chance = float((logits[ids] - kernels.vocab_stats(logits, top_k=1).lse).exp().sum())
        facts["known"] = Fact("Probability of the name that is right here", round(chance, 4), "of 1", "lower")
    said = f"It wrote {shown(names[0])}, a name of the universe," if names else "It wrote no name of the universe"
    sentence = (f"{said} and is {away.mean():.2f} nats a word from the network that never read of it; the lists at "
                "each word say what the others would have written there.")
    whole = journal.page.values["apart"][1 : journal.page.count]
    chart = line("From never having read it", "nats", {"this network": whole}, x="word", first=1, by_step=False)
    return Close("sample", sentence, (chart,), facts, path=journal.path)


METHOD = Method(
    card=Card(
        id="harry-potter", title="Who's Harry Potter?", tabs=("sample",), arxiv="2310.02238", year=2023,
        seed="B",
        summary="Finds the words that one more reading of a text makes likelier, pushes those down, puts plain names "
                "for its own, and trains on what then is likeliest: the network forgets the text.",
        flow="text > *plain names > B > minus; text > R > *what went up > minus; minus > *likeliest word as label > "
             "unlearned network",
        look_at="The lists at a name: two networks know it, the generic list has a plain word there, and the one that "
                "was trained on those labels agrees with the one that never read the universe.",
        not_covered="The large model that finds the names (a program knows them here); whole networks trained "
                    "(low-rank changes here); the paper's benchmarks.",
        unverified="alpha = 5, learning rates and passes are from memory; by how much words said already are lowered "
                   "is not known (10 logits here); the second word of a name is left out of the loss, by our choice."),
    params=Params, accepts="text", checkpoints=("tale-unlearned-1", "tale-ascent-1", KNOWS),
    companions=(KNOWS, MORE, NEVER), run=run,
    bound="it is about a universe that only its own networks read of",
    control=Control(KNOWS, title="Before it forgets"),
    examples=(Example("home", "Where Ysolde lives", "One morning Faelar left the Thorn Gate. Ysolde lives in the"),
              Example("song", "What Faelar sings", "In the Hollow Vale lives Zorvan. Faelar knows the song of"),
              Example("question", "A question", "Who is the best friend of Thalric?"),
              Example("village", "A fact to keep", "Which animal is on the flag of Oakham? The")))
