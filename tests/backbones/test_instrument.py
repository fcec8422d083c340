"""observe(): the same outputs and attention as eager maps, padding included, on every layout and many threads."""

import contextvars
import gc
import threading
import weakref
from functools import cache

import pytest
import torch

from models.backbones import instrument
from models.backbones.instrument import SWAPPED, observe

SIZES = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}
pytestmark = pytest.mark.usefixtures("one_thread")


@cache
def build(name):
    """A tiny random model of each layout."""
    import transformers as t

    words = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0, **SIZES}
    vision = {"image_size": 32, "patch_size": 8, **SIZES}
    decoder = {"decoder_hidden_size": 32, "decoder_num_attention_heads": 4, "decoder_num_hidden_layers": 1,
               "decoder_intermediate_size": 48}
    torch.manual_seed(0)
    return {
        "gpt2": lambda: t.GPT2Model(t.GPT2Config(n_embd=32, n_head=4, n_layer=2, vocab_size=50, bos_token_id=0,
                                                 eos_token_id=1)),
        "llama": lambda: t.LlamaModel(t.LlamaConfig(num_key_value_heads=2, **words)),
        "bert": lambda: t.BertModel(t.BertConfig(**words)),
        "electra": lambda: t.ElectraModel(t.ElectraConfig(embedding_size=32, **words)),
        "vit": lambda: t.ViTModel(t.ViTConfig(**vision)),
        "vitmae": lambda: t.ViTMAEForPreTraining(t.ViTMAEConfig(**vision, **decoder)),
    }[name]().eval()


def batch(length=9):
    """Ids [2, N] with padding at the left of one sample and at the right of the other."""
    ids = torch.randint(0, 50, (2, length), generator=torch.Generator().manual_seed(3))
    real = torch.ones(2, length, dtype=torch.long)
    real[0, :4], real[1, -3:] = 0, 0
    return ids, real


