"""The Attend loop against whole attention maps, and the traps of reading attention, each with its mutant."""

import numpy as np
import pytest
import torch

from models.backbones.instrument import LayerSeen, observe
from models.loops.attend import loop, reading
from tests.tiny import llama, masked_scene, text_tokenizer
from tests.traps import caught


def text_run(length: int = 40, layers: int = 2):
    """A tiny causal model's layout, what was looked at, and transformers' own maps [L, H, N, N]."""
    model = llama(text_tokenizer(), layers).eval()
    ids = torch.randint(3, 300, (1, length), generator=torch.Generator().manual_seed(length))
    layout = loop.text_layout([str(i) for i in range(length)])
    with torch.no_grad(), observe(model, want={"stats", "qk"}) as seen:
        model(ids, use_cache=False)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = model(ids, output_attentions=True, use_cache=False).attentions
    return layout, loop.look(seen, layout, ask=length // 2), torch.stack(maps)[:, 0].numpy()


@pytest.fixture(scope="module")
def text():
    return text_run()


def test_statistics_are_those_of_the_librarys_maps(text):
    layout, looked, maps = text
    squared = loop.squared_distances(layout.coords, layout.coords)
    entropy, peak, span = loop.measure(maps, squared)
    for name, expected in (("entropy", entropy), ("peak", peak), ("span", span), ("received", maps.sum(2))):
        np.testing.assert_allclose(getattr(looked.heads, name).astype(np.float32), expected, rtol=3e-3, atol=3e-3)


def rows_are_exact(row, maps):
    for layer, head, query in ((0, 0, 0), (1, 3, 20), (1, 2, 39), (0, 1, 7)):
        np.testing.assert_allclose(row(layer, head, query), maps[layer, head, query], atol=4e-3)


def test_rows_stored_and_on_demand_are_exact(text):
    _, looked, maps = text
    rows_are_exact(looked.rows.row, maps)
    rows_are_exact(looked.kept.row, maps)


def test_mutants_of_rows_on_demand_are_refused(text):
    import dataclasses
    _, looked, maps = text
    kept = looked.kept
    half = tuple(k[: k.shape[0] // 2] for k in kept.k)  # heads that share the wrong keys
    for mutant in (dataclasses.replace(kept, causal=(False, False)),
                   dataclasses.replace(kept, scale=tuple(2 * scale for scale in kept.scale)),
                   dataclasses.replace(kept, k=half)):
        with pytest.raises(AssertionError):
            rows_are_exact(mutant.row, maps)


def distances_are_those_of_the_map(look):
    layout, looked, maps = look()
    _, _, span = loop.measure(maps, loop.squared_distances(layout.coords, layout.coords))
    np.testing.assert_allclose(looked.heads.span.astype(np.float32), span, rtol=3e-3, atol=3e-3)


def test_distances_around_several_centres_equal_the_whole_map(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 16)
    distances_are_those_of_the_map(text_run)
    right = reading._spans

    def second_moment_alone(call, coords, index, sample):  # the distance to the first token instead of to the query
        span, mass = right(call, coords, index, sample)
        return span + coords[:, 0], mass

    def order_forgotten(call, coords, index, sample):
        return right(call, coords.flip(0), index, sample)[0].flip(-1), right(call, coords, index, sample)[1]

    for mutant in (second_moment_alone, order_forgotten):
        monkeypatch.setattr(reading, "_spans", mutant)
        with pytest.raises(AssertionError):
            distances_are_those_of_the_map(text_run)


def short_distances_survive(block):
    """A long text whose head looks mostly around the token before: single precision must not drown its distances."""
    count, reading.BLOCK = 2048, block
    q = torch.zeros(1, 1, count, 64)
    angle = torch.arange(count)[:, None] * torch.linspace(0.01, 1.5, 32)
    k = torch.cat([angle.cos(), angle.sin()], -1)[None, None]
    q[..., 1:, :] = 0.5 * k[..., :-1, :]
    call = LayerSeen(0, "", q=q, k=k, options={"scale": 1.0, "causal": True, "mask": None})
    coords = torch.arange(float(count))[:, None]
    span, _ = reading._spans(call, coords, torch.arange(count), 0)
    rows = call.rows_for(torch.arange(1, count, 97))[0]  # [1, R, N]
    squared = (coords[1::97, None] - coords[None]).pow(2).sum(-1)
    np.testing.assert_allclose(span[0, 1::97], (rows[0] * squared).sum(-1).sqrt(), rtol=0.01)


def test_short_distances_in_long_texts_survive_single_precision(monkeypatch):
    monkeypatch.setattr(reading, "BLOCK", 256)
    short_distances_survive(256)
    with pytest.raises(AssertionError):
        short_distances_survive(1 << 20)  # one centre for all


def test_long_texts_store_few_rows_and_answer_the_rest(monkeypatch):
    monkeypatch.setattr(reading, "ROW_BYTES", 1000)
    monkeypatch.setattr(reading, "SOME_BYTES", 2000)
    _, looked, maps = text_run()
    stored = looked.rows.queries
    assert len(stored) < 40 and {0, 20, 39} <= set(stored.tolist())
    missing = next(q for q in range(40) if q not in stored)
    assert looked.rows.row(0, 0, missing) is None
    np.testing.assert_allclose(looked.kept.row(0, 0, missing), maps[0, 0, missing], atol=4e-3)


def test_rows_beyond_the_record_are_refused(text):
    for wrong in ((2, 0, 0), (0, 4, 0), (0, 0, 40), (-1, 0, 0)):
        with pytest.raises(ValueError):
            text[1].kept.row(*wrong)


def mass_is_accounted_for(looked):
    """What a canvas row misses to one is what went to the tokens outside the canvas."""
    for query in (0, 100, 255):
        row = looked.kept.row(1, 2, query)
        assert len(row) == 256 and row.sum() + looked.outside[1, 2, query] == pytest.approx(1, abs=2e-3)


def test_prefix_tokens_are_left_out_of_the_grid_but_counted():
    import dataclasses
    model = masked_scene().eval()
    for weight in model.layers.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    layout = loop.grid_layout((16, 16), first=model.cond_length, outside="the caption")
    with torch.no_grad(), observe(model, want={"stats", "qk"}) as seen:
        model(torch.randint(0, 30, (1, 256), generator=torch.Generator().manual_seed(0)))
    looked = loop.look(seen, layout)
    mass_is_accounted_for(looked)
    shifted = dataclasses.replace(looked.kept, index=looked.kept.index - model.cond_length)  # the prefix drawn as cells
    with pytest.raises(AssertionError):
        mass_is_accounted_for(dataclasses.replace(looked, kept=shifted))
    assert "outside" in next(loop.layer_steps(layout, looked)).fields


def test_distances_on_a_grid_are_cells():
    layout = loop.grid_layout((3, 4))
    assert layout.unit == "cells" and loop.squared_distances(layout.coords[:1], layout.coords)[0, 11] == 4 + 9
    uniform = np.full((1, 1, 1, 12), 1 / 12)
    _, _, span = loop.measure(uniform, loop.squared_distances(layout.coords[:1], layout.coords))
    assert span[0, 0, 0] == pytest.approx(np.sqrt(np.mean([y * y + x * x for y in range(3) for x in range(4)])))


def unmeasured_queries_stay_empty(heads):
    assert np.isnan(heads.entropy[0, 0, [0, 1, 3]]).all() and heads.entropy[0, 0, 2] > 0


def test_rows_a_method_computed_itself_become_heads():
    rows = np.array([[[[0.5, 0.25, 0.25, 0]]]])  # [L, H, R, N]
    heads = loop.row_heads(rows, [2], np.arange(4.0)[:, None])
    unmeasured_queries_stay_empty(heads)
    assert heads.span[0, 0, 2] == pytest.approx(np.sqrt(0.5 * 4 + 0.25), rel=1e-3)
    everywhere = loop.row_heads(np.repeat(rows, 4, 2), [0, 1, 2, 3], np.arange(4.0)[:, None])
    with pytest.raises(AssertionError):
        unmeasured_queries_stay_empty(everywhere)
    assert np.isfinite(loop.head_charts(heads, "tokens")[0].series["entropy (nats)"]).all()


def test_rows_of_queries_that_look_at_others_lie_where_their_keys_stand():
    rows = np.array([[[[0.5, 0.2, 0.3], [0.1, 0.9, 0.0]]]])  # [L, H, R, K]

    def placed(keys):
        found = loop.crossed(loop.text_layout("abcde"), rows, [1, 4], keys, ["cross"])
        assert found.heads.names == ("cross",) and np.isnan(found.heads.peak[0, 0, [0, 2, 3]]).all()
        return (np.abs(found.rows.row(0, 0, 1) - [0, 0.3, 0.5, 0.2, 0]) < 0.01).all()
    caught(placed, [2, 3, 1], [1, 2, 3], [2, 1, 3])


def test_edges_are_the_strongest_links():
    found = loop.edges(3, np.array([0.1, 0.5, 0.0, 0.4, np.nan]), top=3)
    assert found.key.tolist() == [1, 3, 0] and set(found.query.tolist()) == {3}


def test_side_by_side_keeps_every_model(text):
    _, looked, maps = text
    both = loop.side_by_side([looked, looked], ["a 1", "a 2", "b 1", "b 2"])
    assert both.heads.entropy.shape[0] == 4 and both.heads.names[2] == "b 1"
    rows_are_exact(lambda layer, head, query: both.kept.row(layer + 2, head, query), maps)
    rows_are_exact(lambda layer, head, query: both.rows.row(layer + 2, head, query), maps)
