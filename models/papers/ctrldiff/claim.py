"""The claim of CtrlDiff. Sizes: 120 held-out headings; each policy against fixed and random sizes and the entropy rule,
which were set, on 24 other headings, to three percent more passes per word than the policy takes. Steering: 44 stories
under a heading that says nothing, four towards each label; a classifier that learned from other stories judges."""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from models.backbones.block_diffusion import SIZES
from models.backbones.story_classifier import GROUPS, LABELS, labels_of
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Quantity, Tuned, as_good, at_least, better, conclude, context
from models.claims.tale_lab import encoded, open_nats, word_nats
from models.loops.unmask.blocks import Choose, at_random, by_blocks, by_entropy, by_size, texts
from models.loops.unmask.steering import agreement, orders, steering
from models.papers.ctrldiff.method import BASE, GUIDE, JUDGE, POLICIES, WRITER
from models.papers.ctrldiff.rule import by_policy
from models.worlds.tales.headings import LENGTH, WORLD, fits, heading
from models.worlds.world import END, MASK, exam

SEED, OTHER, OPEN = 71, 72, 73
STRENGTHS, JUDGED, MORE, TRIED = (20.0, 50.0, 100.0), 50.0, 1.03, 64
KNOBS: dict[str, tuple[Callable[[float], Choose], tuple[float, ...]]] = {  # from many passes to few
    "fixed sizes": (by_size, tuple(map(float, range(len(SIZES))))),
    "random sizes": (lambda tilt: at_random(tilt, np.random.default_rng(OTHER)), (-3.0, -1.5, -0.7, 0.0, 0.7, 1.5)),
    "the entropy rule": (by_entropy, (0.05, 0.3, 0.7, 1.2, 1.8, 2.5, 3.5))}
GRADIENT = "each pass of the steered ones takes a gradient of a small classifier, too"


class Made(NamedTuple):
    """Stories, their words, and passes per word [K]."""

    stories: list[list[int]]
    words: list[str]
    passes: np.ndarray


class Desk:
    """The networks, and what is asked of them. Headings are texts, stories ids."""

    def __init__(self):
        bundle = load(BASE)
        self.base, self.tok, self.reader = bundle.model, bundle.tokenizer, load(WRITER).model
        self.guide, self.judge = load(GUIDE).model, load(JUDGE).model

    def prompts(self, headings: list[str]) -> list[list[int]]:
        return [[END, *encoded(self.tok, one)] for one in headings]

    def write(self, headings: list[str], choose: Choose, seed: int, guide=None) -> Made:
        dice = torch.Generator().manual_seed(seed)
        made = texts(by_blocks(self.base, self.prompts(headings), choose, dice, LENGTH, guide=guide), len(headings))
        return Made([one.ids for one in made], [self.tok.decode(one.ids, skip_special_tokens=True) for one in made],
                    np.array([one.calls for one in made]))

    def nats(self, headings: list[str], stories: list[list[int]]) -> np.ndarray:
        """Per word of each [K]."""
        return np.array([row.mean() for row in word_nats(self.reader, self.prompts(headings), stories)])

    def labels(self, stories: list[list[int]]) -> np.ndarray:
        """Mood and topic of each [K, 2] by the classifier that does not guide, under a heading that says nothing."""
        return labels_of(self.judge, [[*self.prompts([heading()])[0], *ids] for ids in stories])


