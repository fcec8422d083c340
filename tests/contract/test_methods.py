"""Every method found, whichever paper: the contract of models/engine/method.py on tiny random weights, then shipped
ones."""

import dataclasses
import json
import re
from functools import cache

import numpy as np
import pytest
import torch

import kernels
from models import claims
from models.engine.method import atlas, find, follow, prepare, run, twin
from models.serving import recorded, session, turns
from models.trace import TRACES, params
from models.trace.params import ParamError
from models.trace.serialize import load, save
from models.trace.subject import SubjectError, from_example, from_text

IDS = list(atlas())


def results(job):
    return list(follow(job))


@dataclasses.dataclass
class Ran:
    """One run on tiny weights, shared by all tests of a method: its results, and the kernel paths that ran."""

    results: list
    paths: set[str]

    @property
    def traces(self):
        return self.results[-1].traces


def watched(id: str) -> Ran:
    """A run during which every kernel that is called tells its path."""
    from tests import tiny
    tiny.use()  # a test before this one may have put the shipped weights back
    ran = set()

    def spied(original):
        def call(*args, **options):
            found = original(*args, **options)
            ran.add(found.path)
            return found
        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("attention_stats", "vocab_stats", "head_stats", "unmask_step"):
            patch.setattr(kernels, name, spied(getattr(kernels, name)))
        return Ran(results(prepare(id, seed=3)), ran)


@pytest.fixture(scope="module")
def tiny_runs():
    """One run per method, made when a test first asks for it."""
    from tests import tiny
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # tiny tensors: two threads wait for each other longer than they work
    yield cache(watched)
    torch.set_num_threads(threads)
    tiny.forget()


def test_the_atlas_holds_the_first_methods():
    assert {"mae", "hpm", "attention", "random-keep", "top-attention", "lazyllm", "maskgit", "mdm", "recap", "sampling",
            "cntp", "byte-level"} <= set(IDS)


@pytest.mark.parametrize("id", IDS)
def test_card_says_what_a_visitor_needs(id):
    method = find(id)
    card = method.card
    assert card.title and card.summary and card.look_at and method.examples
    assert set(card.tabs) <= set(TRACES)
    assert card.seed in ("A", "B", "both", None) and (card.seed is None or re.fullmatch(r"\d{4}\.\d{4,5}", card.arxiv))
    assert len(card.summary) <= 320, "a summary is one or two sentences"
    assert method.baseline is None or find(method.baseline).id == method.baseline  # a method, or its control arm
    if card.seed is not None:
        assert method.baseline, "a paper stands beside a baseline"


@pytest.mark.parametrize("id", IDS)
def test_controls_are_declared_once_and_few(id):
    declared = params.declaration(find(id).params)
    unfolded = [name for name, (spec, _, _) in declared.items() if not spec.fold]
    assert len(unfolded) <= 5
    for name, (spec, kind, default) in declared.items():
        assert spec.title and spec.parse(name, default, kind) == default, f"default of {name} is outside its range"
    json.dumps(params.schema(find(id).params))


@pytest.mark.parametrize("id", IDS)
def test_runs_leave_valid_traces_that_survive_the_round_trip(id, tiny_runs):
    last = tiny_runs(id).results[-1]
    assert last.done and set(last.traces) == set(find(id).card.tabs)
    for tab, trace in last.traces.items():
        assert type(trace) is TRACES[tab] and trace.method == id and trace.sentence and trace.facts
        assert trace.provenance.path, "the kernel path taken is recorded"
        text = save(trace)
        assert save(load(text)) == text
        assert len(text) < 3_000_000
    first = last.traces[find(id).card.tabs[0]]
    assert first.cost.calls > 0 and first.cost.ms > 0, "costs are counted once, in the first tab's record"


@pytest.mark.parametrize("id", IDS)
def test_figures_grow_while_a_run_works(id, tiny_runs):
    progress = [r.progress for r in tiny_runs(id).results]
    assert progress == sorted(progress) and len(progress) > 1


@pytest.mark.parametrize("id", IDS)
def test_same_seed_same_trace_whether_all_tabs_are_asked_for_or_one(id, tiny_runs):
    """Mutant: a method that leaves out, where one tab is asked for, what that tab's record needs, or draws less."""
    for tab, trace in tiny_runs(id).traces.items():
        again = results(dataclasses.replace(prepare(id, seed=3), only=tab))[-1]
        assert list(again.traces) == [tab] and timeless(again.traces[tab]) == timeless(trace)


