"""The records of navigation. Sample: one step a round, the text growing by what was found, right and wrong; the
ranking at its beginning and now. Attend: who looks at what is listed, at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from models.engine.method import Close, Event, Job
from models.engine.recording import bars, distribution, line
from models.loops.attend.groups import lens
from models.loops.attend.reading import text_layout
from models.loops.sample.cached_lm import Meter
from models.loops.sample.text_record import TOP, TextRecord
from models.papers.icn.keys import clusters, gap, main
from models.papers.icn.navigation import LONGEST, Navigator, Round
from models.trace import CODE, Chart, Cost, Fact, Field

FIELDS = {"rank": Field("Rank when it was taken", "", low=1.0), "cluster": Field("Cluster of its key", ""),
          "logit": Field("Logit now", "logits")}


class FoundSoFar:
    """What was found so far, and what it says."""

    def __init__(self, job: Job, walk: Navigator, gold: frozenset[str]):
        self.p = job.params
        self.walk, self.gold, self.rounds = walk, gold, list[Round]()
        self.cluster = clusters(walk.keys, self.p.clusters)
        names = [walk.tokenizer.decode([id]) for id in walk.opening[1:]]
        labels = [name if i == 0 or name in ":,." else f" {name}" for i, name in enumerate(names)]
        self.page = TextRecord(("<|endoftext|>", *labels), walk.opening, self.p.rounds * self.p.firsts * (LONGEST + 1),
                               FIELDS, lambda ids: [walk.tokenizer.decode([id]) for id in ids],
                               roles=("added", *("prompt" for _ in labels)))
        self.right: list[str] = []
        self.counts: list[int] = []  # distinct right ones after each decode

    def take(self, now: Round) -> Event:
        """A round as a step: its items stand behind the text, accepted where they are right and new."""
        page, first, ids, states = self.page, self.rounds[0] if self.rounds else now, [], []
        before = page.count
        for item in now.found:
            name = self.walk.reads(item.ids)
            good = name in self.gold and name not in self.right
            self.right += [name] * good
            self.counts.append(len(self.right))
            page.note([before + len(ids)], rank=[item.rank], cluster=[self.cluster[item.ids[0]]])
            ids += [*item.ids, self.walk.comma]
            states += ["accepted" if good else "refused"] * (len(item.ids) + 1)
        names = [self.walk.tokenizer.decode([id]) for id in ids]
        page.write(ids, [name if name == "," else f" {name}" for name in names], {})
        page.fill(range(before, page.count), ids, states)
        begun = [i for i in range(before, page.count) if not np.isnan(page.values["rank"][i])]
        firsts = page.ids[begun]
        found = {"ranking now": distribution(self.walk.seen(now), range(before, page.count), ids, top=TOP),
                 "ranking at first": distribution(first.logits.expand(len(begun), -1), begun, firsts, top=TOP)}
        page.note(begun, logit=now.logits[firsts.tolist()])
        self.rounds.append(now)
        good = states.count("accepted") > 0
        return page.step(f"round {len(self.rounds)}", distributions=found, cost=self.cost(now), note=(
            f"{len(now.found)} first words tried; {len(self.right)} right things so far, the query at "
            f"{self.turned()[-1]:.0f} degrees from the first" if good else "nothing new and right in this round"))

    def cost(self, now: Round) -> Cost:
        """One call for the query, and one per word of the completions: each reads its whole text, nothing is kept."""
        meter = Meter(self.walk.model)
        meter.add(1, 0, len(now.context), 1, 0, now.ms)
        for more in range(1, LONGEST):
            meter.add(len(now.found), 0, len(now.behind) + more, len(now.found), 0, 0.0)
        return meter.cost

    def turned(self) -> list[float]:
        """Degrees of each round's query from the first."""
        first = self.rounds[0].query
        same = [float(torch.cosine_similarity(first, one.query, dim=0).clamp(-1, 1)) for one in self.rounds]
        return np.degrees(np.arccos(same)).tolist()

    def old_keys(self) -> list[float]:
        """Mean logit, round by round, of the keys that the first round took."""
        ids = [item.ids[0] for item in self.rounds[0].found]
        return [float(one.logits[ids].mean()) for one in self.rounds]

    def near(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the first ranking behind its top: whether each is right, and whether it is near the top."""
        ranked = self.walk.ranked(self.rounds[0].logits, set(), self.p.candidates)
        items = self.walk.completed(self.walk.opening, ranked)
        right = np.array([self.walk.reads(item) in self.gold for item in items], float)
        return right[self.p.top :], main(ranked, self.cluster, self.p.top)

    def charts(self, near: tuple[np.ndarray, np.ndarray]) -> tuple[Chart, ...]:
        hits, of_main = near
        shares = [hits[of_main].mean() if of_main.any() else 0.0, hits[~of_main].mean() if (~of_main).any() else 0.0]
        return (line("Right things found", "things", {"so far": self.counts}, x="completed", first=1, by_step=False),
                line("How the query moves", "degrees from the first", {"query": self.turned()}, first=0),
                bars("Right in the middle of the first ranking", "cluster", "share", {"right": shares},
                     ("near the first ones", "elsewhere")))


def told(job: Job, walk: Navigator, gold: frozenset[str]) -> Iterator[Event]:
    book = FoundSoFar(job, walk, gold)
    yield book.page.open(job.params.rounds + 1)
    yield book.page.step("the text", note="what the list is to be of")
    for now in walk.rounds(job.params):
        event = book.take(now)
        yield book.page.open()
        yield event
    facts, near = said(book), book.near()
    facts["gap"] = Fact("Elsewhere minus near, rank by rank", round(float(np.nan_to_num(gap(*near))), 3), "share right")
    yield Close("sample", sentence(book), book.charts(near), facts)
    yield from looked(walk, book)


def said(book: FoundSoFar) -> dict[str, Fact]:
    return {"right": Fact("Different right things", len(book.right), "things", "higher"),
            "tried": Fact("Completed", len(book.counts), "things"),
            "share": Fact("Of what was completed, right and new", round(len(book.right) / len(book.counts), 3), "of 1",
                          "higher"),
            "turn": Fact("The query has turned", round(book.turned()[-1], 1), "degrees"),
            "old": Fact("Logit of the first round's words, last round minus first",
                        round(book.old_keys()[-1] - book.old_keys()[0], 2), "logits")}


def sentence(book: FoundSoFar) -> str:
    how = "Listing what was found" if book.p.navigate else "One fixed ranking"
    return (f"{how} gave {len(book.right)} different right things of {len(book.counts)} completed; the query turned by "
            f"{book.turned()[-1]:.0f} degrees on the way.")


def looked(walk: Navigator, book: FoundSoFar) -> Iterator[Event]:
    """Attention of the text with everything listed; the groups: the opening, what is right, what is wrong."""
    page = book.page
    count = len(book.rounds[-1].context)
    labels, state = page.labels[:count], page.state[:count]
    layout = text_layout(labels, tuple("added" if i == 0 else "prompt" for i in range(count)))
    groups = {"the opening": np.arange(count) < len(walk.opening), "right": state == CODE["accepted"],
              "wrong": state == CODE["refused"]}
    groups = {name: which for name, which in groups.items() if which.any()}
    ids = torch.tensor([book.rounds[-1].context], device=walk.model.device)
    yield from lens(walk.model, lambda: walk.model(ids), layout, groups, ask=count - 1,
                    say=lambda mass: attention(mass, tuple(groups)))


def attention(mass: np.ndarray, groups: Sequence[str]) -> str:
    share = 100 * float(np.nanmean(mass[:, -1, 1:].sum(-1))) if len(groups) > 1 else 0.0
    return f"What is listed gives {share:.0f} % of its attention to other things of the list; point at the last comma."