def measure(lab: Lab):
    desk, docs = Desk(), exam(WORLD, SEED, lab.size(120, 2))
    headings, other = [one.pieces[0] for one in docs], [one.pieces[0] for one in exam(WORLD, OTHER, lab.size(24, 1))]
    real = [[*encoded(desk.tok, one.pieces[1]), END] for one in docs]
    metric = Metric("nats per word of a judge that writes word by word", "nats", "lower", np.log(1024.0),
                    desk.nats(headings, real))
    right: dict[str, np.ndarray] = {}

    def spent(choose: Choose) -> float:
        return float(desk.write(other, choose, OTHER).passes.mean())

    def arm(name: str, choose: Choose, files=(BASE,), tries: int = 0):
        made = desk.write(headings, choose, SEED)
        right[name] = np.array([100.0 * WORLD.check(f"{one} {story}") for one, story in zip(headings, made.words)])
        return metric.arm(name, desk.nats(headings, made.stories), checkpoints=files, tuned=Tuned(
            tries, "other headings"), budget=Budget(made.passes, "passes per word"))

    settings = {name: knobs[:: lab.size(1, len(knobs) - 1)] for name, (_, knobs) in KNOBS.items()}
    curves = {name: [spent(KNOBS[name][0](at)) for at in knobs] for name, knobs in settings.items()}
    groups = []
    for name, file in POLICIES.items():
        choose = by_policy(load(file).model)
        wanted = MORE * spent(choose)
        set_to = {rival: float(np.interp(-wanted, -np.array(curves[rival]), knobs))
                  for rival, knobs in settings.items()}
        groups.append([arm(f"the {name}", choose, (file, BASE)), *(
            arm(f"{rival} at the passes of the {name}", KNOBS[rival][0](at), tries=len(settings[rival]))
            for rival, at in set_to.items())])
    (mine, *others), (frugal, *cheaper) = groups
    disorder = arm("blocks of 16", by_size(4))
    steered, rows = steer(desk, lab)
    known = np.mean([[LABELS[mood] == one.truth["mood"], LABELS[topic] == one.truth["topics"][0]]
                     for (mood, topic), one in zip(desk.labels(real), docs, strict=True)], 1)
    return conclude(
        "ctrldiff", trainings=1, seeds=(SEED, OTHER, OPEN), arms=(*groups[0], *groups[1]),
        paper="Best among hybrids of diffusion and autoregression, nearer to autoregression, and effective conditional "
              "writing (abstract, without numbers).",
        here="For as many passes per word a trained policy's texts cost a judge at least 2 % fewer nats than fixed and "
             "random sizes, and at most 2 % more than the entropy rule; steering brings at least 30 points more "
             "stories of the wanted label, says a classifier that did not guide, for at most 10 % more nats; its "
             "first order ranks words as exact scores do, with a correlation of at least 0.7.",
        expect=[*(better(one, rival, least=2, by="percent", on_average=True) for one, some in (
                    (mine, others), (frugal, cheaper)) for rival in some[:2]),
                as_good(mine, others[2], within=2, by="percent", on_average=True), *steered],
        controls=[better(mine, disorder, unmatched="it shows that the judge sees disorder"),
                  at_least(Quantity("labels of real stories that the judging classifier tells", known, "of 1",
                                    floor=0.0, ceiling=1.0), 0.9)],
        context=[context("nats that the frugal saves over the entropy rule", cheaper[2].scores - frugal.scores, "nats"),
                 *(context(f"passes per word, {one.name}", one.budget.amount, "passes") for one in sum(groups, [])),
                 *(context(f"right by the grammar, {name}", found, "%") for name, found in right.items()), *rows])


def steer(desk: Desk, lab: Lab):
    """(expectations, rows) of stories under a heading that says nothing."""
    each, choose = lab.size(4, 1), by_policy(load(POLICIES["policy"]).model)
    wanted = np.repeat(np.arange(lab.size(len(LABELS), 2)), each)
    made = {0.0: desk.write([heading()] * len(wanted), choose, OPEN)}
    for strength in STRENGTHS[: lab.size(3, 2)]:
        some = [desk.write([heading()] * each, choose, OPEN + label, steering(desk.guide, label, strength))
                for label in dict.fromkeys(wanted.tolist())]
        made[strength] = Made(sum((one.stories for one in some), []), sum((one.words for one in some), []),
                              np.concatenate([one.passes for one in some]))
    shares = {at: 100.0 * (desk.labels(some.stories) == wanted[:, None]).any(1) for at, some in made.items()}
    whole = {at: np.array([100.0 * fits(story, **{"mood" if label < GROUPS[0] else "topic": LABELS[label]})
                           for story, label in zip(some.words, wanted)]) for at, some in made.items()}

    def arms(metric: Metric, scored: Callable[[float], np.ndarray]):
        return [metric.arm(name, scored(at), checkpoints=files, budget=Budget(made[at].passes, "passes per word"))
                for name, at, files in (("steered", JUDGED, (BASE, GUIDE)), ("not steered", 0.0, (BASE,)))]
    hits = arms(Metric("wanted label, by a classifier that did not guide", "%", floor=0.0, ceiling=100.0), shares.get)
    price = arms(Metric("nats per word under any heading", "nats", "lower", np.log(1024.0), 0.0),
                 lambda at: open_nats(desk.reader, desk.tok, made[at].stories))
    ranks = Quantity("first order against exact scores", ranked(desk, made[0.0].stories, wanted), "rank correlation",
                     floor=-1.0, ceiling=1.0)
    return [better(*hits, least=30, unmatched=GRADIENT), as_good(*price, within=10, by="percent", unmatched=GRADIENT),
            at_least(ranks, 0.7)], [context(f"{what}, strength {at:g}", scores, "%") for what, found in (
                ("wanted label", shares), ("whole story right with the wanted label", whole))
                for at, scores in found.items()]


def ranked(desk: Desk, stories: list[list[int]], wanted: np.ndarray) -> np.ndarray:
    """At a place in each story: the likeliest words, ranked in both ways."""
    found, (prompt,), rng = [], desk.prompts([heading()]), np.random.default_rng(OPEN)
    for ids, label in zip(stories, wanted.tolist(), strict=True):
        begun = [*prompt, *ids[: int(rng.integers(len(ids)))]]
        turn = next(by_blocks(desk.base, [begun], by_size(0), torch.Generator(), LENGTH))
        words = turn.ahead.logits[0, 0].topk(TRIED).indices.clone()
        text = torch.tensor([*begun, *[MASK] * (LENGTH - len(begun))])
        found.append(agreement(*orders(desk.guide, text, len(begun), words, label)))
    return np.array(found)
