"""The attention lens on every kind of checkpoint, and Captum's answers against a loop that needs no Captum."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import LayerIntegratedGradients

from models.baselines.attention import attribution, claim
from models.baselines.attention import method as attention
from models.engine.method import find, follow, prepare, run
from models.loops.attend import model_adapters
from models.trace.subject import SubjectError, from_text

SHORT = "Once upon a time there was a little red hen."


def job_on(checkpoint: str = "text-ar-1", text: str = SHORT, **params):
    return prepare("attention", from_text(text), params, checkpoint=checkpoint)


@pytest.mark.parametrize("checkpoint", find("attention").checkpoints)
def test_every_shipped_transformer_can_be_looked_at(checkpoint, tiny):
    trace = run("attention", checkpoint=checkpoint).traces["attend"]
    assert trace.heads.entropy.shape[2] == trace.canvas.size and trace.steps[0].cost.macs > 0
    assert np.isfinite(trace.heads.span.astype(np.float32)).all()


def test_kinds_follow_the_checkpoint(tiny):
    method = find("attention")
    assert [method.kind(name) for name in ("text-ar-1", "photo-mae-1", "scene-mgm-1")] == ["text", "photo", "caption"]
    with pytest.raises(SubjectError, match="photo"):
        prepare("attention", from_text(SHORT), checkpoint="photo-mae-1")
    for name in method.checkpoints:
        assert method.examples_for(method.kind(name))


def explains_the_prediction(ablated, seen):
    """Ablation is the fall of the predicted token's log-probability when one token is blanked."""
    with torch.no_grad():
        whole = seen.predict(seen.ids)[0]
        target = int(whole.argmax())
        found = ablated(seen, target)
        for place in range(seen.ids.shape[1]):
            changed = seen.ids.clone()
            changed[0, place] = seen.blank
            assert found[place] == pytest.approx(float(whole[target] - seen.predict(changed)[0, target]), abs=1e-4)


@pytest.mark.parametrize("checkpoint", ("text-ar-1", "text-mdm-2"))
def test_ablation_is_what_it_says(checkpoint, tiny):
    explains_the_prediction(attribution.ablated, model_adapters.sight(job_on(checkpoint)))


def test_mutants_of_ablation_are_refused(tiny):
    seen = model_adapters.sight(job_on())

    def another_token(seen, target):
        return attribution.ablated(seen, (target + 1) % 300)

    def another_blank(seen, target):
        return attribution.ablated(dataclasses.replace(seen, blank=50), target)

    for mutant in (another_token, another_blank, lambda seen, target: -attribution.ablated(seen, target)):
        with pytest.raises(AssertionError):
            explains_the_prediction(mutant, seen)


def the_delta_closes_the_sum(found):
    assert found.gradients.sum() == pytest.approx(found.gap + found.delta, abs=1e-3)


def test_integrated_gradients_sum_to_the_gap_up_to_the_delta(tiny):
    found = attribution.attribute(model_adapters.sight(job_on()), steps=16)
    the_delta_closes_the_sum(found)
    with pytest.raises(AssertionError):  # gradients at the text alone, not integrated
        the_delta_closes_the_sum(dataclasses.replace(found, gradients=found.gradients * 0.5))
    fine = attribution.attribute(model_adapters.sight(job_on()), steps=64)
    assert abs(fine.delta) <= abs(found.delta) + 1e-3


def leaves_other_runs_alone(integrated, seen):
    """While gradients are integrated, the same model answers another thread as ever."""
    expected, found = seen.predict(seen.ids), []

    def meanwhile(ids):
        with ThreadPoolExecutor(1) as other, torch.no_grad():
            found.append(other.submit(seen.predict, seen.ids).result().detach())
        return seen.predict(ids)

    integrated(dataclasses.replace(seen, predict=meanwhile), torch.full_like(seen.ids, seen.blank), 3, 4)
    assert found and all(torch.equal(one, expected) for one in found)


def test_attribution_leaves_other_runs_alone(tiny):
    leaves_other_runs_alone(attribution.integrated, model_adapters.sight(job_on()))

    def captums(seen, blank, target, steps):
        return LayerIntegratedGradients(seen.predict, seen.embedding).attribute(
            seen.ids, baselines=blank, target=target, n_steps=steps)

    with pytest.raises(AssertionError):
        leaves_other_runs_alone(captums, model_adapters.sight(job_on()))


def nothing_behind_the_query_is_used(predict, ids, query):
    changed = ids.clone()
    changed[0, query + 1:] = 7
    torch.testing.assert_close(predict(ids), predict(changed))


