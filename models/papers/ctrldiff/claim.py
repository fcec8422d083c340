"""The claim of CtrlDiff. Sizes: 120 held-out headings; each policy against fixed and random sizes and the entropy rule,
which were set, on 24 other headings, to three percent more passes per word than the policy takes. Steering: 44 stories
under a heading that says nothing, four towards each label; a classifier that learned from other stories judges."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models.backbones.block_diffusion import SIZES
from models.backbones.story_classifier import GROUPS, LABELS
from models.checkpoints.store import Bundle, load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Quantity, Tuned, as_good, at_least, better, conclude, context
from models.claims.tale_lab import Stories, encoded, in_blocks, open_nats, ranked, story_labels, story_nats
from models.loops.unmask.blocks import Choose, at_random, by_entropy, by_size
from models.loops.unmask.steering import steering
from models.papers.ctrldiff.rule import BASE, GUIDE, JUDGE, POLICIES, WRITER, by_policy
from models.worlds.tales.headings import WORLD, fits, heading
from models.worlds.world import END, exam

SEED, OTHER, OPEN = 71, 72, 73
STRENGTHS, JUDGED, MORE = (50.0, 20.0, 100.0), 50.0, 1.03
KNOBS: dict[str, tuple[Callable[[float], Choose], tuple[float, ...]]] = {  # from many passes to few
    "fixed sizes": (by_size, tuple(map(float, range(len(SIZES))))),
    "random sizes": (lambda tilt: at_random(tilt, np.random.default_rng(OTHER)), (-3.0, -1.5, -0.7, 0.0, 0.7, 1.5)),
    "the entropy rule": (by_entropy, (0.05, 0.3, 0.7, 1.2, 1.8, 2.5, 3.5))}
GRADIENT = "each pass of the steered ones takes a gradient of a small classifier, too"


def measure(lab: Lab):
    bundle, reader, judge = load(BASE), load(WRITER).model, load(JUDGE).model
    base, tok, docs = bundle.model, bundle.tokenizer, exam(WORLD, SEED, lab.size(120, 2))
    headings, other = [one.pieces[0] for one in docs], [one.pieces[0] for one in exam(WORLD, OTHER, lab.size(24, 1))]
    real = [[*encoded(tok, one.pieces[1]), END] for one in docs]
    metric = Metric("nats per word of a judge that writes word by word", "nats", "lower", np.log(1024.0),
                    story_nats(reader, tok, headings, real))
    right: dict[str, np.ndarray] = {}

    def spent(choose: Choose) -> float:
        return float(in_blocks(base, tok, other, choose, OTHER).passes.mean())

    def arm(name: str, choose: Choose, files=(BASE,), tries: int = 0):
        made = in_blocks(base, tok, headings, choose, SEED)
        right[name] = np.array([100.0 * WORLD.check(f"{one} {story}") for one, story in zip(headings, made.words)])
        return metric.arm(name, story_nats(reader, tok, headings, made.ids), checkpoints=files, tuned=Tuned(
            tries, "other headings"), budget=Budget(made.passes, "passes per word"))

    settings = {name: knobs[:: lab.size(1, len(knobs) - 1)] for name, (_, knobs) in KNOBS.items()}
    curves = {name: [spent(KNOBS[name][0](at)) for at in knobs] for name, knobs in settings.items()}
    groups = []
    for name, file in POLICIES.items():
        who, choose = "the policy" if name == "policy" else f"the {name} policy", by_policy(load(file).model)
        wanted = MORE * spent(choose)
        set_to = {rival: float(np.interp(-wanted, -np.array(curves[rival]), knobs))
                  for rival, knobs in settings.items()}
        groups.append([arm(who, choose, (file, BASE)), *(
            arm(f"{rival} at the passes of {who}", KNOBS[rival][0](at), tries=len(settings[rival]))
            for rival, at in set_to.items())])
    (mine, *others), (frugal, *cheaper) = groups
    disorder = arm("blocks of 16", by_size(4))
    steered, rows = steer(lab, bundle, reader, judge)
    known = np.mean([[LABELS[mood] == one.truth["mood"], LABELS[topic] == one.truth["topics"][0]]
                     for (mood, topic), one in zip(story_labels(judge, tok, real), docs, strict=True)], 1)
    return conclude(
        "ctrldiff", trainings=1, seeds=(SEED, OTHER, OPEN), arms=(*groups[0], *groups[1]),
        paper="The best texts of models between diffusion and writing from left to right, nearly as good as the "
              "latter's, and texts of a wanted kind (abstract, without numbers).",
        here="For as many passes per word a trained policy's texts (a pass costs it 0.5 nats, a frugal one 2) cost a "
             "judge at least 2 % fewer nats than fixed and random sizes, and at most 2 % more than the entropy rule; "
             "steering brings at least 30 points more stories of the wanted label, says a classifier that did not "
             "guide, for at most 10 % more nats; its first order ranks words as exact scores do, with a correlation "
             "of at least 0.7.",
        expect=[*(better(one, rival, least=2, by="percent", on_average=True) for one, some in (
                    (mine, others), (frugal, cheaper)) for rival in some[:2]),
                as_good(mine, others[2], within=2, by="percent", on_average=True), *steered],
        controls=[better(mine, disorder, unmatched="it shows that the judge sees disorder"),
                  at_least(Quantity("labels of real stories that the judging classifier tells", known, "of 1",
                                    floor=0.0, ceiling=1.0), 0.9)],
        context=[context("nats that the frugal policy saves over the entropy rule",
                         cheaper[2].scores - frugal.scores, "nats"),
                 *(context(f"passes per word, {one.name}", one.budget.amount, "passes") for one in sum(groups, [])),
                 *(context(f"right by the grammar, {name}", found, "%") for name, found in right.items()), *rows])


def steer(lab: Lab, bundle: Bundle, reader, judge):
    """(expectations, rows) of stories under a heading that says nothing."""
    each, choose, guide = lab.size(4, 1), by_policy(load(POLICIES["policy"]).model), load(GUIDE).model
    base, tok, wanted = bundle.model, bundle.tokenizer, np.repeat(np.arange(lab.size(len(LABELS), 2)), each)
    made = {0.0: in_blocks(base, tok, [heading()] * len(wanted), choose, OPEN)}
    for strength in STRENGTHS[: lab.size(3, 1)]:
        some = [in_blocks(base, tok, [heading()] * each, choose, OPEN + label, steering(guide, label, strength))
                for label in dict.fromkeys(wanted.tolist())]
        made[strength] = Stories(sum((one.ids for one in some), []), sum((one.words for one in some), []),
                                 np.concatenate([one.passes for one in some]))
    shares = {at: 100.0 * (story_labels(judge, tok, some.ids) == wanted[:, None]).any(1) for at, some in made.items()}
    whole = {at: np.array([100.0 * fits(story, **{"mood" if label < GROUPS[0] else "topic": LABELS[label]})
                           for story, label in zip(some.words, wanted)]) for at, some in made.items()}

    def arms(metric: Metric, scored: Callable[[float], np.ndarray]):
        return [metric.arm(name, scored(at), checkpoints=files, budget=Budget(made[at].passes, "passes per word"))
                for name, at, files in (("steered", JUDGED, (BASE, GUIDE)), ("not steered", 0.0, (BASE,)))]
    hits = arms(Metric("wanted label, by a classifier that did not guide", "%", floor=0.0, ceiling=100.0), shares.get)
    price = arms(Metric("nats per word under any heading", "nats", "lower", np.log(1024.0), 0.0),
                 lambda at: open_nats(reader, tok, made[at].ids))
    ranks = Quantity("first order against exact scores", ranked(base, tok, guide, made[0.0].ids, wanted, OPEN),
                     "rank correlation", floor=-1.0, ceiling=1.0)
    return [better(*hits, least=30, unmatched=GRADIENT), as_good(*price, within=10, by="percent", unmatched=GRADIENT),
            at_least(ranks, 0.7)], [context(f"{what}, strength {at:g}", scores, "%") for what, found in (
                ("wanted label", shares), ("whole story right with the wanted label", whole))
                for at, scores in found.items()]
