"""A second network around the same weights: nothing copied, nothing set on the first."""

import copy

import torch

from models.backbones.around import around
from models.checkpoints.store import load
from tests.traps import caught


def test_what_is_changed_there_is_not_seen_by_the_first(tiny):
    """Mutant: the network itself, whose layers others run."""
    ids = torch.arange(9)[None]

    def alone(make) -> bool:
        net = copy.deepcopy(load("text-ar-1").model)
        before, twin = list(net.model.layers), make(net)
        twin.model.layers = twin.model.layers[:1]
        twin.model.norm.weight = torch.nn.Parameter(torch.zeros_like(twin.model.norm.weight))
        twin.model.register_forward_pre_hook(lambda *_: 1 / 0)
        try:
            return list(net.model.layers) == before and bool(net(ids).logits.any())
        except ZeroDivisionError:
            return False
    caught(alone, around, copy.copy)
    net = load("text-ar-1").model
    shared = {part.data_ptr() for part in (*net.parameters(), *net.buffers())}
    assert {part.data_ptr() for part in (*around(net).parameters(), *around(net).buffers())} == shared


def test_it_says_the_same_and_with_other_weights_what_they_say(tiny):
    net, ids = load("text-ar-1").model, torch.arange(9)[None]
    weight = net.model.layers[0].mlp.up_proj.weight
    put = {id(weight): torch.nn.Parameter(2 * weight.detach(), requires_grad=False)}
    other = copy.deepcopy(net)
    other.model.layers[0].mlp.up_proj.weight.data *= 2
    assert torch.equal(around(net)(ids).logits, net(ids).logits)
    assert torch.equal(around(net, put)(ids).logits, other(ids).logits)
    assert not torch.equal(other(ids).logits, net(ids).logits)
    assert around(net).lm_head.weight is around(net).model.embed_tokens.weight, "tied as before"
