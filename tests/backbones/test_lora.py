"""Low-rank changes: nothing at first, only they learn, and merging leaves an ordinary model that answers the same."""

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from models.backbones import lora
from models.backbones.lora import adapt, merge


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=20, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True)).eval()


def ids():
    return torch.arange(12).view(2, 6) + 3


def answer(model):
    with torch.no_grad():
        return model(ids()).logits


def taught(model):
    """One step of plain gradient descent on whatever may learn."""
    model(ids(), labels=ids()).loss.backward()
    with torch.no_grad():
        for part in model.parameters():
            if part.grad is not None:
                part -= 0.5 * part.grad
    return model


def test_an_untrained_change_changes_nothing_and_only_changes_learn():
    plain, model = answer(llama()), adapt(llama(), 4, 8.0)
    assert torch.equal(answer(model), plain)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    taught(taught(model))
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved and all(".change." in name for name in moved)
    assert not torch.equal(answer(model), plain)


def test_merging_leaves_an_ordinary_model_that_answers_the_same():
    model = taught(taught(adapt(llama(), 4, 8.0)))
    before, names = answer(model), set(llama().state_dict())
    merge(model)
    assert set(model.state_dict()) == names
    torch.testing.assert_close(answer(model), before, atol=1e-5, rtol=1e-4)


def test_a_change_merged_without_its_scale_would_show(monkeypatch):
    model = taught(taught(adapt(llama(), 4, 8.0)))
    before = answer(model)
    monkeypatch.setattr(lora.LowRank, "matrix", lambda self: self.up.weight @ self.down.weight)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(answer(merge(model)), before, atol=1e-5, rtol=1e-4)


def test_a_changed_body_shares_every_weight_and_leaves_the_other_alone():
    base = llama().requires_grad_(False)
    plain, kinds = answer(base), [type(module) for module in base.modules()]
    found = lora.changes(16, 32, 8, 2, 4, 8.0)
    nn.init.normal_(found[0]["q_proj"].up.weight)
    body = lora.changed(base.model, found)
    assert [type(module) for module in base.modules()] == kinds and torch.equal(answer(base), plain)
    own = {weight.data_ptr() for weight in body.parameters()}
    assert {weight.data_ptr() for weight in base.model.parameters()} <= own
    assert {weight.data_ptr() for weight in found.parameters()} <= own
    assert not any(weight.requires_grad for weight in base.parameters())
    with torch.no_grad():
        assert not torch.allclose(body(ids()).last_hidden_state, base.model(ids()).last_hidden_state)


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(ValueError, match="no linear layer"):
        adapt(nn.Sequential(nn.Linear(2, 2)), 1, 1.0)
