"""The claim of insertion language models: ways through held-out star graphs by insertion, from left to right and from
masks, three networks of one shape after as many steps of as many graphs; and gaps of a length that nobody knows."""
from __future__ import annotations

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, better, close_to, conclude, context, mean_of, more_than_chance
from models.claims.star_lab import CELLS, FORBIDDEN, begun, from_inside, from_left, from_masks
from models.loops.unmask.insertion import Draft, inserted, placed
from models.papers.ilm.method import AR, GREEDY, ILM, MDM
from models.papers.ilm.rule import pair
from models.worlds import stars
from models.worlds.world import Doc, exam

ARMS = {"insertion": ILM, "left to right": AR, "masks": MDM}
INFILL = {"insertion": ILM, "masks, two more or two fewer": MDM, "masks, the true number": MDM}
SEED, GAPS, PLANS = 91, 92, 93
CHANCE = 100 / stars.ARMS


def measure(lab: Lab):
    bundles = {name: load(of) for name, of in ARMS.items()}
    words, (inside, left, masks) = bundles["insertion"].tokenizer, (bundle.model for bundle in bundles.values())
    docs = {"uneven": exam(stars.KINDS["uneven"], SEED, lab.size(2000, 6)),
            "even": exam(stars.KINDS["even"], SEED, lab.size(500, 6))}
    asked = {kind: [begun(words, doc) for doc in some] for kind, some in docs.items()}
    made = {kind: dict(zip(ARMS, (from_inside(inside, words, asked[kind]), from_left(left, words, some),
                                  from_masks(masks, words, asked[kind])))) for kind, some in docs.items()}

    def arms(name: str, found: dict[str, list[str]], scored=lambda text, doc: stars.check(text), docs=()):
        return Metric(name, "%", floor=0.0, ceiling=100.0).arms(
            {arm: np.array([100.0 * scored(text, doc) for text, doc in zip(texts, docs or texts)])
             for arm, texts in found.items()}, {**ARMS, **INFILL}, Budget(1, "graphs"))

    right = {kind: arms(f"right ways, {kind} graphs", found) for kind, found in made.items()}
    first = arms("right first step at the centre, even graphs", made["even"],
                 lambda text, doc: answered(text)[1:2] == [doc.truth[1]], docs["even"])
    rng, some = np.random.default_rng(GAPS), exam(stars.KINDS["uneven"], GAPS, lab.size(500, 6))
    answers, missing, wrong = zip(*(hole(doc, rng) for doc in some), strict=True)
    gaps = [begun(words, doc, answer) for doc, answer in zip(some, answers, strict=True)]
    closed = dict(zip(INFILL, (from_inside(inside, words, gaps), from_masks(masks, words, gaps, wrong),
                               from_masks(masks, words, gaps, missing))))
    filled = arms("gaps closed right", closed)
    length = [100.0 * (len(answered(text)) == len(doc.truth)) for text, doc in zip(closed["insertion"], some)]
    plans = [place for doc in exam(stars.KINDS["uneven"], PLANS, lab.size(300, 4))
             if (place := begins(inside, begun(words, doc))) is not None]
    uneven, even = right["uneven"], right["even"]
    return conclude(
        "ilm", paper="ILMs beat autoregressive and masked-diffusion models on planning tasks and fill gaps of any "
        "length more flexibly (abstract).",
        here="On uneven and on even graphs insertion finds 20 points more of the ways than left to right, which on "
        "even ones takes an arm at random. Masks are not testable here: in as many steps they learned no ways.",
        arms=tuple(uneven.values()), trainings=1, seeds=(SEED, GAPS, PLANS),
        expect=[better(uneven["insertion"], uneven["left to right"], least=20),
                better(even["insertion"], even["left to right"], least=20),
                close_to(mean_of(first["left to right"]), CHANCE, 8)],
        controls=[more_than_chance(uneven["insertion"], CHANCE)],
        context=[context("gaps with as many nodes as are missing, insertion", np.array(length), "%"),
                 *(context(f"{arm.metric.name}, {arm.name}", arm)
                   for some in (uneven, even, first, filled) for arm in some.values()),
                 *(context(f"the first token put in is the {name} of the way", 100.0 * (np.array(plans) == end), "%")
                   for name, end in (("start", 0), ("goal", 1)))])


def hole(doc: Doc, rng: np.random.Generator) -> tuple[str, int, int]:
    """An answer with a gap between two of its nodes, how many are missing, and two more or fewer of them."""
    left = int(rng.integers(1, len(doc.truth) - 1))
    right = int(rng.integers(left + 1, len(doc.truth)))
    missing = right - left
    wrong = missing + (2 if missing <= 2 or rng.random() < 0.5 else -2)
    return f"{' '.join(doc.truth[:left])} ___ {' '.join(doc.truth[right:])}", missing, wrong


def answered(text: str) -> list[str]:
    return text.partition(stars.ANSWERS)[2].split()


def begins(model, text: Draft) -> float | None:
    """Where the first token that is put in stands in the end: 0 at the start, 1 at the goal; None where it is alone."""
    puts = list(inserted(model, text, lambda scores: pair(scores, GREEDY), 0.5, CELLS, FORBIDDEN))
    answer = placed(text, puts)[0][text.first:]
    return answer.index(len(text.ids)) / (len(answer) - 1) if len(answer) > 1 else None
