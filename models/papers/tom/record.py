"""The records of one story. Sample: sentence by sentence, what each network would answer if the story ended here, and
who believes what by then. Attend: what the answer's place looks at in the whole story."""
from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

import kernels
from kernels import Sampler
from models.backbones.text import names, read
from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, distribution, line, table
from models.loops.attend.groups import lens, mass_facts
from models.loops.attend.reading import TokenLayout
from models.loops.sample.cached_lm import Meter
from models.papers.tom.materials import BeliefItem, answers, words
from models.trace import YES, Canvas, Chart, Fact, Field
from models.worlds.tales import beliefs
from models.worlds.world import END

FIELDS = {"present": Field("Who is in the room", "people", low=0.0), "entropy": Field("Entropy", "nats", low=0.0),
          "probability": Field("Probability", "probability", 0.0, 1.0)}
CURVE = np.array([0.01, 0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0])  # the paper's four among them
DECIDES, OTHERS, PEOPLE, INFILLS, ASKS, HERE = "decides", "the thing", "people", "infills", "question", "answer"


class StoryPage:
    """One story with its infills as tokens, and what is true after each of its sentences."""

    def __init__(self, tokenizer, item: BeliefItem, told: Sequence[str]):
        self.item, self.told, self.tokenizer = item, list(told), tokenizer
        text = read(tokenizer, item.prompt(told)).before_more()
        self.ids, self.labels = np.array(text.ids), text.labels
        ends = np.cumsum([len(sentence) + 1 for sentence in told])
        self.part = np.searchsorted(ends, [start + 1 for start, _ in text.spans], "right")  # sentence of each token
        self.after = [beliefs.tracked(" ".join(told[: at + 1]))[0] for at in range(len(told))]
        self.first = next(at for at, minds in enumerate(self.after) if minds.thing)  # nothing can be asked before
        self.truths = [minds.answer(item.kind, item.who, item.whom) for minds in self.after]
        self.places = list(dict.fromkeys(minds.now for minds in self.after[self.first :]))

    def word(self, place: str) -> int:
        return int(words(self.tokenizer, [place])[0])

    def groups(self) -> dict[str, np.ndarray]:
        """Tokens by what their sentence does; the one that decides is the last that changed the right answer."""
        decides = max(at for at in range(self.first, len(self.told))
                      if at == self.first or self.truths[at] != self.truths[at - 1])
        acts = dict.fromkeys(("begin", "moves", "tells"), OTHERS) | {"": INFILLS}
        kinds = [acts.get(beliefs.kind_of(one), PEOPLE) for one in self.told]
        which = [DECIDES if at == decides else kind for at, kind in enumerate(kinds)]
        of = np.array([*which, ASKS], object)[self.part]
        of[-1] = HERE
        return {name: of == name for name in (DECIDES, OTHERS, PEOPLE, INFILLS, ASKS, HERE) if (of == name).any()}

    def believed(self) -> Chart:
        """Where the thing is, where everybody thinks it is, and where they think that others think."""
        steps, people = self.after[self.first :], self.after[-1].people
        rows = {"really": [minds.now for minds in steps]}
        rows |= {who: [minds.beliefs[who] for minds in steps] for who in people}
        rows |= {f"{who} of {whom}": [minds.seconds[who, whom] for minds in steps]
                 for who in people for whom in people if who != whom}
        numbers = ", ".join(f"{number} {place}" for number, place in enumerate(self.places, 1))
        return table("Where everybody thinks it is", "after sentence", "mind",
                     [[self.places.index(place) + 1 for place in row] for row in rows.values()],
                     range(self.first + 1, len(self.told) + 1), tuple(rows), unit="number of the place",
                     caption=f"{numbers}. \u201cA of B\u201d: where A thinks that B thinks it is. Made by program.")


def heard(job: Job, page: StoryPage, networks: Mapping[str, object]) -> Iterator[Event]:
    """Both records. networks: name -> model, first the one that is asked."""
    slot, meter, said = len(page.ids), Meter(job.model), list[dict[str, Tensor]]()
    canvas = Canvas("text", (*page.labels, ""), roles=(*["prompt"] * slot, "sampled"), ids=np.append(page.ids, -1))
    sheet = Filling("sample", canvas, FIELDS, lambda id: names(job.tokenizer, [id])[0])
    asks = np.flatnonzero(page.part == len(page.told))
    sheet.fill(asks, page.ids[asks], "context")
    for at in range(page.first, len(page.told)):
        began = time.perf_counter()
        said.append({name: answers(model, job.tokenizer, [page.item.prompt(page.told[: at + 1])])[0]
                     for name, model in networks.items()})
        yield sheet.open(len(page.told) - page.first)
        known = 1 + int((page.part <= at).sum()) + len(asks)
        meter.add(1, 0, known, 1, 0, (time.perf_counter() - began) * 1e3 / len(networks))
        yield asked(page, sheet, at, said[-1], meter)
    yield close(job, page, said)
    yield from looked(job, page)


