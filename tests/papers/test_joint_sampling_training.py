"""The recipe of ADJUST's layer: whose tokens it learns from, and that a resumed run goes on with the same texts."""

import copy

import numpy as np
import pytest
import torch

from models.papers.joint_sampling import recipe as text_joint
from models.papers.joint_sampling.recipe import LENGTH, ROUND, TextJoint


@pytest.fixture
def made(tiny, monkeypatch):
    """A recipe on the tiny trunk, in fp32, with prompts of one token that no draw may hide."""
    monkeypatch.setattr(text_joint, "BATCH", 3)

    def make():
        recipe = TextJoint(seed=5)
        recipe.autocast, recipe.pool = False, None
        recipe.trunk, recipe.revision = copy.deepcopy(tiny.bundle("text-mdm-1").model), "tiny"
        for weight in recipe.trunk.parameters():
            weight.data *= 6 if weight.dim() > 1 else 1  # so that tokens really depend on each other
        recipe.train = recipe.val = np.full(5 * LENGTH, 7, np.uint16)
        return recipe
    return make


def test_texts_are_whole_rounds_and_prompts_stay(made):
    recipe = made()
    before = recipe.refilled(0).clone()
    unknown = (before == recipe.trunk.mask_token_id).sum(1)
    assert bool((unknown % ROUND == 0).all()) and int(unknown.min()) >= ROUND
    batch = recipe.batch(0, 0.0)
    assert batch["ids"].shape == ((ROUND - 1) * 3, LENGTH) and bool(batch["counts"].any(1).all())
    after = recipe.pool
    assert bool(((after == before) | (before == recipe.trunk.mask_token_id)).all()), "only masks may be filled in"
    assert bool(((before == recipe.trunk.mask_token_id).sum(1) - (after == recipe.trunk.mask_token_id).sum(1)
                 == ROUND).all())
    assert float((after[after != before] == 7).float().mean()) < 0.5, "what is filled in is the trunk's, not the text's"


def test_full_texts_give_way_to_new_ones(made):
    recipe = made()
    for step in range(9):
        recipe.batch(step, 0.0)
    assert bool((recipe.refilled(9) == recipe.trunk.mask_token_id).any(1).all())


def resumed(make, forget: bool) -> dict:
    """The second batch of a run that was stopped after its first."""
    first, second = make(), make()
    first.batch(0, 0.0)
    second.load_state({"pool": None} if forget else first.state())
    return second.batch(1, 0.0)


def test_a_resumed_run_goes_on_with_its_texts(made):
    whole = made()
    whole.batch(0, 0.0)
    wanted = whole.batch(1, 0.0)["ids"]
    assert torch.equal(resumed(made, False)["ids"], wanted)
    assert not torch.equal(resumed(made, True)["ids"], wanted), "the mutant that forgets its texts must differ"


def test_the_loss_falls_on_one_batch(made):
    recipe = made()
    model, batch = recipe.build(), recipe.batch(0, 0.0)
    optimiser, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(12):
        loss, _ = recipe.loss(model, batch, 0.0)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.8 * losses[0]
    assert set(recipe.quick(model)) == {"KL", "KL unchanged"}
