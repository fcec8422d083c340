"""Attention by groups against whole attention maps, and the mistakes that the same assertions reject."""

import numpy as np
import pytest
import torch

from models.backbones.instrument import observe
from models.engine.events import Close, Emit, Open
from models.loops.attend import groups as lenses
from models.loops.attend.groups import lens, mass_chart, mass_facts, masses, on_sequence
from models.loops.attend.loop import grid_layout, text_layout
from models.trace import Fact
from tests.tiny import llama, masked_scene, text_tokenizer

GROUPS = {"first": slice(0, 5), "third": np.arange(12) % 3 == 2, "last": [11]}
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def text():
    """A tiny causal model, its ids, what was seen and transformers' own maps [L, H, S, S]."""
    model = llama(text_tokenizer(), 2).eval()
    ids = torch.randint(3, 300, (1, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), observe(model, want={"qk"}) as seen:
        model(ids, use_cache=False)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        maps = torch.stack(model(ids, output_attentions=True, use_cache=False).attentions)[:, 0].numpy()
    model.set_attn_implementation("sdpa")
    return model, ids, seen, maps


def by_hand(maps, queries, keys):
    """[L, Gq, G] by the definition."""
    where = {name: np.arange(12)[which] for name, which in {**queries, **keys}.items()}
    return np.array([[[layer[:, where[q]][:, :, where[k]].sum(-1).mean() for k in keys] for q in queries]
                     for layer in maps])


def test_masses_are_sums_of_exact_attention(text):
    _, _, seen, maps = text
    wanted = by_hand(maps, GROUPS, GROUPS)
    assert np.allclose(masses(seen, GROUPS), wanted, atol=1e-5)
    assert np.allclose(masses(maps, GROUPS), wanted, atol=1e-5), "given rows are treated alike"
    one = {"last": [11]}
    assert np.allclose(masses(seen, GROUPS, one), wanted[:, 2:], atol=1e-5)
    assert np.allclose(masses(maps[:, :, 11:], GROUPS, {"rows": slice(0, 1)}), wanted[:, 2:], atol=1e-5)
    assert not np.allclose(masses(maps.swapaxes(2, 3), GROUPS), wanted, atol=0.01), "received instead of given"


def test_all_groups_together_take_everything(text):
    _, _, seen, _ = text
    halves = {"left": slice(0, 6), "right": slice(6, 12)}
    found = masses(seen, halves)
    assert np.allclose(found.sum(2), 1, atol=1e-5) and np.allclose(found[:, 0, 1], 0), "the model is causal"
    assert np.isnan(masses(seen, {**halves, "nobody": []})[:, 2]).all()
    assert np.allclose(masses(seen, {**halves, "nobody": []})[:, :2, 2], 0)


def test_what_is_outside_the_canvas_is_a_group_of_its_own():
    layout = grid_layout((2, 3), first=2, outside="the caption")
    found = on_sequence(layout, {"top": [0, 1, 2], "rest": np.array([0, 0, 0, 1, 1, 1], bool)}, 9)
    assert {name: which.tolist() for name, which in found.items()} == {
        "the caption": [0, 1, 8], "top": [2, 3, 4], "rest": [5, 6, 7]}
    assert list(on_sequence(text_layout("abc"), {"all": [0, 1, 2]}, 3)) == ["all"]


def record_of(layout, call, model, groups, **options):
    first, *steps, last = lens(model, call, layout, groups, say=lambda mass: f"{mass.shape}", **options)
    assert isinstance(first, Open) and all(isinstance(one, Emit) for one in steps) and isinstance(last, Close)
    return steps, last


def test_a_lens_is_a_whole_record():
    model = masked_scene().eval()
    ids = torch.randint(0, 30, (1, 256), generator=torch.Generator().manual_seed(0))
    cond = torch.tensor([[1, 20, 0, 0]])
    layout = grid_layout((16, 16), first=model.cond_length, outside="the caption")
    upper = np.arange(256) < 128
    steps, last = record_of(layout, lambda: model(ids, cond), model, {"upper": upper, "lower": ~upper}, macs=2000,
                            facts=lambda mass: mass_facts(mass, {"own": ("Upper half to itself", 0, 1)}))
    assert len(steps) == 2 and steps[0].step.cost.macs == 1000 and steps[0].step.cost.rows == 260
    chart = last.charts[0]
    assert chart.ticks == ("the caption", "upper", "lower") and chart.rows == ("upper", "lower")
    values = chart.series["share of attention"]
    assert np.allclose(values.sum(1), 1, atol=1e-4) and last.sentence == "(2, 2, 3)"
    assert last.facts["own"] == Fact("Upper half to itself", 100 * float(values[0, 1]), "% of its attention")
    rows = np.stack([last.rows.row(layer, head, query) for layer in range(2) for head in range(4)
                     for query in last.rows.queries if query < 128]) if len(last.rows.queries) == 256 else None
    if rows is not None:
        assert values[0, 1] == pytest.approx(rows[:, :128].sum(1).mean(), abs=2e-3)


def test_groups_that_are_not_moved_past_the_prefix_are_seen(monkeypatch):
    """Mutant: canvas tokens counted as places of the sequence."""
    model = masked_scene().eval()
    for weight in model.layers.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    ids = torch.randint(0, 30, (1, 256), generator=torch.Generator().manual_seed(0))
    layout, cond = grid_layout((16, 16), first=model.cond_length, outside="the caption"), torch.tensor([[1, 20, 0, 0]])
    corner = {"corner": [0, 1, 2, 3]}
    right = record_of(layout, lambda: model(ids, cond), model, corner)[1].charts[0].series["share of attention"]
    monkeypatch.setattr(lenses, "on_sequence", lambda layout, groups, length: {
        layout.outside: np.arange(model.cond_length), **groups})
    wrong = record_of(layout, lambda: model(ids, cond), model, corner)[1].charts[0].series["share of attention"]
    assert not np.allclose(right, wrong, atol=1e-3)


def test_charts_of_layers_and_of_steps():
    mass = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    mass[1, 0] = np.nan
    pairs = {"a to b": (0, 1), "b to a": (1, 0)}
    assert lenses.layers_chart(mass, pairs).rows == ("layer 1", "layer 2", "layer 3")
    assert lenses.layers_chart(mass, pairs).series["share of attention"][2].tolist() == [9, 10]
    lines = lenses.steps_chart(mass, pairs).series
    assert lines["a to b"].tolist() == [[0, 1], [2, 9]] and lines["b to a"].tolist() == [[0, 2], [1, 6], [2, 10]]
    assert mass_chart(np.eye(2), ("a", "b")).ticks == ("a", "b")
    assert mass_facts(mass, {"b": ("B", 1, (0, 1))})["b"].value == pytest.approx(100 * (6 + 7))
