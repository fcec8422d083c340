"""MaskGIT: the schedule, the annealed noise and the parser's reading."""

import math

import pytest
import torch

from models.baselines.maskgit import method as maskgit
from models.engine.method import prepare, run
from models.loops.unmask.loop import Full, Plan, fill, moves
from models.trace import Fact
from models.trace.subject import from_text
from models.worlds import scenes


@pytest.mark.parametrize("kind, share, wrong", [
    ("cosine", lambda r: math.cos(math.pi / 2 * r), "cubic"), ("cubic", lambda r: 1 - r**3, "cosine")])
def test_a_schedule_leaves_the_papers_share_masked(kind, share, wrong):
    def leaves(kind):
        counts = [move.count for move in moves(256, 16, kind)]
        for step in range(1, 17):  # every step fills in one at least
            assert abs(256 - sum(counts[:step]) - min(256 * share(step / 16), 256 - step)) <= 1

    leaves(kind)
    for other in (wrong, "linear"):
        with pytest.raises(AssertionError):
            leaves(other)


def test_the_default_schedule_is_the_one_that_the_card_names(tiny):
    assert maskgit.Params().schedule == "cubic" and "cubic schedule" in maskgit.METHOD.card.summary
    shown = [len(step.where("new")) for step in run("maskgit", params={"steps": 16}).traces["unmask"].steps]
    assert shown == [move.count for move in moves(256, 16, "cubic")] != [move.count for move in moves(256, 16)]


def test_noise_is_annealed_to_zero(tiny, monkeypatch):
    import kernels
    seen, real = [], kernels.unmask_step
    monkeypatch.setattr(kernels, "unmask_step",
                        lambda *a, **k: seen.append(k["gumbel_temperature"]) or real(*a, **k))
    run("maskgit", params={"steps": 4, "noise": 2.0})
    assert seen == [1.5, 1.0, 0.5, 0.0]


def test_confidence_keeps_the_best_guesses_and_a_random_order_does_not(tiny):
    model = tiny.bundle("scene-mgm-1").model
    given = maskgit.scene_board(model, tiny.scene_tokenizer(), "red circle")

    def kept_best(order) -> bool:
        plan = Plan(moves(256, 4), Full(model, given.cond), order)
        turn = next(iter(fill(given.ids, given.mask_id, plan, torch.Generator().manual_seed(0))))
        return bool(turn.confidence[turn.revealed].min() >= turn.confidence[~turn.revealed].max())

    assert kept_best("confidence") and not kept_best("random")


def test_the_score_reads_the_picture_not_the_model(monkeypatch, tiny):
    """A perfect scene scores 1, an empty one 0, one with an object too many 1/2."""
    def score(caption, drawn):
        class Painted:
            paint = staticmethod(lambda ids: scenes.draw(drawn))
        facts = maskgit.scene_facts(Painted, maskgit.Record(ids=torch.zeros(1)), caption)
        return facts["score"].value, facts["broken"].value

    circle, ring = scenes.Thing("red", "circle", 3), scenes.Thing("blue", "ring", 9)
    assert score("red circle", [circle]) == (1.0, 0.0)
    assert score("red circle", []) == (0.0, 0.0)
    assert score("red circle", [circle, ring]) == (0.5, 0.0)


def test_one_step_and_more_steps_than_asked_run(tiny):
    for steps in (1, 128):
        trace = run("maskgit", from_text("green diamond", "caption"), {"steps": steps}).traces["unmask"]
        assert len(trace.steps) == steps and isinstance(trace.facts["score"], Fact)


@pytest.mark.weights
def test_the_shipped_model_paints_what_is_asked(shipped):
    shipped("scene-mgm-1", "scene-vq-1")
    def mean(steps):
        return sum(run("maskgit", from_text(e.source, "caption"), {"steps": steps}, seed=seed)
                   .traces["unmask"].facts["score"].value for e in maskgit.EXAMPLES for seed in (0, 1)) / 8
    many, few = mean(prepare("maskgit").params.steps), mean(1)
    assert many >= 0.6 and few <= many - 0.3
