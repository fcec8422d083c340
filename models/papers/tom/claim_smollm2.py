"""The exams of others, ToMi and BigToM, on a real public model; and ToMi told anew in the words of the tales, on B.

An answer of several tokens is judged by the likelihood of all of them, against those of the other places of its story.
ToMi is CC BY-NC: only numbers leave here. Nothing was tuned on either."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, better, conclude, context
from models.claims.tale_lab import encoded
from models.loops.sample.cached_lm import Stream
from models.papers.tom.materials import BeliefItem, answers, exam, item_of, right
from models.papers.tom.method import NEW
from models.trace.subject import SubjectError
from models.worlds.tales import beliefs
from models.worlds.tales.forms import fill, listed, some
from models.worlds.tales.words import ROOMS
from models.worlds.world import END

PUBLIC, SEED, ONCE = "smollm2", 302, Budget(1, "questions")
SAID = {"comes": r"(\w+) entered the (\w+)", "leaves": r"(\w+) exited the (\w+)", "begin": r"The (\w+) is in the (\w+)",
        "moves": r"(\w+) moved the (\w+) to the (\w+)"}


@dataclass(frozen=True)
class PlaceQuestion:
    """A prompt, what may follow it, which of those is right, and what answerers without a mind say."""

    prompt: str
    choices: tuple[str, ...]
    right: int
    own: int
    first: int


def measure(lab: Lab) -> Claim:
    import pyarrow.parquet as pq
    tomi, bigtom = (pq.read_table(lab.need(f"{name}.parquet")).to_pylist() for name in ("tomi", "bigtom"))
    tomi = [row for row in tomi if row["split"] == "test"]
    public, tale = load(PUBLIC), load(NEW)
    asked = {"ToMi": balanced([tomi_question(row) for row in shuffled(tomi)], lab.size(60, 20)),
             "BigToM": [one for row in shuffled(bigtom)[: lab.size(30, 10)] for one in bigtom_questions(row)]}
    hits = {name: chosen(public, questions) for name, questions in asked.items()}
    told = [item for number, row in enumerate(shuffled(tomi)) if (item := retold(row, np.random.default_rng(number)))]
    told = [one for pair in zip([i for i in told if i.own == i.answer], [i for i in told if i.own != i.answer])
            for one in pair][: lab.size(300, 20)]
    logits = answers(tale.model, tale.tokenizer, [item.prompt() for item in told])
    arms, best = {}, {}
    for name, questions in asked.items():
        score = Metric(f"right answers, {name}", "of 1", floor=0.5, ceiling=1.0)
        arms[name] = score.arm("SmolLM2", hits[name], budget=ONCE, checkpoints=PUBLIC)
        best[name] = simple(score, {"where it really is": [one.own == one.right for one in questions],
                                    "where it was first": [one.first == one.right for one in questions],
                                    "the last place named": [len(one.choices) - 1 == one.right for one in questions]})
    score = Metric("right answers, ToMi in the words of the tales", "of 1", floor=0.5, ceiling=1.0)
    arms["told"] = score.arm("B", right(tale.tokenizer, logits, told), budget=ONCE, checkpoints=NEW)
    best["told"] = simple(score, {"where it really is": [one.own == one.answer for one in told],
                                  "where it was first": [one.first == one.answer for one in told]})
    ours = exam(SEED, lab.size(20, 2))
    return conclude(
        "tom-smollm2", paper="More infills slightly reduce accuracy; answers vary more for questions of the first and "
        "second order (abstract; on GPT-2 and Llama 2, ten stories of ExploreToM).",
        here="On ToMi and on BigToM SmolLM2 (135 M), and on ToMi told in the words of the tales B, is above the best "
        "of the answerers who know nothing of minds; half of the questions are of a false belief.",
        arms=tuple(arms.values()), trainings=0, seeds=(SEED,),
        expect=[better(arms[name], best[name]) for name in arms],
        context=[*(context(f"right, SmolLM2 on our stories, order {order}", chosen(public, [
                     our_question(one[order]) for one in ours]), "of 1") for order in range(3)),
                 *(context(f"right, B on ToMi in the words of the tales, order {order}", found, "of 1")
                   for order in range(3) if len(found := arms["told"].scores[[i.order == order for i in told]]))],
        would_take="a larger public model")


def our_question(item: BeliefItem) -> PlaceQuestion:
    """One of our own exam: some places are several tokens of a public model, so all of them are weighed."""
    places = list(dict.fromkeys(one for one in re.findall(r"\w+", " ".join(item.told)) if one in beliefs.CONTAINERS))
    return PlaceQuestion(item.prompt(), tuple(f" {one}" for one in places), places.index(item.answer),
                         places.index(item.own), places.index(item.first))


def simple(score: Metric, said: dict[str, list[bool]]):
    """The best of those who answer without a mind."""
    name = max(said, key=lambda one: np.mean(said[one]))
    return score.arm(name, np.array(said[name], float), budget=ONCE)


def shuffled(rows: Sequence[dict]) -> list[dict]:
    return [rows[i] for i in np.random.default_rng(SEED).permutation(len(rows))]


def balanced(asked: Sequence[PlaceQuestion | None], count: int) -> list[PlaceQuestion]:
    """As many whose answer is where the thing really is as others."""
    found = [one for one in asked if one and len(one.choices) > 1]
    parts = [[one for one in found if (one.own == one.right) == true] for true in (True, False)]
    return [one for pair in zip(*parts) for one in pair][:count]


def events(row: dict) -> list[tuple[str, tuple[str, ...]]]:
    """What happens in a story of ToMi, sentence by sentence; ("", ()) where somebody only likes something."""
    lines = [line.strip(" .") for line in row["story"].split("\n")]
    return [next(((kind, found.groups()) for kind, form in SAID.items() if (found := re.fullmatch(form, line))),
                 ("", ())) for line in lines]


def tomi_question(row: dict) -> PlaceQuestion | None:
    places = [found[-1] for kind, found in events(row) if kind in ("begin", "moves")]
    choices = list(dict.fromkeys(places))
    if row["answer"] not in choices:
        return None
    prompt = f"{row['story']}\nQuestion: {row['question']}\nAnswer: In the".replace("_", " ")
    return PlaceQuestion(prompt, tuple(f" {one}".replace("_", " ") for one in choices), choices.index(row["answer"]),
                         choices.index(places[-1]), 0)


def bigtom_questions(row: dict) -> list[PlaceQuestion]:
    """One of who knows, one of who does not: the same two answers, another one right."""
    choices = tuple(f" {row[f'belief_answer_{who}']}" for who in ("not_aware", "aware"))
    asks = f"\nQuestion: {row['belief_question']}\nAnswer:"
    return [PlaceQuestion(f"{row['story']} {row[event]}{asks}", choices, known, 1, 0)
            for known, event in enumerate(("not_aware_event", "aware_event"))]


def chosen(bundle, asked: Sequence[PlaceQuestion]) -> np.ndarray:
    """Whether the likeliest of the choices, all its tokens counted, is right [K]."""
    found = []
    for one in asked:
        stream, start, nats = Stream(bundle.model), [END, *encoded(bundle.tokenizer, one.prompt)], []
        stream.read([start])
        for choice in one.choices:
            ids = [END, *encoded(bundle.tokenizer, one.prompt + choice)][len(start) :]
            behind = [stream.fork(1).read([ids[:-1]], every=True)[0].float()] if len(ids) > 1 else []
            nats.append(float(cross_entropy(torch.cat([stream.logits, *behind]), torch.tensor(ids), reduction="sum")))
        found.append(int(np.argmin(nats)) == one.right)
    return np.array(found, float)


def retold(row: dict, rng: np.random.Generator):
    """A question of ToMi in the words of the tales, names and things exchanged; None where the tales cannot tell it, or
    their tracker of beliefs sees another answer."""
    said, new = events(row), {}
    begin = next(at for at, (kind, _) in enumerate(said) if kind == "begin")
    inside: dict[str, str] = {}
    for kind, found in said[:begin]:
        inside |= {found[0]: found[1] if kind == "comes" else ""} if kind in ("comes", "leaves") else {}
    room = next((found[1] for kind, found in reversed(said[:begin]) if kind == "comes"), "")
    people = [who for who, where in inside.items() if where == room]
    names = list(dict.fromkeys(found[0] for kind, found in said if kind in ("comes", "leaves", "moves")))
    places = list(dict.fromkeys(found[-1] for kind, found in said if kind in ("begin", "moves")))
    new |= dict(zip(names, some(rng, beliefs.TRAINED_NAMES, len(names))))
    new |= dict(zip(places, some(rng, beliefs.CONTAINERS, len(places))))
    thing, here, infills = some(rng, beliefs.TRAINED_OBJECTS, 1)[0], some(rng, ROOMS, 1)[0], iter(some(
        rng, beliefs.INFILLS, 12))
    if len(people) < 2 or row["answer"] not in new:
        return None
    told = [fill(beliefs.SAID["together"], people=listed([new[who] for who in people]), room=here)]
    for kind, found in said[begin:]:
        slots = {"who": new.get(found[0], "") if found else "", "room": here, "thing": thing, "where": new.get(
            found[-1], "") if found else ""}
        if not kind:
            told.append(next(infills))
        elif kind in ("begin", "moves") or found[1] == room:
            told.append(fill(beliefs.SAID[kind], **slots))
    asks = re.findall(r"\w+", row["question"])
    who, kind = [new[one] for one in asks if one in new], row["question_type"]
    kind = {"memory": "first", "reality": "now"}.get(kind, "believes" if kind.startswith("first") else "thinks")
    question = fill(beliefs.ASKED[kind], thing=thing, who="".join(who[:1]), whom="".join(who[1:2]))
    try:
        item = item_of(f"{' '.join(told)} {question}")
    except SubjectError:
        return None
    return item if item.answer == new[row["answer"]] else None