def asked(page: StoryPage, sheet: Filling, at: int, lists: Mapping[str, Tensor], meter: Meter) -> Event:
    """The step behind a sentence: what is known, and the likeliest answer, right or wrong."""
    slot, minds, truth = len(page.ids), page.after[at], page.truths[at]
    new = np.flatnonzero((page.part <= at) & (sheet.ids[:slot] < 0))
    sheet.fill(new, page.ids[new], "context")
    if beliefs.kind_of(page.told[at]):
        sheet.note(new, present=[len(minds.inside)] * len(new))
    stats = kernels.vocab_stats(next(iter(lists.values()))[None], top_k=1)
    word = int(stats.top_ids[0, 0])
    sheet.fill([slot], [word], "accepted" if word == page.word(truth) else "refused",
               [f" {names(page.tokenizer, [word])[0].strip()}"], entropy=[float(stats.entropy[0])],
               probability=[float(stats.top_logp[0, 0].exp())])
    found = {name: distribution(row, [slot], [word], keep=True) for name, row in lists.items()}
    inside = f"in the room: {', '.join(sorted(minds.inside)) or 'nobody'}"
    really = f", though it is in the {minds.now}" if minds.now != truth else ""
    return sheet.step(f"{at + 1}: {page.told[at]}", distributions=found, cost=meter.lap(), note=(
        f"{inside if beliefs.kind_of(page.told[at]) else 'nothing changes'}; right if it ended here: {truth}{really}"))


def chances(logits: Tensor, word: int, temperature: float) -> tuple[float, float]:
    """p(word) under softmax(logits / temperature), and the entropy in nats: exact, nothing is drawn."""
    stats = kernels.vocab_stats(logits[None].float() / temperature, top_k=1, chosen=torch.tensor([word]))
    return float(stats.chosen_logp[0].exp()), float(stats.entropy[0])


def close(job: Job, page: StoryPage, said: Sequence[Mapping[str, Tensor]]) -> Close:
    item, p, mine, t = page.item, job.params, next(iter(said[-1].values())), job.params.temperature
    right, own = page.word(item.answer), page.word(item.own)
    chance, entropy = chances(mine, right, t)
    facts = {"right": Fact("Likeliest word right", float(int(mine.argmax()) == right), YES,
                           "higher"),
             "expected": Fact("Right when drawn", round(chance, 4), "of 1", "higher"),
             "entropy": Fact("Entropy", round(entropy, 3), "nats")}
    if p.samples:
        warped = kernels.warp(mine[None].expand(p.samples, -1), Sampler(t))
        drawn = kernels.draw(warped, Sampler(), job.generator())
        facts["drawn"] = Fact(f"Right of {p.samples} drawn", int((drawn == right).sum()), "draws", "higher")
    curve = [chances(mine, right, float(at))[0] for at in CURVE]
    charts = (along(page, [next(iter(lists.values())) for lists in said]), page.believed(),
              line("Right when drawn", "probability", {"right": curve}, x="temperature", at=CURVE, by_step=False,
                   caption="Exact. The likeliest word is the same at all; the paper asks at 0.01, 0.5, 1 and 2."))
    if own == right:
        told = f"The right answer is the {item.answer}, where it really is; this network gives it {100 * chance:.0f} %."
    else:
        told = (f"The right answer is the {item.answer}, though it is in the {item.own} now; this network gives the "
                f"right one {100 * chance:.0f} % and the place where it is {100 * chances(mine, own, t)[0]:.0f} %.")
    return Close("sample", told, charts, facts)


def along(page: StoryPage, said: Sequence[Tensor]) -> Chart:
    """Sentence by sentence: what is right, and beside it, where that is not the same, the place where the thing is."""
    found: dict[str, list[float]] = {"right": [], "where it really is": []}
    for logits, truth, minds in zip(said, page.truths[page.first :], page.after[page.first :], strict=True):
        found["right"].append(chances(logits, page.word(truth), 1.0)[0])
        apart = minds.now != truth
        found["where it really is"].append(chances(logits, page.word(minds.now), 1.0)[0] if apart else np.nan)
    return line("What it would answer", "probability", {name: row for name, row in found.items()
                                                         if not np.all(np.isnan(row))})


def looked(job: Job, page: StoryPage) -> Iterator[Event]:
    """Attention of the whole story; the answer is said by its last token."""
    groups, count = page.groups(), len(page.ids)
    layout = TokenLayout(Canvas("text", tuple(page.labels), roles=("prompt",) * count), np.arange(count) + 1,
                         np.arange(count, dtype=np.float32)[:, None], "tokens", "beginning")
    ids = torch.tensor([[END, *page.ids]], device=job.model.device)
    place = {name: at for at, name in enumerate(groups)}
    asks = {key: (f"From the answer's place to {told}", place[HERE], place[name] + 1)
            for key, name, told in (("decides", DECIDES, "what decides it"), ("infills", INFILLS, INFILLS))
            if name in groups}

    def say(mass: np.ndarray) -> str:
        share = {name: fact.value for name, fact in mass_facts(mass, asks).items()}
        rest = f" and {share['infills']:.0f} % to infills" if "infills" in share else ""
        return f"The answer's place gives {share['decides']:.0f} % of its attention to what decides the answer{rest}."
    yield from lens(job.model, lambda: job.model(ids), layout, groups, ask=count - 1, say=say,
                    facts=lambda mass: mass_facts(mass, asks))
