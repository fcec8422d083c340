"""iLLaMA: its network against the paper in formulas, the traps of its spec with their mutants, its record."""

import json

import numpy as np
import pytest
import torch

from models.backbones.packing import save_packed
from models.engine.method import run
from models.loops.attend import classifiers
from models.papers.illama import claim
from models.papers.illama import method as illama
from models.papers.illama.network import IllamaForImageClassification, soft_mask, softness_at, split_mask
from models.trace import states
from tests import tiny
from tests.photo_nets import photos
from tests.traps import caught

# The paper's network in plain formulas, as the reference code has it: complex rotary positions on adjacent pairs of
# channels, weights times S after the softmax. Each switch is a mistake that somebody would make.

def reference(net, pixels, a=0.0, *, renormalise=False, learned=True, rotary="1d", readout="last"):
    """Logits [B, C] of the network's own weights."""
    patches = torch.nn.functional.conv2d(pixels, net.patch_embeddings.weight, net.patch_embeddings.bias, stride=8)
    x = torch.cat([patches.flatten(2).transpose(1, 2), net.cls_token.expand(len(pixels), -1, -1)], 1)
    x = x + net.position_embeddings if learned else x
    for layer in net.layers:
        x = x + mixed(net, layer, normed(x, layer.input_layernorm), a, renormalise, rotary)
        y = normed(x, layer.post_attention_layernorm)
        gate, value = y @ layer.mlp.gate_proj.weight.T, y @ layer.mlp.up_proj.weight.T
        x = x + (gate * torch.sigmoid(gate) * value) @ layer.mlp.down_proj.weight.T
    x = normed(x, net.norm)
    return net.head({"last": x[:, -1], "mean": x[:, :-1].mean(1), "first": x[:, 0]}[readout])


def normed(x, norm):
    return norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def mixed(net, layer, x, a, renormalise, rotary):
    heads, width = net.config.num_attention_heads, net.config.head_dim
    q, k, v = (linear(x).unflatten(-1, (heads, width)).transpose(1, 2) for linear in
               (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj))
    q, k = (turned(adjacent(one), rotary) for one in (q, k))
    weights = (q @ k.transpose(-1, -2) / width**0.5).softmax(-1)
    count = x.shape[1]
    weights = weights * (a * torch.ones(count, count) + (1 - a) * torch.ones(count, count).tril())
    weights = weights / weights.sum(-1, keepdim=True) if renormalise else weights
    return layer.self_attn.o_proj((weights @ v).transpose(1, 2).flatten(2))


def adjacent(x):
    """The library turns channels (i, i + d/2), the reference (2i, 2i + 1): this moves the first to the second."""
    return torch.stack(x.chunk(2, -1), -1).flatten(-2)


