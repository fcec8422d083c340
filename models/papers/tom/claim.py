"""The claim of the stories: 500 questions of each order with 0 to 8 infills, every second one of what is not so, put to
A, B and C. Ten stories are a tiny sample; ToMi and BigToM are asked in claim_smollm2.py."""

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.arms import Quantity
from models.claims.harness import Budget, Metric, at_least, at_most, better, conclude, context
from models.papers.tom import exams
from models.papers.tom.materials import LEVELS, exam
from models.papers.tom.method import FAR, NEW, OLD
from models.worlds.tales import beliefs

SEED, ONCE = 301, Budget(1, "passes")
ARMS = {"B": NEW, "A": OLD, "C": FAR}


def measure(lab: Lab):
    asked, words = exam(SEED, lab.size(500, 20)), load(NEW).tokenizer
    levels = LEVELS[:: lab.size(1, 3)]
    found = {name: exams.sat(load(checkpoint).model, words, asked, SEED, levels) for name, checkpoint in ARMS.items()}
    simple = exams.trivial(asked)
    best = max(simple, key=lambda name: simple[name].mean())
    score = Metric("right answers", "of 1", floor=float(simple[best].mean()), ceiling=1.0)
    arms = score.arms({name: one[..., 0].mean((1, 2)) for name, one in found.items()} | simple, ARMS, budget=ONCE)
    rows = {name: one[..., 0].reshape(len(asked), -1) for name, one in found.items()}
    both, apart = np.hstack([rows["A"], rows["B"]]), np.hstack([rows["A"], rows["C"]])

    def sign(name: str, which: int) -> Quantity:
        return Quantity(name, both, "log odds", exams.coefficient(which, levels, 2))
    spread = found["B"][..., 2].mean(2) + found["A"][..., 2].mean(2)  # [K, orders]
    return conclude(
        "tom", paper="More infills slightly reduce accuracy; Llama 2 is consistently better than GPT-2, most at low "
        "temperature; answers vary more for questions of the first and second order (abstract, without numbers; ten "
        "stories).",
        here="On 500 stories for each order and number of infills: every further infill and every order lowers the "
        "odds of a right answer, B's are above A's, infills cost A more than C, which learned with up to 8; entropy is "
        "higher for order 2 than for order 0; B is above the best of three answerers who know nothing of minds.",
        arms=tuple(arms.values()), trainings=1, seeds=(SEED,),
        expect=[at_most(sign("log odds for each infill, A and B", exams.INFILLS), 0.0, bar="paper: abstract"),
                at_most(sign("log odds for each order, A and B", exams.ORDER), 0.0, bar="paper: abstract"),
                at_least(sign("log odds of B over A", exams.MODEL), 0.0, bar="paper: abstract"),
                at_most(Quantity("log odds for each infill, A minus C", apart, "log odds",
                                 exams.slope_apart(levels)), 0.0),
                at_least(Quantity("entropy at the answer, order 2 minus order 0, mean of A and B",
                                  (spread[:, 2] - spread[:, 0]) / 2, "nats"), 0.0, bar="paper: abstract"),
                better(arms["B"], arms[best])],
        controls=[at_least(Quantity("right, B, order 0", found["B"][:, 0, :, 0].mean(1), "of 1", floor=0.5,
                                    ceiling=1.0), 0.9)],
        context=[*by_order(found), *apart_from_own(found, len(levels)), *new_words(lab, words),
                 context("log odds for each infill, C alone",
                         Quantity("", rows["C"], "log odds", exams.coefficient(exams.INFILLS, levels)))])


def by_order(found) -> list:
    return [context(f"right, {name}, order {order}, {what} infills", one[:, order, at, 0], "of 1")
            for name, one in found.items() for order in range(3) for what, at in (("no", 0), ("most", -1))]


def apart_from_own(found, levels: int) -> list:
    """Only the questions whose answer is not where the thing really is: who follows his own knowledge fails here."""
    return [context(f"right where a belief is false, {name}, order {order}", one[1::2, order, :, 0].mean(1), "of 1")
            for name, one in found.items() for order in (1, 2)]


def new_words(lab: Lab, words) -> list:
    """Names and things that no belief story of the training has, and then questions in other words."""
    made = {"new names and things": {"names": beliefs.NEW_NAMES, "objects": beliefs.NEW_OBJECTS},
            "questions in new words": {"forms": beliefs.NEW_ASKED}}
    return [context(f"right, B, {what}", exams.sat(load(NEW).model, words, exam(SEED, lab.size(200, 4), **how), SEED,
                                                   (0,))[..., 0].mean((1, 2)), "of 1") for what, how in made.items()]
