"""The decoding loop: its cache is right, forks never leak, what is stored is what was drawn from, the page is exact."""

import copy
import dataclasses

import numpy as np
import pytest
import torch

from kernels import Sampler, warp
from models.engine.method import follow, prepare, run
from models.loops.sample.cached_lm import Reader, Stream, agreed
from models.loops.sample.rollouts import Ends, roll_out
from models.trace import CODE
from models.trace.params import ParamError
from models.trace.subject import SubjectError, from_text
from tests import tiny
from tests.traps import caught

TEXT = from_text("Once upon a time there was a little red hen. The")
IDS = [5, 40, 61, 33, 90, 17]


@pytest.fixture
def model():
    return tiny.bundle("text-ar-1").model


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=120, n_embd=32, n_layer=2, n_head=2, n_positions=64)).eval()


def whole(model, ids):
    """Logits of the next token, computed without any cache."""
    with torch.inference_mode():
        return model(torch.tensor([ids]), use_cache=False).logits[0, -1].float()


@pytest.mark.parametrize("make", [lambda: tiny.bundle("text-ar-1").model, gpt2])
def test_reading_in_pieces_equals_reading_at_once(make):
    model = make()
    stream = Stream(model)
    stream.read([IDS[:3]])
    for token in IDS[3:]:
        stream.push([token])
    torch.testing.assert_close(stream.logits[0], whole(model, IDS), atol=1e-5, rtol=1e-4)
    stream.crop(4)
    stream.push([7])
    torch.testing.assert_close(stream.logits[0], whole(model, [*IDS[:4], 7]), atol=1e-5, rtol=1e-4)


def test_multiply_adds_are_those_of_every_matrix():
    """GPT-2 calls its linear layers Conv1D; 12 d^2 per layer and token, and d V once for the one position asked."""
    stream = Stream(gpt2())
    stream.read([[1, 2, 3]])
    attention = 2 * 2 * 32 * (1 + 2 + 3)
    assert stream.meter.lap().macs == 3 * 2 * 12 * 32 * 32 + attention + 32 * 120


def leaves_the_original_alone(model, fork) -> bool:
    """Whether a stream still says what it said after its fork went on and was cropped."""
    stream = Stream(model)
    stream.read([IDS])
    twin = fork(stream)
    twin.push([9] * len(twin.logits))
    twin.crop(3)
    stream.push([11])
    return torch.allclose(stream.logits[0], whole(model, [*IDS, 11]), atol=1e-4)


def test_a_fork_never_touches_its_origin(model):
    assert leaves_the_original_alone(model, lambda s: s.fork(3))
    assert leaves_the_original_alone(model, lambda s: s.select([0]))

    def shared(stream):  # mutant: the trial writes into the cache it was started from
        twin = copy.copy(stream)
        return twin
    assert not leaves_the_original_alone(model, shared)


def trials(model, seed: int, count: int = 4):
    stream = Stream(model)
    stream.read([IDS])
    ends = Ends(None, frozenset({44}), 6)
    return stream, roll_out(stream.fork(count), Sampler(0.9), ends, torch.Generator().manual_seed(seed))


def test_only_a_run_from_the_first_token_on_agrees():
    """Mutant: whatever is alike, behind a difference too."""
    caught(lambda run: [run(one, [5, 6, 7, 8]) for one in ([5, 6, 7], [5, 9, 7], [])] == [3, 1, 0], agreed,
           lambda one, other: sum(a == b for a, b in zip(one, other)))


def test_trials_from_one_state_with_one_seed_are_identical(model):
    (stream, (first, kept, _)), (_, (again, kept2, _)) = trials(model, 3), trials(model, 3)
    assert [t.ids for t in first] == [t.ids for t in again] and kept == kept2
    torch.testing.assert_close(stream.logits[0], whole(model, IDS), atol=1e-5, rtol=1e-4)
    assert len({tuple(t.ids) for t in first}) > 1, "trials are independent draws"


def test_every_trial_was_scored_on_its_own_text_and_the_kept_cache_is_its_own(model):
    _, (found, kept, live) = trials(model, 5)
    for trial in found:
        logp = [warp(whole(model, [*IDS, *trial.ids[:k]]), Sampler(0.9)).log_softmax(-1)[unit].item()
                for k, unit in enumerate(trial.ids)]
        np.testing.assert_allclose(trial.logp, logp, atol=1e-4)
        assert len(trial.ids) == 6 or trial.ids[-1] == 44
    live.push(found[kept].ids[-1:])
    torch.testing.assert_close(live.logits[0], whole(model, [*IDS, *found[kept].ids]), atol=1e-4, rtol=1e-3)


