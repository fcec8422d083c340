"""The recipe of scene-enat-1: where it starts, and that training meets reused features as sampling will."""

import numpy as np
import pytest
import torch

from models.papers.enat import recipe as scene_enat
from models.papers.enat.network import EnatTransformer
from models.papers.enat.recipe import SceneENAT

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def recipe(tiny, monkeypatch):
    """The recipe on the tiny trunk, in fp32; pictures are random codes, which costs no tokenizer."""
    monkeypatch.setattr(scene_enat, "read_shipped", lambda name: tiny.bundle(name).model)
    made = SceneENAT(seed=5)
    made.autocast = False

    def captioned(rng, progress):
        return rng.integers(0, tiny.scene_tokenizer().codebook_size, (4, 64)), rng.integers(0, 37, (4, 4))

    monkeypatch.setattr(made, "captioned", captioned)
    return made


def test_it_starts_as_its_trunk(tiny, recipe):
    trunk, model = tiny.bundle("scene-mgm-1").model, recipe.build()
    ours = model.state_dict()
    assert all(torch.equal(ours[name], weight) for name, weight in trunk.state_dict().items())
    for layer in model.layers:
        assert torch.equal(layer.support_k_proj.weight, layer.self_attn.k_proj.weight)
        assert torch.equal(layer.support_v_proj.weight, layer.self_attn.v_proj.weight)
    x = torch.randn(2, 3, 32)
    assert torch.equal(model.reuse(x), x), "an untrained projection hands features on as they are"


def test_half_of_the_batches_simulate_earlier_passes(recipe):
    recipe.build()
    batches = [recipe.batch(step, 0.9)["seen"].tolist() for step in range(400)]
    reusing = [seen for seen in batches if len(seen) > 1]
    assert 0.42 < len(reusing) / len(batches) < 0.58
    assert all(0 < a < b for seen in reusing for a, b in zip(seen, seen[1:])), "every pass must show more"
    assert {0, 63} <= {seen[-1] for seen in batches}, "the empty canvas and the last token are both met in sampling"
    assert max(map(len, reusing)) > 3 and 0.15 < np.mean([seen[-1] / 64 for seen in batches]) < 0.4


def gradients(recipe, batch) -> tuple[float, float]:
    """How strongly P and the teacher are asked to change by one batch."""
    model = recipe.build()
    recipe.teacher.requires_grad_(True)
    torch.nn.init.normal_(model.reuse.narrow.weight, std=0.1)
    loss, _ = recipe.loss(model, batch, 0.9)
    loss.backward()
    return tuple(sum(float(p.grad.abs().sum()) for p in part.parameters() if p.grad is not None)
                 for part in (model.reuse, recipe.teacher))


def test_reuse_is_learned_from_features_of_the_teacher(recipe):
    """Without the simulation nothing teaches P, and sampling with reuse would meet a network that never saw it."""
    batch = next(b for b in (recipe.batch(step, 0.9) for step in range(20)) if len(b["seen"]) > 1)
    reuse, teacher = gradients(recipe, batch)
    assert reuse > 0 and teacher == 0, "the features of earlier passes carry no gradient"
    alone, _ = gradients(recipe, batch | {"seen": batch["seen"][-1:]})
    assert alone == 0, "the mutant that simulates no earlier pass must leave P untaught"


def test_the_lesson_is_the_pass_that_sampling_makes(recipe):
    """The loss against the network's own forward, one earlier pass after the other."""
    model, batch = recipe.build(), next(b for b in map(recipe.batch, range(20), [0.9] * 20) if len(b["seen"]) > 2)
    before, (*earlier, now) = None, batch["seen"].tolist()
    with torch.no_grad():
        for count in earlier:
            ids = batch["ids"].masked_fill(batch["rank"] >= count, model.mask_token_id)
            before = recipe.teacher(ids, batch["cond"], before).state
        hidden = batch["rank"] >= now
        look = model(batch["ids"].masked_fill(hidden, model.mask_token_id), batch["cond"], before)
        logp = model.head(look.hidden).log_softmax(-1)
        truth = batch["ids"].gather(1, look.positions)
        wanted = -logp.gather(2, truth[..., None]).mean()
        assert torch.allclose(recipe.loss(model, batch, 0.9)[0], wanted, atol=1e-5)


def test_the_teacher_is_the_average_and_is_shipped(recipe):
    model = recipe.build()
    assert isinstance(recipe.final(model), EnatTransformer) and recipe.final(model) is recipe.teacher
    with torch.no_grad():
        model.embed_tokens.weight += 1
    before = recipe.teacher.embed_tokens.weight.clone()
    recipe.after_step(model, 10_000, 0.9)
    moved = (recipe.teacher.embed_tokens.weight - before).mean()
    assert float(moved) == pytest.approx(1 - recipe.average, rel=0.01)
    saved = recipe.state()
    other = SceneENAT(seed=5)
    other.build()
    other.load_state(saved)
    assert torch.equal(other.teacher.embed_tokens.weight, recipe.teacher.embed_tokens.weight)


def test_the_loss_falls_on_one_batch(recipe):
    model, batch = recipe.build(), recipe.batch(1, 0.9)
    optimiser, losses = torch.optim.Adam(model.parameters(), 3e-3), []
    for _ in range(12):
        loss, _ = recipe.loss(model, batch, 0.9)
        losses.append(float(loss.detach()))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert losses[-1] < 0.9 * losses[0]
