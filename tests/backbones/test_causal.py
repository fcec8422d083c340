"""The causal grid network: codes shifted by one slot, caches of any cut, and what it takes from the masked one."""

import pytest
import torch
from transformers import DynamicCache

from models.backbones import causal
from models.backbones.causal import CausalTransformer, causal_mask

IDS = torch.randint(0, 20, (2, 16), generator=torch.Generator().manual_seed(1))
COND = torch.tensor([[1, 2], [3, 0]])


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = CausalTransformer(20, 32, 2, 4, 4, 64, grid=(4, 4), absolute=True, cond_vocab_size=5, cond_length=2).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return made.requires_grad_(False)


def test_no_code_sees_itself_or_a_later_one(net):
    changed = IDS.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 20
    before, after = net(IDS, COND), net(changed, COND)
    assert torch.allclose(before[:, :8], after[:, :8], atol=1e-5)
    assert not torch.allclose(before[:, 8:], after[:, 8:], atol=1e-2)


@pytest.mark.parametrize("cuts", [(1,) * 18, (3, 5, 1, 9), (18,)])
def test_slots_may_be_read_in_any_pieces(net, cuts):
    hidden, (cos, sin) = net.slots(IDS, COND)
    cache, found, at = DynamicCache(), [], 0
    for count in cuts:
        rows = slice(at, at + count)
        found.append(net.states(hidden[:, rows], (cos[:, rows], sin[:, rows]), cache))
        at += count
    assert torch.allclose(net.head(torch.cat(found, 1)[:, 2:]), net(IDS, COND), atol=1e-4)


def test_the_librarys_own_flag_would_be_wrong_behind_a_cache(net, monkeypatch):
    monkeypatch.setattr(causal, "causal_mask", lambda *_: None)
    with pytest.raises(AssertionError):
        test_slots_may_be_read_in_any_pieces(net, (3, 5, 1, 9))


def test_a_slot_by_itself_is_the_slot_of_the_picture(net):
    hidden, _ = net.slots(IDS, COND)
    assert torch.allclose(net.inputs(IDS[:, 4:7], 5), hidden[:, 2 + 5 : 2 + 8])


def test_no_mask_is_made_where_none_is_needed():
    assert causal_mask(1, 9, "cpu") is None and causal_mask(5, 0, "cpu") is None
    assert causal_mask(2, 3, "cpu")[0, 0].tolist() == [[True] * 4 + [False], [True] * 5]