def timeless(trace) -> str:
    """The trace as JSON without measured times, and without the kernels that other tabs' records called."""
    steps = tuple(dataclasses.replace(s, cost=dataclasses.replace(s.cost, ms=0.0), note="") for s in trace.steps)
    stamp = dataclasses.replace(trace.provenance, seconds=0.0, path="")
    facts = {n: f for n, f in trace.facts.items() if not f.unit.startswith(("ms", "s ", "x "))}
    return save(dataclasses.replace(trace, steps=steps, provenance=stamp, facts=facts, sentence="", charts=()))


@pytest.mark.parametrize("id", IDS)
def test_a_trace_names_the_paths_that_ran(id, tiny_runs):
    ran = tiny_runs(id)
    for trace in ran.traces.values():
        path = trace.provenance.path
        assert path and all(taken in path for taken in ran.paths), f"{path} leaves out one of {ran.paths}"


@pytest.mark.parametrize("id", IDS)
def test_a_forced_path_is_the_one_that_is_named(id, tiny):
    """A path written by hand into a method would still name the usual one."""
    with kernels.override("reference"):
        for trace in results(prepare(id, seed=3))[-1].traces.values():
            path = trace.provenance.path
            assert "cpu-" not in path and ("reference" in path or "no statistics" in path), path


@pytest.mark.parametrize("id", IDS)
def test_a_cancelled_run_stops_at_once(id, tiny):
    running = follow(prepare(id))
    next(running)
    running.close()


@pytest.mark.parametrize("id", IDS)
def test_out_of_range_parameters_are_refused(id, tiny):
    for name, (spec, _, _) in params.declaration(find(id).params).items():
        bad = {"Span": 1e9, "Choice": "no such", "Flag": "maybe", "Words": "x" * 10_000}[type(spec).__name__]
        with pytest.raises(params.ParamError):
            prepare(id, params={name: bad})
    for seed in (-1, 2**31, True, "7", 1.5):
        with pytest.raises(params.ParamError):
            prepare(id, seed=seed)


@pytest.mark.parametrize("id", IDS)
def test_the_wrong_kind_of_subject_is_refused(id, tiny):
    kind = "caption" if find(id).accepts != "caption" else "problem"
    with pytest.raises(SubjectError):
        prepare(id, from_text("red circle", kind))


@pytest.mark.parametrize("id", [i for i in IDS if find(i).accepts == "text"])
@pytest.mark.parametrize("text", ["a", "emoji 🎈🎈 漢字かな שלום <script>alert(1)</script> ${x} {{y}} \\"])
def test_any_text_ends_in_a_trace_or_one_sentence(id, text, tiny):
    try:
        last = run(id, from_text(text))
    except SubjectError as refusal:
        assert len(str(refusal)) < 250
    else:
        assert last.done


@pytest.mark.parametrize("id", [i for i in IDS if find(i).baseline])
def test_the_baseline_runs_on_the_same_subject_and_seed(id, tiny):
    job = prepare(id, seed=5)
    other = twin(job)
    assert other.subject is job.subject and other.seed == job.seed
    assert set(results(other)[-1].traces) & set(job.method.card.tabs)


@pytest.mark.parametrize("id", [i for i in IDS if find(i).turn and not find(i).turn.options])
def test_your_turn_is_scored_like_the_method(id, tiny):
    job = prepare(id)
    allowed = turns.playable(run(id).traces[job.method.card.tabs[0]])
    choice = turns.random_choice(turns.groups(job), allowed, job.seed)
    assert turns.checked_choice(job, allowed, [list(group) for group in choice]) == choice
    trace = results(dataclasses.replace(job, choice=choice))[-1].traces[job.method.card.tabs[0]]
    assert np.isfinite(trace.facts[find(id).turn.fact].value)