def test_the_page_holds_the_text_token_by_token(tiny):
    trace = run("sampling", TEXT, {"length": 8}).traces["sample"]
    text = "".join(trace.canvas.labels)
    assert text.startswith(TEXT.text) and trace.canvas.roles.count("prompt") == len(trace.steps[0].where("context"))
    for before, step in zip(trace.steps, trace.steps[1:]):
        new = step.where("new")
        assert len(new) == 1 and before.state[new[0]] == CODE["unknown"]
        assert step.distributions["raw"].positions.tolist() == new.tolist()
        assert step.distributions["raw"].chosen[0] == step.ids[new[0]] >= 0
        assert set(step.where("known")) == set(before.where("new", "known"))
    ids = trace.steps[-1].ids
    assert [trace.vocabulary[i] for i in ids[ids >= 0].tolist()] == [x for x in trace.canvas.labels if x]


def test_stored_logits_answer_for_the_warpers(tiny):
    trace = run("sampling", TEXT, {"length": 5, "temperature": 0.7, "top_p": 0.8}).traces["sample"]
    for step in trace.steps[1:]:
        raw, warped = step.distributions["raw"], step.distributions["warped"]
        again = warp(torch.from_numpy(raw.logits.astype(np.float32)), Sampler(0.7, top_p=0.8)).softmax(-1)
        np.testing.assert_allclose(again.max(-1).values, warped.top_probs[:, 0], atol=2e-3)


def test_full_logits_are_left_out_when_they_are_large(tiny, monkeypatch):
    from models.baselines.sampling import method as sampling
    monkeypatch.setattr(sampling, "STORED", 100)
    trace = run("sampling", TEXT, {"length": 4}).traces["sample"]
    assert all(step.distributions["raw"].logits is None for step in trace.steps[1:])


def test_the_prompt_is_judged_by_what_came_before_each_token(tiny):
    trace = run("sampling", TEXT, {"length": 1}).traces["sample"]
    ids = trace.steps[0].ids
    count = int((ids >= 0).sum())
    model = tiny.bundle("text-ar-1").model
    for k in (1, count // 2, count - 1):
        wanted = whole(model, ids[:k].tolist()).softmax(-1)[ids[k]].item()
        assert trace.steps[0].fields["probability"][k] == pytest.approx(wanted, rel=2e-3, abs=1e-6)
        # mutant: the distribution that follows the token instead of the one before it
        assert whole(model, ids[:k + 1].tolist()).softmax(-1)[ids[k]].item() != pytest.approx(wanted, rel=2e-3)


def test_the_cost_counts_every_row(tiny):
    trace = run("sampling", TEXT, {"length": 5}).traces["sample"]
    prompt, layers = len(trace.steps[0].where("context")), 3
    assert trace.cost.calls == 5 and trace.cost.rows == layers * (prompt + 4), "the last token is never read back"
    several = run("sampling", TEXT, {"length": 5, "tries": 3}).traces["sample"]
    assert several.facts["spent"].value == 15 and several.cost.rows == layers * (prompt + 3 * 4)


def test_best_of_n_keeps_the_least_perplexing_whole_text(tiny):
    trace = run("sampling", TEXT, {"length": 6, "tries": 5}, seed=2).traces["sample"]
    tried = [s for s in trace.steps if s.level == "trial"]
    perplexity = [float(s.note.split()[1].strip(",")) for s in tried]
    assert len(tried) == 5 and perplexity[-1] == min(perplexity) and len(tried[-1].where("accepted")) == 6
    assert all(len(s.where("refused")) == 6 and trace.steps[s.parent].level == "branch" for s in tried[:-1])


def test_your_turn_takes_the_visitors_token(tiny):
    job = prepare("sampling", TEXT, {"length": 3})
    *_, last = follow(dataclasses.replace(job, choice=((61,), (33,))))
    ids = last.traces["sample"].steps[-1].ids
    start = len(last.traces["sample"].steps[0].where("context"))
    assert ids[start: start + 2].tolist() == [61, 33] and ids[start + 2] >= 0
    for bad in (((10**6,),), ((1, 2),)):
        with pytest.raises(ParamError):
            list(follow(dataclasses.replace(job, choice=bad)))


def test_too_much_text_is_refused_in_one_sentence(tiny):
    with pytest.raises(SubjectError, match="Please shorten it"):
        run("sampling", from_text("! ? " * 1900))
    with pytest.raises(SubjectError, match="cut off fewer"):
        run("sampling", from_text("ab"), {"cut": 2})


def test_a_text_of_nothing_but_its_start_is_refused(tiny):
    """A visitor may type the sign that a text begins with; nothing stands behind it to be read."""
    with pytest.raises(SubjectError, match="has no words"):
        Reader(tiny.bundle("tale-ar-2"), from_text("<|endoftext|>"), 4, whole=True)
    assert len(Reader(tiny.bundle("tale-ar-2"), from_text("<|endoftext|> A fox"), 4, whole=True).prompt) == 3
