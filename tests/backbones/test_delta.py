"""Checkpoints as differences: to this trunk at this revision, read as the ordinary class, refused otherwise."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from models.backbones import delta, packing
from models.checkpoints import registry, store, verify
from models.checkpoints.verify import CheckpointError, fingerprint

TRUNK = "scene-ar-draft-1"


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """A shelf with one trunk on it."""
    shutil.copytree(store.SHIPPED / TRUNK, tmp_path / TRUNK)
    for module in (registry, store):
        monkeypatch.setattr(module, "SHIPPED", tmp_path)
    store.unload()
    yield tmp_path
    store.unload()


def trained(shelf, much: float = 0.02) -> dict[str, torch.Tensor]:
    """The trunk's weights after what a short training might do: a change of low rank, and noise."""
    torch.manual_seed(0)
    state = {name: one.float() for name, one in load_file(str(shelf / TRUNK / "model.safetensors")).items()}
    for one in state.values():
        if one.dim() > 1:
            flat = one.flatten(1)
            change = torch.randn(len(flat), 2) @ torch.randn(2, flat.shape[1])
            one += much * one.std() * (change + 0.05 * torch.randn_like(flat)).view(one.shape)
        else:
            one += 0.01
    return state


def written(shelf, state, **how):
    """A checkpoint's folder that holds a difference."""
    folder = shelf / "child"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text((shelf / TRUNK / "config.json").read_text())
    delta.save_difference(state, registry.trunk(TRUNK), folder / "model.safetensors", **how)
    return folder


@pytest.mark.weights
@pytest.mark.parametrize("how, far", [({"bits": 4}, 0.12), ({"bits": 6}, 0.03),
                                      ({"bits": 4, "group": 64}, 0.13), ({"rank": 2, "bits": 0}, 0.06),
                                      ({"rank": 2, "bits": 6}, 0.08)])
def test_a_difference_loads_as_the_ordinary_class_near_what_was_trained(how, far, shipped):
    state = trained(shipped)
    folder = written(shipped, state, **how)
    bundle = store.load("child", dtype="float32")
    trunk = store.load(TRUNK, dtype="float32")
    assert type(bundle.model) is type(trunk.model)
    base, found = trunk.model.state_dict(), bundle.model.state_dict()
    for name, one in state.items():
        if one.dim() > 1:
            assert (found[name] - one).norm() < far * (base[name] - one).norm(), name
        else:
            torch.testing.assert_close(found[name], one, atol=1e-3, rtol=1e-3)
    assert (folder / "model.safetensors").stat().st_size < 0.45 * (shipped / TRUNK / "model.safetensors").stat().st_size
    assert bundle.revision == fingerprint(folder / "model.safetensors")[:12]


@pytest.mark.weights
def test_a_weight_that_the_trunk_has_not_stands_on_its_own(shipped):
    state = trained(shipped) | {"extra": torch.randn(40, 40)}
    folder = written(shipped, state)
    found = registry.unpacked(folder)
    assert (found["extra"] - state["extra"]).norm() < 0.04 * state["extra"].norm()


@pytest.mark.weights
def test_what_the_checkpoint_has_no_more_is_left(shipped):
    state = trained(shipped)
    gone = next(iter(state))
    folder = written(shipped, {name: one for name, one in state.items() if name != gone})
    assert set(registry.unpacked(folder)) == set(state) - {gone}


@pytest.mark.weights
def test_what_did_not_change_takes_no_room(shipped):
    state = {name: one.float() for name, one in load_file(str(shipped / TRUNK / "model.safetensors")).items()}
    folder = written(shipped, state)
    assert (folder / "model.safetensors").stat().st_size < 1000
    found = registry.unpacked(folder)
    assert all(torch.equal(found[name], one) for name, one in state.items())


@pytest.mark.weights
def test_another_revision_of_the_trunk_is_refused(shipped):
    written(shipped, trained(shipped))
    packing.pack_file(shipped / TRUNK / "model.safetensors", 6)
    (shipped / TRUNK / "card.json").unlink()
    with pytest.raises(CheckpointError, match=f"is a difference to {TRUNK} at [0-9a-f]{{12}}, and the one here is"):
        store.load("child")


