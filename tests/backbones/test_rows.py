"""Row-wise evaluation equals the library's forward, whatever the order and grouping of the rows."""
import pytest
import torch

from models.backbones.rows import RowStore, allowed, layer_rows, visible


def llama(kv_heads: int):
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(1)
    config = LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=3,
                         num_attention_heads=4, num_key_value_heads=kv_heads, initializer_range=0.3)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def masked():
    from models.backbones.masked import MaskedTransformer
    torch.manual_seed(1)
    return MaskedTransformer(40, 32, 3, 4, None, 48, positions="2d", grid=(4, 4), cond_vocab_size=5,
                             cond_length=2).eval().requires_grad_(False)


def angles(model, count):
    return model.model.rotary_emb(torch.zeros(1, 1, 32), torch.arange(count)[None])


def walk(layers, hidden, cos_sin, groups, *, causal, turn=lambda rows: rows, **options):
    """All layers, group by group in the given order; each group attends to what is known by then."""
    store = RowStore.empty(layers, hidden.shape[1], hidden.shape[0])
    outputs, extra = torch.zeros_like(hidden), []
    for rows in groups:
        now = hidden[:, rows]
        for index, layer in enumerate(layers):
            seen = torch.cat([store.known[index].nonzero()[:, 0], rows]).unique()
            at = turn(rows)
            out = layer_rows(layer, now, rows, tuple(t[:, at] for t in cos_sin), store, index,
                             attend_to=seen, causal=causal, **options)
            now, extra = out.hidden, [*extra, out]
        outputs[:, rows] = now
    return outputs, store, extra


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("stats", [False, True])
def test_all_rows_at_once_equal_the_library(kv_heads, stats):
    model, ids = llama(kv_heads), torch.randint(0, 50, (2, 19))
    hidden = model.model.embed_tokens(ids)
    found, _, _ = walk(model.model.layers, hidden, angles(model, 19), [torch.arange(19)], causal=True,
                       want_stats=stats)
    torch.testing.assert_close(model.model.norm(found), model.model(ids).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_rows_in_groups_equal_the_library_and_reindexed_positions_do_not():
    model, ids = llama(2), torch.randint(0, 50, (1, 19))
    hidden, truth = model.model.embed_tokens(ids), model.model(ids).last_hidden_state
    groups = [torch.arange(7), torch.arange(7, 18), torch.tensor([18])]
    found, store, _ = walk(model.model.layers, hidden, angles(model, 19), groups, causal=True)
    torch.testing.assert_close(model.model.norm(found), truth, atol=1e-5, rtol=1e-5)
    assert int(store.computed.max()) == 1 and store.rows == 3 * 19
    # The mutant: each group's rotary positions counted from 0 again.
    wrong, _, _ = walk(model.model.layers, hidden, angles(model, 19), groups, causal=True,
                       turn=lambda rows: torch.arange(len(rows)))
    assert (model.model.norm(wrong) - truth).abs().max() > 1e-2


def test_a_row_in_the_middle_sees_only_its_past():
    model, ids = llama(2), torch.randint(0, 50, (1, 12))
    layer, hidden, turned = model.model.layers[0], model.model.embed_tokens(ids), angles(model, 12)
    rows, everyone = torch.tensor([3, 8]), torch.arange(12)
    store = RowStore.empty(model.model.layers, 12)
    full = layer_rows(layer, hidden, everyone, turned, store, 0, attend_to=everyone, want_last=True)
    again = layer_rows(layer, hidden[:, rows], rows, tuple(t[:, rows] for t in turned), store, 0,
                       attend_to=everyone, want_last=True)
    torch.testing.assert_close(again.hidden, full.hidden[:, rows], atol=1e-5, rtol=1e-5)
    assert float(again.last[..., 9:].abs().max()) == 0  # row 8 is the last of the rows, and 9.. lie in its future
    torch.testing.assert_close(again.last.sum(-1), torch.ones(1, 4))
    seen_all = layer_rows(layer, hidden[:, rows], rows, tuple(t[:, rows] for t in turned), store, 0,
                          attend_to=everyone, causal=False)
    assert (seen_all.hidden - full.hidden[:, rows]).abs().max() > 1e-3  # the mutant without the causal order


def test_the_last_row_is_the_library_eager_attention():
    model, ids = llama(2), torch.randint(0, 50, (1, 15))
    model.set_attn_implementation("eager")
    truth = model(ids, output_attentions=True).attentions
    model.set_attn_implementation("sdpa")
    _, _, outs = walk(model.model.layers, model.model.embed_tokens(ids), angles(model, 15), [torch.arange(15)],
                      causal=True, want_last=True)
    for out, exact in zip(outs, truth, strict=True):
        torch.testing.assert_close(out.last, exact[:, :, -1], atol=1e-5, rtol=1e-4)


def test_long_unaligned_rows_are_masked_in_chunks(monkeypatch):
    monkeypatch.setattr("models.backbones.rows.CHUNK", 4)
    model, ids = llama(2), torch.randint(0, 50, (1, 23))
    groups = [torch.arange(0, 23, 2), torch.arange(1, 23, 2)]
    layer, hidden, turned = model.model.layers[0], model.model.embed_tokens(ids), angles(model, 23)
    store = RowStore.empty(model.model.layers, 23)
    for rows in groups:
        seen = torch.cat([store.known[0].nonzero()[:, 0], rows]).unique()
        out = layer_rows(layer, hidden[:, rows], rows, tuple(t[:, rows] for t in turned), store, 0, attend_to=seen)
    truth = layer(hidden, position_embeddings=turned)
    torch.testing.assert_close(out.hidden, truth[:, groups[1]], atol=1e-5, rtol=1e-5)


def test_masked_transformer_rows_equal_its_forward_with_two_branches():
    model, ids = masked(), torch.randint(0, 40, (2, 16))
    cond = torch.tensor([[1, 2], [0, 0]])
    hidden, turned = model.embed(ids, cond)
    found, store, _ = walk(model.layers, hidden, turned, [torch.arange(18)], causal=False)
    torch.testing.assert_close(model.head(found[:, 2:]), model(ids, cond), atol=1e-5, rtol=1e-5)
    rows = torch.tensor([4, 9, 10])
    part = layer_rows(model.layers[0], hidden[:, rows], rows, tuple(t[:, rows] for t in turned), store, 0,
                      attend_to=torch.arange(18), causal=False)
    whole = model.layers[0](hidden, position_embeddings=turned)
    torch.testing.assert_close(part.hidden, whole[:, rows], atol=1e-5, rtol=1e-5)


def test_counts_and_refusals():
    model = llama(2)
    layers, hidden = model.model.layers, torch.randn(1, 6, 32)
    store, rows = RowStore.empty(layers, 6), torch.arange(6)
    with pytest.raises(ValueError, match="never computed"):
        layer_rows(layers[0], hidden[:, 4:], rows[4:], tuple(t[:, 4:] for t in angles(model, 6)), store, 0,
                   attend_to=rows)
    store = RowStore.empty(layers, 6)
    layer_rows(layers[0], hidden, rows, angles(model, 6), store, 0, attend_to=rows)
    linear = 32 * 32 * 2 + 32 * 16 * 2 + 3 * 32 * 48
    assert store.macs == 6 * linear + 2 * 21 * 32 and store.bytes == 6 * 2 * 16 * 4
    assert visible(torch.tensor([2, 4]), torch.tensor([0, 1, 2, 4])) == int(
        allowed(torch.tensor([2, 4]), torch.tensor([0, 1, 2, 4])).sum()) == 7
    other = store.copy()
    other.write(0, rows[:1], torch.ones(1, 2, 1, 8), torch.ones(1, 2, 1, 8))
    assert not torch.equal(other.keys[0], store.keys[0]) and int(store.computed[0, 0]) == 1
