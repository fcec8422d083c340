"""Prune on a picture: the prefill of a plan, one-stage plans, a visitor's choice, and which questions are asked."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.backbones.vlm import normalise
from models.claims.picture_lab import EncodedScenes, covered, looked_at_rule, random_rule
from models.engine.method import run
from models.loops.prune import pictures
from models.loops.prune.pictures import (
    PicturePlan,
    answer_logits,
    by_hand,
    encoded,
    everything,
    last_state,
    one_stage,
    prefill,
)
from models.trace.subject import SubjectError, from_text
from models.worlds.questions import KINDS, exam
from tests import tiny
from tests.traps import caught

ASKED = from_text("small pink ring, blue square, white cross. what colour is the small thing?", "question")


@pytest.fixture(scope="module")
def model():
    return tiny.scene_vlm().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def seen(model):
    case = exam(5, 1)[0]
    return encoded(model, tiny.question_tokenizer(), case.picture, case.questions[0])


@torch.no_grad()
def test_nothing_pruned_is_the_model_itself(model, seen):
    logits = model(normalise(torch.from_numpy(seen.picture)[None]), torch.tensor([seen.ids]))
    state = last_state(model, prefill(model, everything(seen), seen.ids)[1])
    assert torch.allclose(answer_logits(model, state), logits[0], atol=1e-3)


@pytest.mark.parametrize("kept", [0.05, 0.1, 0.137, 0.25, 0.8, 1.0])
def test_one_stage_spends_the_layer_average_to_the_last_patch(seen, kept):
    view = seen._replace(layers=8)

    def spends(plan: PicturePlan) -> bool:
        return sum(plan.counts(8)) == round(kept * 64 * 8)

    rounded = PicturePlan(torch.arange(round(kept * 64) + 1), view.features, torch.rand(64))  # as many at every layer
    caught(spends, one_stage(view, kept, torch.rand(64)), rounded)


def cut_twice(seen) -> PicturePlan:
    """Half of the patches enter, and more leave before two of the four layers."""
    score = torch.rand(64, generator=torch.Generator().manual_seed(0))
    return replace(one_stage(seen, 0.5, score), cuts={1: 12, 3: 15})


def test_the_sequence_is_really_shorter_and_words_never_leave(model, seen):
    made = cut_twice(seen)
    (pruner, now), (whole, _) = (prefill(model, one, seen.ids) for one in (made, everything(seen)))
    counts = made.counts(4)
    for sheet in now.sheets:
        assert len(sheet.rows) == len(sheet.alive) == counts[sheet.layer] + len(seen.ids)
        assert set(range(64, 64 + len(seen.ids))) <= set(sheet.alive.tolist())
    stored = 2 * 2 * 16 * 4 * (sum(counts) + 4 * len(seen.ids))  # keys and values, two heads of 16, four bytes
    caught(lambda store: store.bytes == stored and store.macs < 0.6 * whole.store.macs, pruner.store,
           whole.store)  # masking alone would leave all of these


@torch.no_grad()
def test_survivors_keep_their_places(model, seen):
    made = cut_twice(seen)
    mine = last_state(model, prefill(model, made, seen.ids)[1])

    def by_the_library(renumbered: bool) -> bool:
        """The library's own layers on shortened tensors give the same last state."""
        lm, places = model.lm.model, [*made.kept.tolist(), *range(64, 64 + len(seen.ids))]
        hidden = torch.cat([model.visual(made.features), lm.embed_tokens(torch.tensor([seen.ids]))], 1)
        for layer in range(4):
            lowest = sorted((p for p in places if p < 64), key=lambda p: float(made.importance[p]))
            stay = [i for i, p in enumerate(places) if p not in lowest[: made.cuts.get(layer, 0)]]
            hidden, places = hidden[:, stay], [places[i] for i in stay]
            where = torch.arange(len(places)) if renumbered else torch.tensor(places)
            hidden = lm.layers[layer](hidden, position_embeddings=lm.rotary_emb(hidden, where[None]))
        return torch.allclose(mine, lm.norm(hidden)[0, -1], atol=1e-3)

    caught(by_the_library, False, True)


def test_a_visitors_patches_enter_as_they_are(model, seen):
    made = one_stage(seen, 0.25, torch.rand(64))
    mine = by_hand(made, seen, (tuple(range(len(made.kept))),))
    assert mine.kept.tolist() == list(range(len(made.kept))) and not mine.groups
    assert torch.equal(mine.features, seen.features[:, mine.kept]) and mine.counts(4) == made.counts(4)
    with pytest.raises(SubjectError, match="Please choose"):
        by_hand(made, seen, ((0, 1),))


@pytest.mark.parametrize("id", ["random-keep", "top-attention"])
def test_all_methods_of_the_tab_read_the_same_picture(id, tiny):
    trace = run(id, ASKED, {"kept": 0.25}, checkpoint="scene-vlm-1", seed=4).traces["prune"]
    mine = run("vflowopt", ASKED, seed=4).traces["prune"]
    assert np.array_equal(trace.canvas.picture, mine.canvas.picture) and trace.facts["budget"].value == 25


@pytest.mark.parametrize("text", ["red circle", "red circle. what is it?", "red circle. what colour is the square?"])
def test_a_question_that_cannot_be_answered_is_refused(text, tiny):
    with pytest.raises(SubjectError) as refusal:
        run("vflowopt", from_text(text, "question"))
    assert len(str(refusal.value)) < 250 and str(refusal.value).endswith(".")


def test_only_kinds_that_are_answered_are_asked():
    card = {"metrics": {f"exact answers, {kind}": {"value": 0.49 if kind == "side" else 0.95} for kind in KINDS}}
    assert pictures.able(card) == tuple(kind for kind in KINDS if kind != "side") and pictures.able({}) == KINDS


def test_rules_of_a_claim_spend_the_budget_they_are_given(tiny):
    board = EncodedScenes.of(3)
    budget = np.array([40.0, 26.0, 256.0])
    for rule in (random_rule(budget, 1), looked_at_rule(budget)):
        assert board.sit(rule).spent.tolist() == budget.tolist()
    inside = board.ranked_inside(np.array([100.0, 130.0, 256.0])).spent
    assert (inside <= [100, 130, 256]).all() and (inside > [97, 127, 253]).all(), "whole patches of three layers"


def test_the_ceiling_sees_where_the_things_are_and_no_question():
    case = exam(5, 1)[0]
    pixels = covered(case, (8, 8))
    things = np.abs(case.picture.astype(int) - np.median(case.picture, (0, 1))).sum(2) > 200  # the lit ground is near
    counted = things.reshape(8, 8, 8, 8).sum((1, 3)).ravel()
    assert torch.equal(pixels, covered(case._replace(questions=[]), (8, 8)))
    assert np.corrcoef(pixels, counted)[0, 1] > 0.95
    assert np.corrcoef(pixels.view(8, 8).T.ravel(), counted)[0, 1] < 0.95  # the mutant: rows for columns
