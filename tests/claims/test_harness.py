"""Claims that cannot flatter: intervals decide, small samples and unequal budgets do not, a failed control blocks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models import claims
from models.checkpoints import store
from models.claims import judging, trained
from models.claims.arms import Budget, ClaimError, Metric, Tuned, advantage, mean_of, ratio
from models.claims.harness import (
    Claim,
    as_good,
    at_least,
    at_most,
    better,
    conclude,
    context,
    more_than_chance,
    reworded,
)
from models.claims.timing import interleaved, times_faster

RIGHT = Metric("right answers", "of 1", floor=0.1, ceiling=1.0)
ERROR = Metric("error", "MSE", "lower", floor=2.0, ceiling=0.0)


def scores(level: float, count: int = 400, spread: float = 0.3, seed: int = 0) -> np.ndarray:
    found = np.random.default_rng(seed).normal(0, spread, count)
    return level + found - found.mean()


def arm(level: float, name: str = "mine", count: int = 400, spend: float = 1.0, metric: Metric = RIGHT, seed: int = 0,
        **options):
    return metric.arm(name, scores(level, count, seed=seed), budget=Budget(spend, "passes"), **options)


def other(level: float, count: int = 400, **options):
    return arm(level, options.pop("name", "other"), count, seed=1, **options)


def concluded(expect, controls=(), trainings=0, arms=None, **options) -> Claim:
    arms = arms or list({id(a): a for e in (*expect, *controls) for a in (e.mine, e.other) if a is not None}.values())
    return conclude("mae", paper="p", here="h", arms=arms, expect=expect, controls=controls, trainings=trainings,
                    **options)


# ---- one expectation


def judged_on_the_mean(row) -> bool:
    """Mutant: the point alone."""
    return row.value > row.bar


def test_a_point_on_the_right_side_whose_interval_crosses_the_bar_does_not_count():
    row = judging.judge(better(arm(0.53, count=60), other(0.50, count=60)))
    assert row.value > 0 and row.low < 0 and row.met is False and not row.missed
    assert judged_on_the_mean(row), "the mutant takes it for a win"
    assert judging.judge(better(arm(0.7), other(0.5))).met is True


def test_better_knows_the_direction_and_the_least_effect():
    low, high = arm(0.5, "low", metric=ERROR), other(1.0, name="high", metric=ERROR)
    assert judging.judge(better(low, high)).met and judging.judge(better(high, low)).missed
    row = judging.judge(better(low, high, least=40, by="percent"))
    assert row.met and row.value == pytest.approx(50) and row.unit == "%" and row.ceiling == pytest.approx(100)
    assert not judging.judge(better(low, high, least=49.5, by="percent")).met, "the interval reaches below the bar"


def test_percentages_differ_by_points():
    """20 % against 10 % is ten points more and twice as much; "10 %" would be read as either."""
    share = Metric("photos right", "% of photos", floor=0.0, ceiling=100.0)
    mine, low = (share.arm(name, scores(level), budget=Budget(1, "passes")) for name, level in (("a", 20), ("b", 10)))
    asked = better(mine, low), more_than_chance(mine, 10.0), better(mine, low, by="percent"), at_least(mine, 15)
    assert [judging.judge(one).unit for one in asked] == ["points", "points", "%", "% of photos"]
    assert advantage(arm(0.5), other(0.4)).unit == "of 1"


def test_as_good_needs_a_sample_that_could_have_failed():
    few, many = 25, 3000
    row = judging.judge(as_good(arm(0.5, count=few), other(0.5, count=few), within=0.05))
    assert row.met is None and "more items" in row.why_context
    assert judging.judge(as_good(arm(0.5, count=many), other(0.5, count=many), within=0.05)).met
    assert judging.judge(as_good(arm(0.3), other(0.6), within=0.05)).missed, "a clear miss needs no more power"


def test_five_equal_answers_are_no_equality():
    """Mutant: the bootstrap of five differences of exactly 0 has no width at all."""
    same = np.array([1, 0, 1, 1, 0], float)
    mine, theirs = (RIGHT.arm(name, same, budget=Budget(1, "passes")) for name in "ab")
    assert as_good(mine, theirs, within=0.05).quantity.interval()[1:] == (0, 0)
    assert judging.judge(as_good(mine, theirs, within=0.05)).met is None
    mine, theirs = (RIGHT.arm(name, np.tile(same, 6), budget=Budget(1, "passes")) for name in "ab")
    row = judging.judge(as_good(mine, theirs, within=0.05))
    assert row.met is None and row.low == pytest.approx(-3 / 30 * 0.9), "30 ties leave room for 9 points"
    mine, theirs = (RIGHT.arm(name, np.tile(same, 60), budget=Budget(1, "passes")) for name in "ab")
    assert judging.judge(as_good(mine, theirs, within=0.05)).met


def test_as_good_is_one_sided_unless_it_says_otherwise():
    mine, theirs = arm(0.7), other(0.5)
    assert judging.judge(as_good(mine, theirs, within=0.1)).met
    assert judging.judge(as_good(mine, theirs, within=0.1, both_sides=True)).missed


@pytest.mark.parametrize("asked, why", [
    (lambda: better(arm(0.9), other(0.85), least=0.2), "beyond the best"),
    (lambda: better(arm(0.9), other(0.8), least=-0.9), "cannot be missed"),
    (lambda: as_good(arm(0.5), other(0.2), within=0.3), "down to the floor"),
    (lambda: as_good(arm(0.1), other(0.12), within=0.015), "floor of right answers"),
    (lambda: better(arm(0.1), other(0.1)), "floor of right answers"),
    (lambda: better(arm(1.0), other(1.0)), "beyond the best"),
    (lambda: better(arm(0.995), other(0.99)), "ceiling of right answers"),
    (lambda: at_least(mean_of(arm(0.8)), 1.1), "beyond the best"),
    (lambda: at_most(mean_of(arm(0.8)), 1.5), "cannot be missed"),
])
def test_what_cannot_fail_or_cannot_be_reached_is_context(asked, why):
    row = judging.judge(asked())
    assert row.met is None and why in row.why_context, row


def test_budgets_and_tuning_that_favour_the_arm_are_refused():
    cheap, dear = other(0.5, spend=1.0), arm(0.9, spend=1.1)
    assert "spends more" in judging.judge(better(dear, cheap)).why_context
    told = judging.judge(better(dear, cheap, unmatched="the paper compares so"))
    assert told.met and "not matched: the paper compares so" in told.note
    uneven = RIGHT.arm("uneven", scores(0.9), budget=Budget(np.tile([0.5, 1.5], 200), "passes"))
    assert "50 % of the items" in judging.judge(better(uneven, cheap)).why_context, "mutant: equal on average"
    assert "on average, not" in judging.judge(better(uneven, cheap, on_average=True)).note
    assert judging.judge(better(uneven, other(0.5, spend=0.9), on_average=True)).met is None
    with pytest.raises(ClaimError, match="has two budgets"):  # mutant: a copy of the arm that states its mean
        concluded([better(replace(uneven, budget=Budget(1.0, "passes")), cheap)], arms=[uneven])
    assert judging.judge(better(arm(0.9, spend=0.5), cheap)).note == "for 50 % of its passes"
    assert "tuned more" in judging.judge(better(arm(0.9, tuned=Tuned(9, "other captions")), cheap)).why_context
    apart = RIGHT.arm("apart", scores(0.9), budget=Budget(1, "tokens"))
    assert "stated in tokens and in passes" in judging.judge(better(apart, cheap)).why_context


def test_chance_bounds_and_ratios_are_judged_on_intervals():
    assert judging.judge(more_than_chance(arm(0.3), 0.1)).met
    assert not judging.judge(more_than_chance(arm(0.11), 0.1)).met
    half = RIGHT.arm("half", np.tile([1.0, 0.3], 25), budget=Budget(1, "passes"))
    row = judging.judge(at_least(half, 0.6))
    assert row.value == pytest.approx(0.65) and row.met is False, "0.618 [0.49, 0.76] is not at least 0.6"
    assert judging.judge(at_least(ratio(arm(0.9), other(0.3), "ratio"), 2)).met
    assert judging.judge(at_most(ratio(arm(0.3), other(0.9), "ratio"), 0.5)).met


def test_declarations_that_are_wrong_are_refused_at_once():
    with pytest.raises(ClaimError, match="same items"):
        better(arm(0.5), other(0.5, count=300))
    with pytest.raises(ClaimError, match="finite score"):
        RIGHT.arm("x", [0.1, np.nan], budget=Budget(1, "passes"))
    with pytest.raises(TypeError, match="budget"):
        RIGHT.arm("x", scores(0.1))
    with pytest.raises(ClaimError, match="give an arm its runs"):
        concluded([better(arm(0.5), other(0.4))], trainings=2)
    with pytest.raises(ClaimError, match="no number"):
        judging.judge(at_least(ratio(np.ones(30), np.zeros(30), "x"), 1))
    with pytest.raises(ClaimError, match="on which other items"):
        Tuned(4)
    with pytest.raises(ClaimError, match="'ours' or 'paper"):
        better(arm(0.5), other(0.5), bar="somewhere")
    with pytest.raises(ClaimError, match="1 to 8"):
        concluded([better(arm(0.5), other(0.4))] * 9)
    with pytest.raises(ClaimError, match="floor and ceiling"):
        open_ended = Metric("bits", "bits per character", "lower")
        concluded([better(arm(0.5, metric=open_ended), other(0.5, metric=open_ended))])


def test_every_training_must_pass_the_bar():
    """Mutant: three trainings pooled, one of which lost, give an interval above 0."""
    runs = [scores(level, seed=seed) for seed, level in enumerate((0.9, 0.9, 0.45))]
    mine, theirs = RIGHT.arm("mine", runs=runs, budget=Budget(1, "passes")), other(0.5)
    row = judging.judge(better(mine, theirs))
    assert row.low > 0 and row.met is False and row.note == "in each training 0.4, 0.4, -0.05"
    assert judging.judge(better(RIGHT.arm("pooled", np.mean(runs, 0), budget=Budget(1, "passes")), theirs)).met
    assert judging.judge(better(mine, theirs, least=-5, by="percent")).note == "in each training 80, 80, -10"


def test_no_arm_is_compared_unseen_and_no_two_have_one_name():
    mine, theirs, more = arm(0.7), other(0.5), other(0.4, name="third")
    found = concluded([better(mine, theirs), better(mine, more)], arms=[mine])
    assert list(found.budgets) == ["mine", "other", "third"] and len(found.arms) == 3
    both = concluded([better(mine, theirs), better(arm(0.5, metric=ERROR), other(1.0, metric=ERROR))], arms=[mine])
    assert list(both.budgets) == ["mine (right answers)", "other (right answers)", "mine (error)", "other (error)"]
    with pytest.raises(ClaimError, match="two arms are called 'mine'"):
        concluded([better(mine, theirs), better(arm(0.9), theirs)])


def test_the_range_of_a_mean_knows_the_direction():
    assert (mean_of(arm(0.5)).floor, mean_of(arm(0.5)).ceiling) == (0.1, 1.0)
    assert (mean_of(arm(0.5, metric=ERROR)).floor, mean_of(arm(0.5, metric=ERROR)).ceiling) == (0.0, 2.0)
    half = Metric("m", "", ceiling=1.0)
    assert (mean_of(arm(0.5, metric=half)).floor, mean_of(arm(0.5, metric=half)).ceiling) == (None, 1.0)


# ---- the verdict

GOOD = better(arm(0.7), other(0.5))
MISS = better(arm(0.4, "weak"), other(0.6, name="strong"))
TWICE = better(RIGHT.arm("mine", runs=[scores(0.65), scores(0.75)], budget=Budget(1, "passes")), other(0.5))
OPEN = better(arm(0.51, "close", count=60), other(0.5, count=60, name="near"))
SEEN = better(arm(0.8, "drawn"), other(0.5), name="drawn over other")
BLIND = better(arm(0.51, "drawn", count=60), other(0.5, count=60, name="few"), name="drawn over other")


@pytest.mark.parametrize("expect, controls, trainings, wanted", [
    ([GOOD], [SEEN], 0, "holds"), ([TWICE], [SEEN], 2, "holds"), ([GOOD], [SEEN], 1, "met in one training"),
    ([GOOD, MISS], [SEEN], 0, "mixed"), ([GOOD, OPEN], [SEEN], 0, "mixed"), ([MISS], [SEEN], 0, "does not hold"),
    ([MISS], [], 0, "not testable here"), ([OPEN], [SEEN], 0, "not testable here"),
    ([GOOD], [BLIND], 0, "not testable here"), ([MISS], [BLIND], 0, "not testable here"),
    ([GOOD, better(arm(0.9, "high"), other(0.8, name="higher"), least=0.5)], [SEEN], 0, "not testable here"),
])
def test_the_verdict_follows_the_rows(expect, controls, trainings, wanted):
    found = concluded(expect, controls, trainings, arms=[expect[0].mine, expect[0].other])
    assert found.verdict == wanted and found.verdict in claims.VERDICTS and found.reason
    assert bool(found.what_it_would_take) or wanted not in ("met in one training", "not testable here")


def test_a_failed_control_blocks_the_headline_and_is_named():
    found = concluded([GOOD], [BLIND], arms=[GOOD.mine, GOOD.other])
    assert found.verdict == "not testable here" and "Positive control failed: drawn over other" in found.reason
    ignoring = concluded([GOOD], [], arms=[GOOD.mine, GOOD.other])
    assert ignoring.verdict == "holds", "mutant: a claim that leaves the control out"


def test_an_open_question_says_how_many_items_it_takes():
    found = concluded([OPEN], [SEEN], arms=[OPEN.mine, OPEN.other])
    assert "items" in found.what_it_would_take and "Not shown" in found.reason
    assert judging.more_items(judging.judge(OPEN)) > 60


def test_the_reason_is_made_from_the_rows():
    reason = concluded([GOOD, MISS], [SEEN], arms=[GOOD.mine, GOOD.other]).reason
    assert reason.startswith("1 of 2 expectations met. Met: right answers: mine minus other, 0.2 [")
    assert "Missed: right answers: weak minus strong, -0.2 [" in reason
    assert "above 0 (ours)" in reason


def test_seeds_are_averaged_because_items_are_what_is_independent():
    many = RIGHT.arm("many", np.tile(scores(0.5, 30), (50, 1)), budget=Budget(1, "passes"))
    assert len(many.scores) == 30
    flat = RIGHT.arm("flat", np.tile(scores(0.5, 30), (50, 1)).ravel(), budget=Budget(1, "passes"))
    width = [np.ptp(mean_of(a).interval()[1:]) for a in (many, flat)]
    assert width[1] < 0.3 * width[0], "mutant: 50 seeds taken for 50 times the items"


# ---- stamps, cards, times, files


def test_everything_that_is_loaded_is_stamped(tiny):
    with store.measured() as stamps:
        store.load("photo-mae-1")
        with store.measured() as inner:
            store.load("photo-mae-1")  # from memory now
            store.load("photo-vit-1")
    store.load("text-ar-1")
    assert set(stamps) == {"photo-mae-1"} and set(inner) == {"photo-mae-1", "photo-vit-1"}


def test_a_stale_stamp_is_seen():
    name = next(iter(store.shipped()))
    now = store.revision(name)
    assert len(now) == 12 and not store.stale({name: now})
    assert store.stale({name: "0" * 12}) == {name: now} and store.stale({"gone-1": now}) == {"gone-1": ""}
    assert store.revision("text-electra-1/generator"), "a part without a card of its own has a hash"


@pytest.mark.parametrize("path", sorted(claims.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_no_shipped_claim_is_stale(path):
    saved = json.loads(path.read_text("utf-8"))
    assert claims.stamps(saved) and not store.stale(claims.stamps(saved)), f"python -m models claims {path.stem}"


@pytest.mark.parametrize("path", sorted(claims.FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_no_shipped_verdict_was_written_by_hand(path):
    saved = json.loads(path.read_text("utf-8"))
    if saved.get("version") == 2:
        assert reworded(saved) == saved and 1 <= len(saved["rows"]) <= 8
        blind = {**saved, "controls": [{**r, "met": False} for r in saved["controls"]]}
        assert reworded(blind)["verdict"] == "not testable here" or not saved["controls"]


def test_who_was_trained_for_longer_is_read_from_the_cards(monkeypatch):
    cards = {"a": {"steps": 440, "examples_seen": 12_928, "minutes": 9.0},
             "b": {"steps": 1922, "examples_seen": 146_072, "minutes": 32.0}}
    monkeypatch.setattr(store, "shipped", lambda: cards)
    told = trained.longer(["a", "b", "a"])
    assert "b saw 11.3 times the examples of a; b saw 3.6 times the minutes of a." in told and "440 steps" in told
    cards["b"] = cards["a"]
    assert "About equal by examples; about equal by minutes." in trained.longer(["a", "b"])
    assert trained.longer(["a"]) == ""
    mine, theirs = arm(0.7, checkpoints=("b", "codes")), other(0.5, checkpoints=("b", "codes"))
    assert concluded([better(mine, theirs)]).trainings["longer"] == "", "one network in both arms: nothing to compare"


def test_times_are_paired_within_rounds():
    """A machine that slows down in the middle: the ratio stays, a ratio of separate blocks would not."""
    now = [0.0]
    load = lambda: 1.0 if now[0] < 60 else 9.0  # noqa: E731
    wait = lambda times: now.__setitem__(0, now[0] + times * load())  # noqa: E731
    ways = {"slow": lambda: wait(2), "fast": lambda: wait(1)}
    taken = interleaved(ways, 40, clock=lambda: now[0])
    found = times_faster(taken, "slow", "fast")
    assert found.interval()[0] == pytest.approx(2) and len(found.items) == 40
    assert judging.judge(at_least(found, 1.5)).met


def test_a_claim_is_written_and_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "FOLDER", tmp_path)
    found = concluded([GOOD, MISS], [SEEN], arms=[GOOD.mine, GOOD.other], seeds=(0, 1), context=[
        context("passes", 6, "passes", "a count"), context("scores", scores(0.3), "of 1"), context("mine", GOOD.mine)])
    claims.save(found)
    saved = claims.read("mae")
    assert saved["version"] == 2 and saved["verdict"] == "mixed" and saved["budgets"]["mine"]["mean"] == 1
    assert {"name", "kind", "value", "low", "high", "n", "unit", "bar", "bar_from", "floor", "ceiling", "met",
            "why_context"} <= set(saved["rows"][0])
    assert reworded(saved) == saved
    assert [r["met"] for r in saved["rows"]] == [True, False] and saved["context"][0]["why_context"] == "a count"


def test_the_page_shows_a_claim():
    from visualizers.page import claims as shown_as
    new = concluded([GOOD, MISS], [SEEN], arms=[GOOD.mine, GOOD.other]).to_json()
    shown = json.dumps(shown_as.claim(json.loads(json.dumps(new)), True), ensure_ascii=False)
    assert all(part in shown for part in ("In part.", "1 of 2 expectations met", "Controls", "✕ missed", "-0.4"))
    for verdict in claims.VERDICTS:
        assert shown_as.claim({**new, "verdict": verdict}, True)