def turned(x, rotary):
    """Complex rotation of [B, H, N, d] by the place in the sequence, by row and column, or not at all."""
    if rotary == "none":
        return x
    count, pairs = x.shape[2], x.shape[3] // 2
    place = torch.arange(count, dtype=torch.float32)
    turns = 10000.0 ** (-torch.arange(pairs) / pairs)
    angles = place[:, None] * turns
    if rotary == "2d":
        angles = torch.where(torch.arange(pairs) % 2 == 0, (place // 8)[:, None] * turns, (place % 8)[:, None] * turns)
    spun = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * torch.polar(torch.ones(()), angles)
    return torch.view_as_real(spun).flatten(-2)


def agrees(net, a=0.0, **mistake):
    pixels = photos()
    with torch.no_grad():
        torch.testing.assert_close(net(pixels, a), reference(net, pixels, a, **mistake), atol=1e-4, rtol=1e-4)


@pytest.fixture
def net():
    return tiny.fresh("photo-illama-1").eval().requires_grad_(False)


@pytest.mark.parametrize("a", (0.0, 0.3, 1.0))
def test_the_network_is_the_papers(net, a):
    caught(lambda mistake: agrees(net, a, **mistake), {}, {"learned": False}, {"rotary": "none"}, {"rotary": "2d"},
           {"readout": "mean"}, {"readout": "first"}, *([] if a == 1 else [{"renormalise": True}]))


def test_each_keys_weight_is_split_and_none_is_lost():
    def splits(mask):
        for a in (0.0, 0.25, 1.0):
            found = mask(torch.tensor(a), 9)[0, 0].exp()
            torch.testing.assert_close(found[:, :9] + found[:, 9:], torch.ones(9, 9))  # denominators of full attention
            torch.testing.assert_close(found[:, :9], soft_mask(torch.tensor(a), 9))
            assert (found[:, :9].triu(1) == 0).all() or a > 0, "what is deleted is exactly gone"

    caught(splits, split_mask, lambda a, count: split_mask(a, count).clamp_min(-5.0))


# Traps

@torch.no_grad()
def test_class_token_first_collapses_exactly_with_renormalised_rows():
    """No photo changes the answer. Mutants: deleting mass, which leaks through the denominators; pooling, which hides
    the collapse; a token that stands last."""
    net, pixels = tiny.fresh("photo-illama-first-2").eval(), photos()
    last = net.states(pixels, convention="before")[-1]

    def collapses(logits):
        assert float((logits - logits[:1]).abs().max()) < 1e-5

    caught(collapses, net.classify(last), net(pixels), net.head(net.norm(last.mean(1))),
           net.head(net.norm(last[:, -1])))


def test_what_future_tokens_leak(net):
    few = photos()
    after, before = claim.leaks(net, few)
    assert after.value > 0 and before.value == 0


def test_the_mask_is_hard_at_test_time(net):
    """Mutant: a schedule left on."""
    def triangular(softness):
        seen = classifiers.look(illama.arm_of(tiny.fresh("photo-illama-1").eval(), softness), photos(1))
        assert np.triu(seen.maps, 1).max() == 0 and seen.deleted[..., 0].min() > 0

    assert torch.equal(net(photos()), net(photos(), 0.0))
    caught(triangular, illama.Params().softness, 0.2)


def test_the_schedule_ends_before_training_does():
    def ends_early(at):
        assert [round(at(t), 6) for t in (0, 1 / 24, 1 / 12, 1 / 6, 0.5, 1)] == [1, 0.75, 0.5, 0, 0, 0]

    caught(ends_early, softness_at, lambda progress: 1 - progress)


def test_a_masked_dense_product_saves_nothing():
    seen = classifiers.look(illama.arm_of(tiny.fresh("photo-illama-1").eval()), photos(1))
    layers, heads, count, _ = seen.maps.shape
    width = 16
    weights = sum(w.numel() for w in tiny.fresh("photo-illama-1").layers[0].parameters() if w.dim() == 2)
    assert seen.costs[0].macs == count * weights + 2 * count * 2 * count * heads * width, "every key is read twice"
    facts = illama.work(seen)
    assert facts["triangular"].value == layers * heads * count * (count + 1) / 2 and "not timed" in facts[
        "triangular"].title


def test_a_checkpoint_says_its_convention(tmp_path):
    for convention in ("after", "before"):
        IllamaForImageClassification(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
                                     convention=convention).save_pretrained(tmp_path / convention)
        assert json.loads((tmp_path / convention / "config.json").read_text())["convention"] == convention
        assert IllamaForImageClassification.from_pretrained(tmp_path / convention).convention == convention
    with pytest.raises(ValueError, match="after"):
        IllamaForImageClassification(convention="during")


# One pass, and its record

def test_a_pass_is_the_networks_own(net):
    seen = classifiers.look(illama.arm_of(net), photos(1))
    torch.testing.assert_close(torch.from_numpy(seen.answers[-1:]), net(photos(1)).softmax(-1))
    np.testing.assert_allclose(seen.maps.sum(-1) + seen.deleted, 1, atol=1e-5)


def test_a_reading_order_takes_the_learned_positions_along(net):
    order = illama.order_of("snake", (8, 8))
    assert list(order[6:11]) == [6, 7, 15, 14, 13] and sorted(order) == list(range(64))
    arm = illama.arm_of(net, order="snake")
    assert all(arm.places[patch] == place for place, patch in enumerate(order))
    plain, snake = net.embed(photos(1)), net.embed(photos(1), torch.from_numpy(order.copy()))
    torch.testing.assert_close(snake[:, :-1], plain[:, :-1][:, order])
    assert not torch.allclose(arm.states(photos(1))[-1], net.states(photos(1))[-1])


def test_the_class_token_first_sees_nothing_in_the_record(tiny):
    first, last = (run("illama", checkpoint=name).traces["attend"] for name in (illama.FIRST, illama.LAST))
    assert all(step.fields["cls"].max() == 0 for step in first.steps if "cls" in step.fields)
    assert first.facts["cls"].value == 0 and last.facts["cls"].value > 0.1
    assert "no attention falls on the picture" in first.sentence and "what-if" not in last.sentence
    assert "what-if" in run("illama", params={"softness": 0.5}).traces["attend"].sentence


def test_snapshots_show_the_schedule(tmp_path):
    net = tiny.fresh("photo-illama-1")
    net.save_pretrained(tmp_path, config={**net._hub_mixin_config, "architectures": [type(net).__name__]})
    for step, a in ((150, 0.0), (75, 0.5)):
        folder = tmp_path / f"a-{100 * a:.0f}-percent"
        folder.mkdir()
        save_packed(net.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text((tmp_path / "config.json").read_text())
        (folder / "snapshot.json").write_text(json.dumps({"a": a, "progress": a / 6, "step": step}))
    trace = run("illama", checkpoint=str(tmp_path)).traces["attend"]
    assert [step.label for step in trace.steps[:3]] == ["reading order", "training step 75: a = 0.5",
                                                        "training step 150: a = 0"]
    assert trace.steps[1].fields["missing"].mean() < trace.steps[2].fields["missing"].mean()
    assert all((step.state == states("visible")[0]).all() for step in trace.steps)


def test_an_untrained_network_collapses_all_the_same(tiny):
    from models.checkpoints.store import load
    assert claim.collapse(load(illama.FIRST).model, photos()).value < 1e-5
    assert claim.collapse(load(illama.LAST).model, photos()).value > 1e-5