def test_causal_prediction_uses_the_past_only(tiny):
    job = job_on(query=3)
    seen = model_adapters.sight(job)
    assert seen.ids.shape[1] == 4, "only tokens up to the query can be attributed"
    whole = torch.tensor([job.tokenizer(SHORT)["input_ids"]])
    nothing_behind_the_query_is_used(seen.predict, whole, 3)
    with pytest.raises(AssertionError):
        nothing_behind_the_query_is_used(lambda ids: job.model(ids).logits[:, -1], whole, 3)


def the_answer_is_hidden(seen, job):
    asked = seen.query
    for word in (5, 60):
        changed = seen.ids.clone()
        assert changed[0, asked] == job.tokenizer.mask_token_id
        changed[0, asked] = word
        with torch.no_grad():
            assert not torch.allclose(seen.predict(changed), seen.predict(seen.ids))


def test_a_masked_model_predicts_the_asked_token_without_seeing_it(tiny):
    job = job_on("text-mdm-2", query=2)
    seen = model_adapters.sight(job)
    the_answer_is_hidden(seen, job)
    assert seen.layout.canvas.labels[2] != "<|mask|>", "the canvas keeps the word"
    shown = seen.ids.clone()
    shown[0, 2] = job.tokenizer(SHORT)["input_ids"][2]
    with pytest.raises(AssertionError):
        the_answer_is_hidden(dataclasses.replace(seen, ids=shown), job)


def test_long_texts_are_not_attributed(tiny):
    trace = run("attention", from_text(SHORT * 12)).traces["attend"]
    assert "rho_gradients" not in trace.facts and trace.canvas.size > attribution.MOST
    short = run("attention", from_text(SHORT * 12), {"query": 20}).traces["attend"]
    assert "rho_gradients" in short.facts, "only the tokens behind the query count"


def test_the_record_says_that_attention_is_not_attribution(tiny):
    trace = run("attention", from_text(SHORT)).traces["attend"]
    assert trace.sentence.startswith("Attention is not attribution")
    assert f"{trace.facts['rho_gradients'].value:.2f}" in trace.sentence
    last = trace.steps[-1]
    assert {"attention", "gradients", "ablation"} <= set(last.fields)
    assert int(last.distributions["next"].top_ids[0, 0]) in trace.vocabulary


def the_map_comes_before_its_explanation(results):
    """The first picture shows heads and exact rows, and nothing was attributed yet."""
    first = next(found.traces["attend"] for found in results if "attend" in found.traces)
    assert len(first.steps) == 1 and first.heads is not None and first.rows is not None
    assert not {"gradients", "ablation"} & set(first.steps[0].fields)


def test_the_map_is_drawn_before_the_attribution_is_computed(tiny, monkeypatch):
    monkeypatch.setattr(attention, "attribute", lambda *more: pytest.fail("attributed before the map was drawn"))
    the_map_comes_before_its_explanation(follow(job_on()))
    right = attention.loop.opening

    def heads_at_the_end(layout, total, extra=None, looked=None):  # the mutant: no record can stand before Close
        return right(layout, total, extra)
    monkeypatch.setattr(attention.loop, "opening", heads_at_the_end)
    with pytest.raises(pytest.fail.Exception):
        the_map_comes_before_its_explanation(follow(job_on()))


@pytest.mark.weights
def test_the_convergence_delta_of_the_default_points_is_small(shipped):
    shipped("text-ar-1")
    default = find("attention").params().steps
    fine, coarse = (attribution.attribute(model_adapters.sight(prepare("attention")), steps) for steps in (default, 8))
    assert fine.points == default and coarse.points > 8, "as many as the delta needs"
    assert abs(fine.delta) < 0.05 * abs(fine.gap) and abs(coarse.delta) < 0.05 * abs(coarse.gap)


def test_points_are_doubled_until_the_integral_explains_its_difference(tiny, monkeypatch):
    """Mutants: a fixed number of points; a delta that is compared with nothing."""
    asked, real = [], attribution.integrated

    def slow(sight, blank, target, points):
        asked.append(points)
        return real(sight, blank, target, 8)[0], 1000.0 / points**2

    monkeypatch.setattr(attribution, "integrated", slow)
    monkeypatch.setattr(attribution, "ENOUGH", 1e9)
    assert attribution.attribute(model_adapters.sight(job_on()), 16).points == 16
    monkeypatch.setattr(attribution, "ENOUGH", 0.05)
    monkeypatch.setattr(attribution, "MOST_POINTS", 10**9)
    monkeypatch.setattr(attribution, "WORK", 1e30)
    asked.clear()
    found = attribution.attribute(model_adapters.sight(job_on()), 16)
    assert asked == [16 * 2**k for k in range(len(asked))] and len(asked) > 1 and found.converged
    monkeypatch.setattr(attribution, "WORK", 0.0)  # a model that is too large for more
    assert attribution.attribute(model_adapters.sight(job_on()), 16).points == 16