@pytest.mark.parametrize("id", [i for i in IDS if find(i).turn and find(i).turn.options])
def test_candidates_are_offered_until_all_is_decided(id, tiny):
    ask, turn = session.Ask(id, find(id).card.tabs[0]), find(id).turn
    offered, picks = turns.offer(ask, ()), ()
    assert turns.offer(ask, ()).labels == offered.labels and len(set(offered.labels)) == len(offered.picks) > 1
    while offered:
        assert offered.made == len(picks) and 0 < offered.at < offered.trace.canvas.size
        picks += (offered.picked([[0]]),)
        offered = turns.offer(ask, picks)
    *_, scene = turns.take_picks(ask, picks)
    assert [take.role for take in scene.takes] == ["visitor", "method", "random"] and scene.done
    scores = {take.role: take.trace.facts[turn.fact].value for take in scene.takes if turn.fact in take.trace.facts}
    assert {"visitor", "random"} <= set(scores) and np.isfinite(list(scores.values())).all()


def test_the_text_goes_on_from_what_was_picked(tiny):
    """Word after word: the next candidates depend on the visitor's own."""
    ask, picks = session.Ask("sampling", "sample"), ()
    while offered := turns.offer(ask, picks):
        assert offered.at == offered.trace.canvas.size - 1
        assert tuple(offered.trace.steps[-1].ids[offered.at - len(picks): offered.at]) == picks
        assert offered.labels == tuple(offered.trace.vocabulary[id] for id in offered.picks)
        picks += (offered.picked([[0]]),)
    *_, scene = turns.take_picks(ask, picks)
    assert len({take.trace.canvas.size for take in scene.takes}) == 1, "all three write as many units"


@pytest.mark.parametrize("given", [None, [], [[]], [[5]], [[-1]], [["0"]], [[True]], "00", [0]])
def test_a_candidate_that_was_not_offered_is_refused(given, tiny):
    id = next(i for i in IDS if find(i).turn and find(i).turn.options)
    with pytest.raises(ParamError):
        turns.offer(session.Ask(id, find(id).card.tabs[0]), ()).picked(given)


@pytest.mark.parametrize("id", IDS)
def test_every_figure_renders(id, tiny_runs):
    from visualizers import draw
    from visualizers.drawing.payload import pack
    from visualizers.export.files import export
    for trace in tiny_runs(id).traces.values():
        payload = json.dumps(pack(draw(trace)))
        assert len(payload) < 3_000_000
        assert export(trace, "png")[:4] == b"\x89PNG" and b"<svg" in export(trace, "svg")[:2000]


@pytest.mark.parametrize("id", IDS)
def test_examples_are_ready(id):
    for example in find(id).examples:
        assert from_example(example, example.kind or find(id).accepts).name == example.id


@pytest.mark.weights
@pytest.mark.parametrize("id", IDS)
def test_the_recorded_example_is_of_the_shipped_weights(id, shipped):
    from models.checkpoints import store
    method = find(id)
    shipped(method.checkpoints[0], *method.companions)
    card = store.shipped()[method.checkpoints[0]]
    for tab in method.card.tabs:
        trace = recorded.read(id, tab)
        assert trace is not None, f"run `python -m models traces {id}`"
        assert card["sha256"].startswith(trace.provenance.revision) and trace.provenance.recorded
        assert recorded.path(method, tab).stat().st_size < 1_500_000, "a shipped example stays small"


@pytest.mark.weights
@pytest.mark.parametrize("id", IDS)
def test_the_claim_is_of_the_shipped_weights(id, shipped):
    from models.checkpoints import store
    method = find(id)
    shipped(method.checkpoints[0])
    claim = claims.read(id)
    if claim is None:
        pytest.skip(f"not measured yet: python -m models claims {id}")
    loaded = claims.stamps(claim)
    assert method.checkpoints[0] in loaded
    assert not store.stale(loaded), "the claim is stale: measure it again"
    assert claim["verdict"] in claims.VERDICTS and claim["rows"] and claim["date"] and claim["device"]


def test_a_method_without_its_weights_is_not_offered(monkeypatch, tmp_path):
    """It stays in the atlas, so that its code is tested, but no visitor meets it."""
    from models.checkpoints import store
    from models.engine.method import offered
    from visualizers.page import gallery

    monkeypatch.setattr(store, "_makers", {})
    for name in ("photo-mae-1", "text-ar-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    assert {"mae", "sampling"} <= set(offered()) and not {"hpm", "mdm", "byte-level"} & set(offered())
    assert not any(row["live"] for row in gallery.rows() if row["slug"] == "hpm")
