"""The claim of navigation, on all 48 lists of the tales: distinct right things after 50 completions, and whether what
lies near the first ones in key space is wrong more often than what has the same rank elsewhere."""

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.arms import Quantity
from models.claims.harness import Budget, Metric, as_good, at_least, at_most, close_to, conclude, context
from models.engine.statistics import spearman
from models.papers.icn.keys import clusters, gap, main, shuffled
from models.papers.icn.method import Params
from models.papers.icn.navigation import Navigator
from models.worlds.tales import lists

ROUNDS, FIRSTS, CLUSTERS, CANDIDATES, TOP, PENALTY = 10, 5, 64, 100, 10, 1.2
ENOUGH = Budget(ROUNDS * FIRSTS, "completions")


def measure(lab: Lab):
    bundle = load("tale-ar-1")
    categories = list(lists.MEMBERS)[:: lab.size(1, 16)]
    walks = {category: Navigator(bundle, lists.opening(category)) for category in categories}
    found = {name: [list(walk.rounds(Params(rounds=ROUNDS, firsts=FIRSTS, navigate=name == "ICN")))
                    for walk in walks.values()] for name in ("ICN", "one fixed ranking")}
    items = {name: [[walk.reads(item.ids) for one in rounds for item in one.found]
                    for walk, rounds in zip(walks.values(), of, strict=True)] for name, of in found.items()}
    items["repetition penalty"] = [penalised(walk, ROUNDS * FIRSTS) for walk in walks.values()]
    most = np.array([min(ROUNDS * FIRSTS, len(lists.MEMBERS[one])) for one in categories], float)
    score = Metric("different right things", "things", floor=0.0, ceiling=most)
    arms = {name: score.arm(name, [len(set(some) & set(lists.MEMBERS[one])) for some, one in zip(
        of, categories, strict=True)], budget=ENOUGH, checkpoints="tale-ar-1") for name, of in items.items()}
    icn, fixed, penalty = arms["ICN"], arms["one fixed ranking"], arms["repetition penalty"]
    real, random, lost = near_and_elsewhere(walks)
    first = [np.mean([item in lists.MEMBERS[one] for item in some[:TOP]])
             for some, one in zip(items["one fixed ranking"], categories, strict=True)]
    falls = [spearman(np.arange(len(rounds)), np.array(old_keys(rounds))) for rounds in found["ICN"]]
    span = {"floor": -1.0, "ceiling": 1.0}
    return conclude(
        "icn", paper="Words that a model ranks in the middle lean towards those that resemble its first ones; a "
                     "search among its words finds right new ones efficiently and gives more diverse answers "
                     "(abstract, without numbers).",
        here="On the lists of the tales, 50 completions give at least 1.2 times as many different right things as "
        "walking down one ranking, and no fewer than a repetition penalty; words elsewhere in key space are right more "
        "often than words near the first ones at the same rank, which random clusters do not show.",
        arms=tuple(arms.values()), trainings=0, seeds=(0,),
        expect=[at_least(Quantity("different right things, ICN minus 1.2 times one fixed ranking",
                                  icn.scores - 1.2 * fixed.scores, "things", floor=-1.2 * float(most.mean()),
                                  ceiling=float(most.mean() - 1.2 * fixed.scores.mean())), 0.0),
                as_good(icn, penalty, within=1.0),
                at_least(Quantity("right elsewhere minus right near, at the same rank", real, "of 1", **span), 0.0),
                at_most(Quantity("rank correlation of the round with the first round's logits", np.array(falls),
                                 "rank correlation", **span), -0.8, bar="ours")],
        controls=[close_to(Quantity("the same with random clusters", random, "of 1", **span), 0.0, 0.1),
                  at_least(Quantity("right of the first ranking's first ten", np.array(first), "of 1", floor=0.0,
                                    ceiling=1.0), 0.5)],
        context=[context("lists on which no rank has both kinds", float(lost), "lists"),
                 context("members of a list", most, "things")])


def near_and_elsewhere(walks: dict[str, Navigator]) -> tuple[np.ndarray, np.ndarray, int]:
    """The gap of each list by its real clusters and by random ones; how many lists have none."""
    real, random, lost = [], [], 0
    found = clusters(next(iter(walks.values())).keys, CLUSTERS)
    for seed, (category, walk) in enumerate(walks.items()):
        ranked = walk.ranked(walk.look(walk.opening).logits, set(), CANDIDATES)
        items = walk.completed(walk.opening, ranked)
        right = np.array([walk.reads(item) in lists.MEMBERS[category] for item in items[TOP:]], float)
        mine, other = (gap(right, main(ranked, of, TOP)) for of in (found, shuffled(found, seed)))
        if np.isnan(mine) or np.isnan(other):
            lost += 1
            continue
        real.append(mine)
        random.append(other)
    return np.array(real), np.array(random), lost


def old_keys(rounds) -> list[float]:
    """Mean logit in every round of the words that the first round took."""
    ids = [item.ids[0] for item in rounds[0].found]
    return [float(one.logits[ids].mean()) for one in rounds]


def penalised(walk: Navigator, count: int) -> list[str]:
    """One item after the other behind the list so far, likeliest word first, with the usual penalty on words that the
    text holds already: a positive logit is divided, a negative one multiplied by it (arXiv 1909.05858)."""
    found, text = [], list(walk.opening)
    for _ in range(count):
        logits = walk.look(text).logits
        held = sorted(set(text))
        logits[held] = logits[held].where(logits[held] < 0, logits[held] / PENALTY).where(
            logits[held] > 0, logits[held] * PENALTY)
        first = walk.ranked(logits, set(), 1)
        item = walk.completed(text, first)[0]
        found.append(walk.reads(item))
        text += [*item, walk.comma]
    return found