def test_an_integral_that_does_not_converge_is_compared_with_nothing(tiny, monkeypatch):
    monkeypatch.setattr(attribution, "integrated", lambda sight, blank, target, points: (
        np.zeros(sight.ids.shape[1], np.float32), -36.0))
    trace = run("attention", from_text("the hen and the mill")).traces["attend"]
    assert "did not converge" in trace.sentence and "36.00" in trace.sentence
    assert not {"rho_gradients", "rho_between"} & set(trace.facts) and "rho_ablation" in trace.facts


@pytest.mark.parametrize("text, count", [("e", 1), ("e.", 2)])
def test_the_order_of_one_or_two_tokens_is_not_defined(tiny, text, count):
    from visualizers import draw
    from visualizers.drawing.units import fact_text
    trace = run("attention", from_text(text)).traces["attend"]
    assert trace.canvas.size == count and "not defined" in trace.sentence and "0.00" not in trace.sentence
    shown = [fact_text(fact) for name, fact in trace.facts.items() if name.startswith("rho")]
    assert shown and set(shown) == {"not defined"} and "nan" not in draw(trace).alt
    assert not any("agree" in chart.title for chart in trace.charts)


def test_a_first_token_on_which_heads_rest_is_named():
    rows = np.full((2, 2, 6), 0.1)
    assert attention.sink(rows) == ""
    rows[..., 0] = 0.5
    assert attention.sink(rows).startswith(" 50 % of the attention rests on the first token")


@pytest.mark.parametrize("entropy, words", [([1.5], "the one layer looks with an entropy of 1.50 nats"),
                                            ([1.5, 1.5], "every layer looks alike"),
                                            ([2.0, 1.0], "layer 2 looks most sharply (entropy 1.00 nats")])
def test_one_layer_is_not_compared_with_itself(entropy, words):
    """Mutant: "layer 1 looks most sharply and layer 1 most broadly"."""
    maps = np.array(entropy, np.float32)[:, None, None] * np.ones((1, 2, 9), np.float32)
    looked = SimpleNamespace(heads=SimpleNamespace(entropy=maps, span=maps * 0 + 3))
    seen = SimpleNamespace(layout=SimpleNamespace(canvas=SimpleNamespace(size=9), unit="tokens"))
    said = attention.without(seen, looked)
    assert words in said and ("most broadly" in said) == (len(set(entropy)) > 1)


def test_agreement_compares_sizes_not_signs():
    found = attribution.Attribution(torch.zeros(1, 1), 0, np.array([-3.0, 2, -1]), 0.0, 1.0, 16, np.array([3.0, 2, 1]))
    rows = np.array([[[0.6, 0.3, 0.1]]])
    facts = attention.agreement(found, rows)
    assert [facts[n].value for n in ("rho_gradients", "rho_ablation", "rho_between")] == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("query", (500, -2 - 500))
def test_queries_beyond_the_text_are_refused_in_one_sentence(query, tiny):
    job = job_on()
    job = dataclasses.replace(job, params=dataclasses.replace(job.params, query=query))
    with pytest.raises(SubjectError, match="token"):
        model_adapters.sight(job)


def test_unknown_models_are_refused_in_one_sentence(tiny):
    job = job_on()
    job = dataclasses.replace(job, bundle=dataclasses.replace(job.bundle, model=torch.nn.Linear(2, 2)))
    with pytest.raises(SubjectError, match="Linear"):
        model_adapters.sight(job)


def test_the_claim_can_be_measured(tiny, monkeypatch):
    """From the texts to the verdict. Mutant: an agreement that does not say whether its integral converged."""
    texts = [SHORT, "There was a hen and a cat in the old house by the sea."]
    monkeypatch.setattr(claim, "stand_ins", lambda checkpoint: [5, 6, 7, 8])
    assert all(len(claim.agreement(text, "text-ar-1")) == 5 for text in texts)
    found = claim.concluded("attention", "text-ar-1", texts, (0.0, 0.0))
    assert found.verdict == "not testable here" and any("converged" in row.name for row in found.context)