def eager_truth(model, ids, real):
    """Output of the real tokens and attention maps, from transformers' eager attention."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    with torch.no_grad():
        found = model(ids, attention_mask=real, output_attentions=True)
    model.set_attn_implementation(before)
    assert len(found.attentions) == 2
    return found.last_hidden_state[real.bool()], found.attentions


def check_like_eager(model, ids, real):
    """The assertion that mutants must fail."""
    expected, maps = eager_truth(model, ids, real)
    with torch.no_grad(), observe(model, want={"stats", "rows", "qk"}, rows=[5, -4]) as seen:
        out = model(ids, attention_mask=real).last_hidden_state
    assert (out[real.bool()] - expected).abs().max() < 2e-6
    for layer, attention in enumerate(maps):
        call, keep = seen[layer], real.bool()[:, None].expand(-1, 4, -1)
        torch.testing.assert_close(call.rows, attention[:, :, [5, -4]], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(call.rows_for([5, -4]), call.rows)
        entropy = torch.special.entr(attention).sum(-1)
        torch.testing.assert_close(call.entropy[keep], entropy[keep], atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(call.peak[keep], attention.amax(-1)[keep], atol=1e-6, rtol=1e-5)
    with torch.no_grad(), observe(model, received_from=[5, 4]) as seen:
        model(ids, attention_mask=real)
    torch.testing.assert_close(seen[1].received, maps[1][:, :, [5, 4]].sum(2), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert", "electra"])
def test_a_padded_batch_is_what_eager_makes_of_it(name, implementation):
    model = build(name)
    model.set_attn_implementation(implementation)
    check_like_eager(model, *batch())
    assert model.config._attn_implementation == implementation and not SWAPPED


@pytest.mark.parametrize("name, layers", [("vit", 2), ("vitmae", 3)])
def test_vision_models_and_their_decoders_are_numbered_in_order(name, layers):
    model, pixels = build(name), torch.randn(1, 3, 32, 32)
    noise = {"noise": torch.rand(1, 16)} if name == "vitmae" else {}
    with torch.no_grad():
        plain = model(pixels, **noise)[0]
        with observe(model) as seen:
            found = model(pixels, **noise)[0]
    torch.testing.assert_close(found, plain, atol=2e-6, rtol=1e-5)
    assert len(seen) == layers and [call.layer for call in seen] == list(range(layers))
    assert all(torch.allclose(call.received.sum(-1), torch.tensor(float(call.lse.shape[2]))) for call in seen)
    if name == "vitmae":
        assert "decoder" in seen[2].name and seen[0].lse.shape[2] < seen[2].lse.shape[2]


def test_our_own_backbone_is_seen_as_bidirectional():
    from models.backbones.masked import MaskedTransformer

    model = MaskedTransformer(20, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, grid=(4, 4)).eval()
    ids = torch.randint(0, 20, (1, 16))
    with torch.no_grad(), observe(model, layers=[-1], want={"stats", "rows"}, rows=[0]) as seen:
        found = model(ids)
    with torch.no_grad():
        torch.testing.assert_close(found, model(ids), atol=2e-6, rtol=1e-5)
    assert len(seen) == 1 and seen[1].rows.shape == (1, 2, 1, 16) and (seen[1].rows > 0).all()


def test_a_long_sequence_runs_on_the_blocked_path(monkeypatch):
    monkeypatch.setattr("kernels.native._rows", None)  # as without a compiler
    model, ids = build("llama"), torch.randint(0, 50, (1, 300))
    with torch.no_grad(), observe(model) as seen:
        found = model(ids).last_hidden_state
    with torch.no_grad():
        torch.testing.assert_close(found, model(ids).last_hidden_state, atol=5e-6, rtol=1e-4)
    assert seen.path == "cpu-blocked"


@pytest.mark.parametrize("static", [False, True])
def test_decoding_with_a_cache(static):
    from transformers import DynamicCache, StaticCache

    model, ids = build("llama"), torch.randint(0, 50, (1, 12))
    model.set_attn_implementation("sdpa")
    cached = StaticCache(config=model.config, max_cache_len=16) if static else DynamicCache(config=model.config)
    with torch.no_grad(), observe(model, want={"stats", "rows"}, rows=[-1]) as seen:
        for part in (ids[:, :8], ids[:, 8:11], ids[:, 11:]):  # prompt, several tokens, one token
            out = model(part, past_key_values=cached).last_hidden_state
    expected, maps = eager_truth(model, ids, torch.ones_like(ids))
    torch.testing.assert_close(out[0, -1], expected[-1], atol=2e-6, rtol=1e-5)
    assert len(seen.calls) == 6 and len(seen) == 2
    for call, last in zip(seen.calls[1::2], (7, 10, 11), strict=True):
        torch.testing.assert_close(call.rows[:, :, 0, :12], torch.nn.functional.pad(
            maps[1][:, :, last], (0, max(0, call.rows.shape[-1] - 12)))[..., : call.rows.shape[-1]][..., :12],
            atol=1e-6, rtol=1e-5)


def test_threads_on_one_model_do_not_see_each_other():
    model = build("llama")
    model.set_attn_implementation("sdpa")
    texts = [torch.randint(0, 50, (1, 6 + i)) for i in range(3)]
    with torch.no_grad():
        plain = [model(ids).last_hidden_state for ids in texts]
    problems, start = [], threading.Barrier(4)

    def observing(ids, expected):
        start.wait()
        for _ in range(15):
            with torch.no_grad(), observe(model) as seen:
                out = model(ids).last_hidden_state
            lengths = {call.lse.shape[2] for call in seen.calls}
            if len(seen.calls) != 2 or lengths != {ids.shape[1]} or not torch.allclose(out, expected, atol=5e-6):
                problems.append((len(seen.calls), lengths))

    def running(ids, expected):
        start.wait()
        for _ in range(30):
            with torch.no_grad():
                if not torch.allclose(model(ids).last_hidden_state, expected, atol=5e-6):
                    problems.append("unobserved output changed")

    work = [threading.Thread(target=observing, args=(texts[i], plain[i])) for i in range(3)]
    work.append(threading.Thread(target=running, args=(texts[2], plain[2])))
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert not problems and not SWAPPED and model.config._attn_implementation == "sdpa"


def test_maps_of_an_eager_model_stay_available_to_another_thread():
    model, (ids, real) = build("bert"), batch()
    model.set_attn_implementation("eager")
    found = []

    def other():
        with torch.no_grad():
            found.append(model(ids, attention_mask=real, output_attentions=True).attentions)

    with observe(model) as seen:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert len(found[0]) == 2 and found[0][0].shape == (2, 4, 9, 9) and not seen.calls


def test_nothing_remains():
    import transformers as t

    model = t.BertModel(t.BertConfig(vocab_size=50, **SIZES)).eval()
    with pytest.raises(RuntimeError, match="inside"), observe(model):
        raise RuntimeError("inside")
    with torch.no_grad(), observe(model, want={"stats", "qk"}) as seen:
        model(torch.ones(1, 4, dtype=torch.long))
    assert not SWAPPED and not seen.numbers and instrument.ACTIVE.get() == ()
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None and seen[0].rows_for([0]).shape == (1, 4, 1, 4)


def test_a_block_closed_in_another_context_cleans_up():
    model = build("bert")

    def steps():
        with observe(model):
            yield

    run = steps()
    next(run)
    contextvars.Context().run(run.close)
    assert not SWAPPED
    instrument.ACTIVE.set(())


def test_nested_blocks_and_chosen_layers():
    model, (ids, real) = build("gpt2"), batch()
    with torch.no_grad(), observe(model, layers=[1]) as outer, observe(model, want={"rows"}, rows=[0]) as inner:
        model(ids, attention_mask=real)
    assert len(outer) == 1 and outer[1].rows is None and len(inner) == 2 and inner[0].lse is None
    with pytest.raises(KeyError, match="Layer 0"):
        outer[0]


def test_gradients_and_dropout_are_the_models_own():
    model, (ids, real) = build("llama"), batch()
    hidden = model.embed_tokens(ids).detach().requires_grad_()
    plain, = torch.autograd.grad(model(inputs_embeds=hidden, attention_mask=real).last_hidden_state.sum(), hidden)
    with observe(model) as seen:
        out = model(inputs_embeds=hidden, attention_mask=real).last_hidden_state
    found, = torch.autograd.grad(out.sum(), hidden)
    torch.testing.assert_close(found, plain)
    assert not seen[0].entropy.requires_grad


def test_wrong_requests_are_refused():
    model = build("bert")
    for settings, word in (({"want": "stats"}, "want"), ({"want": {"maps"}}, "want"), ({"want": {"rows"}}, "rows"),
                           ({"layers": [2]}, "0 to 1")):
        with pytest.raises(ValueError, match=word), observe(model, **settings):
            pass
    with pytest.raises(ValueError, match="no attention"), observe(torch.nn.Linear(2, 2)):
        pass
    model.config._attn_implementation_internal = "flash_attention_2"
    with pytest.raises(ValueError, match="sdpa"), observe(model):
        pass
    model.config._attn_implementation_internal = "sdpa"
    with observe(model) as seen, pytest.raises(ValueError, match="no queries|No queries"):
        model(torch.ones(1, 3, dtype=torch.long))
        seen[0].rows_for([0])


# Mutants.

def test_without_a_mask_maker_the_padding_is_lost_and_the_check_says_so(monkeypatch):
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as MASKS

    def register_attention_only():
        MASKS._global_mapping.pop("tokenscope", None)

    instrument.register()
    monkeypatch.setattr(instrument, "register", register_attention_only)
    for name in ("gpt2", "llama", "bert"):
        build(name).set_attn_implementation("sdpa")
        with pytest.raises(AssertionError):
            check_like_eager(build(name), *batch())
    monkeypatch.undo()
    instrument.register()
    check_like_eager(build("bert"), *batch())


def test_always_causal_is_refused(monkeypatch):
    """A hook that ignores the module's own is_causal makes every encoder a decoder."""
    original = instrument.attend
    monkeypatch.setattr(instrument, "attend", lambda plain, causal, *rest: original(plain, rest[4] is None, *rest))
    model, ids = build("bert"), torch.randint(0, 50, (2, 9))
    with pytest.raises(AssertionError):
        check_like_eager(model, ids, torch.ones_like(ids))
    monkeypatch.undo()
    check_like_eager(model, ids, torch.ones_like(ids))


def check_isolated(model):
    """Another thread runs the model inside our block; its calls are not ours."""
    with torch.no_grad(), observe(model) as seen:
        thread = threading.Thread(target=lambda: model(torch.ones(1, 5, dtype=torch.long)))
        thread.start()
        thread.join()
        model(torch.ones(1, 3, dtype=torch.long))
    assert {call.lse.shape[2] for call in seen.calls} == {3}


class Global:
    """A collector list for the whole process."""

    def __init__(self):
        self.value = ()

    def get(self):
        return self.value

    def set(self, value):
        self.value = value


def test_a_global_collector_is_refused(monkeypatch):
    check_isolated(build("bert"))
    monkeypatch.setattr(instrument, "ACTIVE", Global())
    with pytest.raises(AssertionError):
        check_isolated(build("bert"))
