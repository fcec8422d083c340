"""Arms of one pretraining: what is refused, what is shipped and what the card counts."""
import json

import pytest
import torch

from models.checkpoints import registry, store
from tests.training.test_kinds import Toy, prepared
from tests.traps import caught
from training import export, pretraining
from training.pretraining import PretrainingArm
from training.trainer import Trainer

START = "toy-start-1"


class ToyMore(PretrainingArm, Toy):
    name, start, steps, looks, asked = "toy-more-1", START, 12, 3, 8


class ToyArm(ToyMore):
    """Differs in its loss."""

    name, control = "toy-arm-1", "toy-more-1"

    def loss(self, model, batch, progress):
        loss, logs = super().loss(model, batch, progress)
        return 2 * loss, logs


class OtherRate(ToyArm):
    lr = 0.5


class FewerSteps(ToyArm):
    steps = 11


class OtherBatches(ToyArm):
    def batch(self, step, progress):
        return super().batch(step + 1, progress)


class Explained(OtherRate):
    differs = {"lr": "a test"}


@pytest.fixture
def started(tmp_path, monkeypatch):
    """A shipped start, trained for three steps."""
    shelf = tmp_path / "shelf"
    for module in (export, registry, store):
        monkeypatch.setattr(module, "SHIPPED", shelf)
    monkeypatch.setattr(pretraining, "recipe", lambda name: {"toy-more-1": ToyMore}[name])
    store.unload()
    first = Trainer(prepared(type("Start", (Toy,), {"name": START})), steps=3, folder=tmp_path, say=lambda line: None)
    export.export(first, first.run())
    yield tmp_path
    store.unload()


def trainer(kind, folder, seed=2):
    return Trainer(prepared(kind, seed), folder=folder, say=lambda line: None)


def test_an_arm_that_differs_in_more_than_one_thing_is_refused(started):
    def taken(kind):
        try:
            return trainer(kind, started) is not None
        except ValueError as error:
            assert "toy-more-1 differ in" in str(error)
            return False

    caught(taken, ToyArm, OtherRate, FewerSteps, OtherBatches)
    assert taken(Explained)


def test_arms_start_from_the_start_and_are_shipped_as_differences_with_their_curves(started):
    ours = [trainer(kind, started) for kind in (ToyMore, ToyArm)]
    base = registry.read(export.SHIPPED / START).state_dict()
    for one in ours:
        assert all(torch.equal(base[name], weight) for name, weight in one.model.state_dict().items())
        trained = one.run()
        state = {name: weight.clone() for name, weight in trained.state_dict().items()}
        card = export.export(one, trained)
        assert one.step == 12 and card["steps"] == 15 and card["recipe"].endswith("--seed 2 --steps 12 --warm")
        assert card["stored"].startswith(f"3 bits a weight of difference to {START} at ")
        found = store.load(one.recipe.name, dtype="float32").model.state_dict()
        assert max(float((found[name] - state[name]).norm() / state[name].norm()) for name in state) < 0.1
        curve = json.loads((export.SHIPPED / one.recipe.name / "curve.json").read_text())
        assert [point["step"] for point in curve] == [0, 4, 8] and set(curve[0]) > {"step"}
    weights = [one.model.state_dict() for one in ours]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in base)


def test_what_the_other_kind_holds_still_stays_as_it_is(started):
    class Fixed(Toy):
        def build(self):
            model = super().build()
            model.model.embed_tokens.weight.requires_grad_(False)
            return model

    arm = trainer(type("FixedArm", (PretrainingArm, Fixed), {"name": "fixed-1", "start": START, "steps": 3}), started)
    before = arm.model.model.embed_tokens.weight.clone()
    assert torch.equal(before, registry.read(export.SHIPPED / START).model.embed_tokens.weight)
    assert torch.equal(arm.run().model.embed_tokens.weight, before)


def test_a_network_with_other_parts_says_which(started):
    def with_head(**options):
        def build(self):
            model = super(kind, self).build()
            model.projector = torch.nn.Linear(2, 2)
            return model
        kind = type("WithHead", (ToyArm,), {"build": build, **options})
        return kind

    assert trainer(with_head(new=("projector",)), started).before["steps"] == 3
    with pytest.raises(ValueError, match="do not share projector"):
        trainer(with_head(), started)
