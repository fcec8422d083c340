"""One token in one call of C: what the layers say, wherever it serves, and the layers where it does not."""

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import kernels
from kernels import native
from models.backbones import instrument
from models.backbones.one_token import next_logits, one_token
from models.loops.sample.cached_lm import Stream

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def library():
    try:
        return native.load(native.library())
    except LookupError:
        pytest.skip("no C compiler here, so the layers serve")


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=48, intermediate_size=80, num_hidden_layers=3,
                                            num_attention_heads=6, num_key_value_heads=3, head_dim=16))
    for weight in made.parameters():  # or attention would be even, and a wrong angle unseen
        weight.data *= 8 if weight.ndim == 2 else 1 + torch.rand_like(weight)
    return made.eval().requires_grad_(False)


@pytest.fixture
def calls(library, monkeypatch):
    """How many tokens went the short way."""
    monkeypatch.setattr(native, "_rows", library)
    found = []
    token = kernels.decode_token
    monkeypatch.setattr(kernels, "decode_token", lambda *given: found.append(1) or token(*given))
    return found


def ids(texts: int, tokens: int) -> torch.Tensor:
    return torch.randint(0, 64, (texts, tokens), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("texts", (1, 2, 3, 7, 16))
def test_it_says_what_the_layers_say_of_every_token(model, calls, texts):
    asked, cache = ids(texts, 80), DynamicCache()  # more than a cache's room
    with torch.inference_mode():
        said = [next_logits(model, part, cache, 0) for part in asked.split([2, *[1] * 78], 1)]
        there = model(asked).logits
    assert len(calls) == 78 and cache.get_seq_length() == 80
    assert torch.allclose(torch.cat(said, 1), there, atol=1e-4, rtol=1e-4) and there.std() > 0.1


def test_texts_that_part_do_not_hear_of_each_other(model, calls):
    stream = Stream(model)
    stream.read(ids(1, 5))
    stream.push([3])
    left, right = stream.fork(1), stream.fork(1)
    left.push([7])
    right.push([9])
    stream.push([11])
    for one, words in ((left, [3, 7]), (right, [3, 9]), (stream, [3, 11])):
        one.push([1])
        whole = torch.cat([ids(1, 5), torch.tensor([[*words, 1]])], 1)
        assert torch.allclose(one.logits, model(whole).logits[:, -1], atol=1e-4, rtol=1e-4)
    assert len(calls) == 7


def test_what_was_cut_off_is_written_over(model, calls):
    stream = Stream(model)
    stream.read(ids(2, 5))
    for word in (1, 2, 3):
        stream.push([word, word])
    stream.crop(6)
    stream.push([8, 9])
    whole = torch.cat([ids(2, 5), torch.tensor([[1, 8], [1, 9]])], 1)
    assert torch.allclose(stream.logits, model(whole).logits[:, -1], atol=1e-4, rtol=1e-4) and len(calls) == 4


def test_whoever_looks_inside_is_shown_the_layers(model, calls):
    def again() -> int:
        cache = DynamicCache()
        next_logits(model, ids(1, 3), cache)
        before = len(calls)
        next_logits(model, ids(1, 1), cache)
        return len(calls) - before

    with torch.inference_mode():
        assert again() == 1
        with instrument.observe(model) as seen:
            assert again() == 0 and len(seen) == 3
        for part in (model.model.layers[1], model.model.layers[1].mlp):
            hook = part.register_forward_hook(lambda *given: None)
            assert again() == 0
            hook.remove()
        with kernels.override("reference"):
            assert again() == 0
    with torch.enable_grad():
        assert again() == 0


def test_a_layer_with_more_to_it_is_called(model, calls):
    other = LlamaForCausalLM(LlamaConfig(**{**model.config.to_dict(), "attention_bias": True}))
    with torch.inference_mode():
        for layers in (other.model.layers, model.model.layers[:2]):  # biases; a cache of more layers than these
            cache = DynamicCache()
            model(ids(1, 3), past_key_values=cache)
            angles = model.model.rotary_emb(torch.zeros(1, 1, 48), torch.tensor([[3]]))
            assert one_token(layers, torch.zeros(1, 1, 48), angles, cache) is None and cache.get_seq_length() == 3
    assert not calls