@pytest.mark.weights
@pytest.mark.parametrize("trunk", ["no-such-1", "../" + TRUNK, "", "child", "."])
def test_only_a_shipped_checkpoint_can_be_a_trunk(trunk, shipped):
    folder = written(shipped, trained(shipped))
    tensors, header = packing.read(folder / "model.safetensors")
    packing.save(tensors, header | {"trunk": trunk}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="which is not shipped here"):
        store.load(str(folder))


@pytest.mark.weights
def test_a_trunk_may_differ_from_a_trunk_but_no_further(shipped):
    """What starts from a tuned trunk is shipped as the little that it changed."""
    state = trained(shipped)
    written(shipped, state)
    for name, trunk in (("grandchild", registry.trunk("child")), ("too-far", delta.Trunk("grandchild", "0" * 12, {}))):
        folder = shutil.copytree(shipped / "child", shipped / name)
        delta.save_difference({key: 1.01 * one for key, one in state.items()}, trunk, folder / "model.safetensors")
    found = dict(store.load("grandchild").model.named_parameters())
    for name, one in found.items():
        torch.testing.assert_close(one.float(), 1.01 * state[name], atol=0.05 * float(state[name].std()), rtol=0)
    assert len(registry.trunk_file(shipped / "grandchild" / "model.safetensors")) == 2
    with pytest.raises(CheckpointError, match="which is not shipped here"):
        store.load("too-far")


def widened(one: dict) -> dict:
    return one | {"shape": [2 * one["shape"][0], *one["shape"][1:]]}


@pytest.mark.weights
@pytest.mark.parametrize("change, sentence", [
    (widened, "not the sizes"),
    (lambda one: one | {"group": 48}, "how its weights are packed"), (lambda one: one | {"rank": 2}, "not the sizes"),
    (lambda one: {"shape": one["shape"]}, "does not say how")])
def test_a_list_that_does_not_fit_is_refused(change, sentence, shipped):
    folder = written(shipped, trained(shipped))
    tensors, header = packing.read(folder / "model.safetensors")
    weights = json.loads(header["weights"])
    name = next(iter(weights))
    packing.save(tensors, header | {"weights": json.dumps(weights | {name: change(weights[name])})},
                 folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=sentence):
        store.load(str(folder))


@pytest.mark.weights
def test_a_product_larger_than_its_trunk_is_never_made(shipped):
    folder = written(shipped, trained(shipped), rank=1)
    tensors, header = packing.read(folder / "model.safetensors")
    weights = json.loads(header["weights"])
    name = next(iter(weights))
    side = 100_000  # its product would take 40 GB
    tensors |= {name + packing.UP: torch.zeros(side, 1).half(), name + packing.DOWN: torch.zeros(1, side).half()}
    for own in ({}, {"own": True}):
        weights[name] = {"shape": [side, side], "rank": 1, **own}
        packing.save(tensors, header | {"weights": json.dumps(weights)}, folder / "model.safetensors")
        with pytest.raises(CheckpointError, match="MB of memory"):
            store.load(str(folder))
        with pytest.raises(verify.WeightsError, match="another shape there"):
            registry.unpacked(folder)


@pytest.mark.weights
def test_a_mask_keeps_some_weights_of_its_trunk_at_one_bit_each(shipped):
    base = registry.trunk(TRUNK)
    masks = {name: torch.rand(one.shape) < 0.3 for name, one in base.state.items() if one.dim() > 1}
    folder = shipped / "bits"
    folder.mkdir()
    delta.save_masks(masks, base, folder / "model.safetensors")
    found = registry.unpacked(folder)
    for name, one in base.state.items():
        assert torch.equal(found[name], one.float() * masks.get(name, torch.ones(())))
    held = sum(mask.numel() for mask in masks.values())
    assert (folder / "model.safetensors").stat().st_size < held / 8 + 6000
    assert verify.contents(folder / "model.safetensors")  # its sizes are as stated
