"""Packed weights: what they cost, what lies in the file, and files that are not what they say."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.backbones import packing
from models.checkpoints import registry, store, verify
from models.checkpoints.registry import read
from models.checkpoints.verify import CheckpointError

SHAPES = {"matrix": (5, 70), "conv": (3, 2, 2, 2), "table": (96, 32), "zero": (2, 40)}


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    made = {name: torch.randn(shape) * torch.logspace(-3, 1, shape[0]).view(-1, *[1] * (len(shape) - 1))
            for name, shape in SHAPES.items()}
    return made | {"zero": torch.zeros(2, 40), "vector": torch.randn(4), "places": torch.arange(6).view(2, 3)}


@pytest.mark.parametrize("bits", [2, 4, 6, 8])
def test_a_file_gives_back_what_was_packed_within_its_bits(bits, tmp_path):
    state, path = weights(), tmp_path / "model.safetensors"
    packing.save_packed(state, path, bits)
    found = packing.read_packed(path)
    assert {name: one.shape for name, one in found.items()} == {name: one.shape for name, one in state.items()}
    for name in SHAPES:
        step = packing.grouped(state[name]).abs().amax(1) / 2 ** (bits - 1)
        off = packing.grouped(found[name] - state[name]).abs().amax(1)
        assert (off <= 1.6 * step + 1e-6).all(), name  # the short side of the range ends one step early
    assert torch.equal(found["places"], state["places"])
    torch.testing.assert_close(found["vector"], state["vector"], atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("bits, mean", [(4, 0.105), (6, 0.026), (8, 0.0065)])
def test_the_mean_error_of_a_normal_weight_is_that_of_its_bits(bits, mean):
    """Relative root mean square error: halves with each bit; the unsigned twin, a bit less, would not pass."""
    def cost(pack):
        made = pack(weight := torch.randn(256, 64, generator=torch.Generator().manual_seed(1)))
        return float((made - weight).norm() / weight.norm())
    def ours(weight):
        return packing.unpack_one(*packing.pack_one(weight, bits), bits, weight.shape)
    def symmetric(weight):
        return packing.unpack_one(*packing.pack_one(weight, bits - 1), bits - 1, weight.shape)
    assert cost(ours) < mean < cost(symmetric)


def test_bits_lie_where_the_docstring_says():
    whole = torch.arange(32, dtype=torch.float32)[None]
    packed = packing.to_bits(whole, 6)
    number = int.from_bytes(packed.numpy().tobytes(), "big")
    assert [number >> 6 * (31 - i) & 63 for i in range(32)] == list(range(32))
    assert packed.shape == (1, 24) and torch.equal(packing.from_bits(packed, 6), whole.to(torch.uint8))


def test_six_bits_take_six_and_a_half():
    tensors, _ = packing.pack({"w": torch.randn(512, 512)}, 6)
    assert sum(one.numel() * one.element_size() for one in tensors.values()) == 512 * 512 * 6.5 / 8


def test_int8_rows_of_before_are_still_read(tmp_path):
    save_file({"w": torch.tensor([[127, -64]], dtype=torch.int8), "w.scale": torch.tensor([0.5]).half(),
               "b": torch.ones(2).half()}, str(tmp_path / "model.safetensors"), metadata={"packing": "int8 rows"})
    found = packing.read_packed(tmp_path / "model.safetensors")
    assert torch.equal(found["w"], torch.tensor([[63.5, -32.0]])) and torch.equal(found["b"], torch.ones(2))


def test_an_ordinary_file_is_not_taken_for_a_packed_one(tmp_path):
    save_file({"weight": torch.zeros(2, 2)}, str(tmp_path / "plain.safetensors"))
    assert packing.read_packed(tmp_path / "plain.safetensors") is None


@pytest.fixture(scope="module", params=["scene-vq-2", "algo-arithmetic-1"])
def folder(request, tmp_path_factory):
    """A shipped checkpoint of the mixin's and of transformers' layout, packed at 6 bits."""
    name, made = request.param, tmp_path_factory.mktemp("packed") / request.param
    shutil.copytree(store.SHIPPED / name, made)
    (made / "card.json").unlink()
    packing.pack_file(made / "model.safetensors", 6)
    return made


@pytest.mark.weights
def test_a_packed_checkpoint_loads_as_its_ordinary_class(folder):
    plain, packed = read(store.SHIPPED / folder.name), store.load(str(folder), dtype="float32").model
    assert type(plain) is type(packed) and not packed.training
    for name, weight in plain.state_dict().items():
        if weight.dim() > 1:
            assert 0 < (packed.state_dict()[name] - weight).norm() / weight.norm() < 0.04, name
    size = [(place / "model.safetensors").stat().st_size for place in (folder, store.SHIPPED / folder.name)]
    assert size[0] < 0.55 * size[1]


@pytest.mark.weights
def test_memory_is_counted_for_the_weights_as_they_are_loaded(folder):
    now, then = (verify.loaded_bytes([place / "model.safetensors"], 4)
                 for place in (folder, store.SHIPPED / folder.name))
    assert now == then


def stated(folder, **changes) -> dict[str, str]:
    header = packing.header(folder / "model.safetensors")
    return header | {key: value(header[key]) for key, value in changes.items()}


def wider(text: str) -> str:
    weights = json.loads(text)
    name = next(iter(weights))
    weights[name]["shape"] = [10**6, 10**6]
    return json.dumps(weights)


BROKEN = {
    "unknown": ({"packing": lambda _: "runes"}, "packed as 'runes'"),
    "too large": ({"weights": wider}, "not the sizes"),
    "no list": ({"weights": lambda _: "[]"}, "does not say how"),
    "deep": ({"weights": lambda _: "[" * 200_000}, "does not say how"),
    "many bits": ({"weights": lambda text: text.replace('"bits": 6', '"bits": 60')}, "does not say how"),
    "words": ({"weights": lambda text: text.replace('"bits": 6', '"bits": "6"')}, "does not say how"),
    "other bits": ({"weights": lambda text: text.replace('"bits": 6', '"bits": 4')}, "not the sizes"),
}


@pytest.mark.weights
@pytest.mark.parametrize("kind", BROKEN)
def test_a_file_that_is_not_what_it_says_is_refused_with_a_sentence(kind, folder, tmp_path):
    changes, sentence = BROKEN[kind]
    place = shutil.copytree(folder, tmp_path / "broken")
    tensors = load_file(str(place / "model.safetensors"))
    packing.save(tensors, stated(folder, **changes), place / "model.safetensors")
    with pytest.raises(CheckpointError, match=sentence) as caught:
        store.load(str(place))
    assert str(caught.value).endswith("Please choose another checkpoint.") and "\n" not in str(caught.value)


def test_a_tied_weight_may_be_missing_and_another_may_not():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.head = torch.nn.Linear(2, 3, bias=False), torch.nn.Linear(2, 3, bias=False)
            self.head.weight = self.table.weight

    model = Tied()
    registry._fill(model, {"table.weight": torch.ones(3, 2)})
    assert (model.head.weight == 1).all()
    for wrong in ({}, {"table.weight": torch.ones(3, 2), "more": torch.ones(1)}):
        with pytest.raises(verify.WeightsError, match="another network"):
            registry._fill(model, wrong)


def test_a_name_that_the_packing_needs_is_refused():
    with pytest.raises(ValueError, match="w.scale"):
        packing.pack({"w": torch.zeros(4, 4), "w.scale": torch.zeros(4)})
