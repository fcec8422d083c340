"""Inverse RL for language: logits as values, an end worth nothing, equal quality; every trap beside its mutants."""
import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.engine.method import prepare, run, twin
from models.papers.irl import claim
from models.papers.irl import recipe as recipes
from models.papers.irl.frontier import MLE, at_quality
from models.papers.irl.method import implied
from models.papers.irl.rule import objective, value_after
from models.papers.irl.sentences import WORLD, asked, bleu, right, self_bleu, told
from models.trace.subject import SubjectError, from_text
from models.worlds.world import END, PAD
from tests.traps import caught, only_these_move

TASK = "A tale with ring, fox and river."
TYPED = from_text(f"{TASK} The fox crossed the river and found a spoon.")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(recipes, "SET", 12)


def test_the_reward_is_made_of_raw_logits():
    """From log-probabilities V is 0 everywhere, and a penalty on (log pi)^2 is left."""
    logits, ids = 3 * torch.randn(5, 40, generator=torch.Generator().manual_seed(0)), [4, 9, 2, 7, END]
    v = logits.logsumexp(-1)
    wanted = [float(logits[t, one] - (v[t + 1] if t < 4 else 0)) for t, one in enumerate(ids)]
    caught(lambda given: implied(given, ids, 1.0)["reward"] == pytest.approx(wanted, abs=1e-4), logits,
           logits.log_softmax(-1), logits - v.mean())
    assert implied(logits, ids, 0.9)["reward"][:4] == pytest.approx(
        [r + 0.1 * float(after) for r, after in zip(wanted, v[1:], strict=False)], abs=1e-4)
    assert np.isnan(implied(logits[:2], ids[:2], 1.0)["reward"][1]), "what stands behind an open end is not known"


def test_nothing_is_worth_anything_behind_the_end():
    v, end = torch.tensor([[5.0, 6.0, 7.0, 8.0]]), torch.tensor([[False, False, True, False]])
    caught(lambda f: torch.equal(f(v, end), torch.tensor([[6.0, 7.0, 0.0, 0.0]])), value_after,
           lambda v, end: v.roll(-1, 1), lambda v, end: v.masked_fill(end, 0), lambda v, end: value_after(v, ~end))


def test_only_words_of_the_answer_count_and_without_a_penalty_it_is_cross_entropy(arms, small):
    plain, strong = arms(recipes.OnKeywords), arms(recipes.HighPenalty)
    model, batch = plain.build(), plain.batch(3, 0.5)
    ids, answer = batch["ids"], batch["answer"]
    logits = model(ids[:, :-1]).logits.float()
    each = cross_entropy(logits.mT, ids[:, 1:], reduction="none").detach()
    wanted = float(each[answer[:, 1:].bool()].mean())
    caught(lambda mask: float(plain.loss(model, {**batch, "answer": mask}, 0.5)[0].detach()) == pytest.approx(
        wanted, abs=1e-4), answer, torch.ones_like(answer), (ids != PAD).float())
    assert bool((answer.sum(1) > 5).all()) and not bool(answer[ids == PAD].any() or answer[:, :10].any())
    after = torch.where(ids == PAD, 7, ids)  # padding behind the end moves neither term
    losses = [float(strong.loss(model, {"ids": some, "answer": answer}, 0.5)[0].detach()) for some in (ids, after)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4) and losses[0] > wanted


def test_the_penalty_sees_the_scale_and_its_gradient_goes_through_the_next_value():
    q, v = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]], requires_grad=True)
    end, every = torch.tensor([[False, True]]), torch.ones(1, 2)
    mle, td = objective(q, v, end, every)
    assert (float(mle.detach()), float(td.detach())) == (2.0, ((1 - 4) ** 2 + 2**2) / 2)
    caught(lambda through: float(torch.autograd.grad(objective(q, v, end, every, 1.0, through)[1] + 0 * v.sum(), v)[0][
        0, 1]) == 3.0, True, False)


def test_arms_see_the_same_batches_and_lambda_grows_to_its_weight(arms, small):
    made = {kind: arms(kind) for kind in (recipes.OnKeywords, recipes.HighPenalty, recipes.WithEntropy,
                                          recipes.WithSmoothing)}
    batches = [one.batch(5, 0.5) for one in made.values()]
    assert all(torch.equal(batches[0]["ids"], other["ids"]) for other in batches)
    plain, strong, bonus, smooth = made.values()
    model, batch = plain.build(), batches[0]
    only_these_move(model, lambda net: strong.loss(net, batch, 0.5)[0],
                    {name for name, _ in model.named_parameters() if ".change.up" in name})
    share = [float(strong.loss(model, batch, at)[1]["share"]) for at in (0.0, 0.05, 0.1, 1.0)]
    assert share == pytest.approx([0, share[2] / 2, share[2], share[2]]) and share[2] > 0.01, "it does not vanish"
    logits, here = model(batch["ids"][:, :-1]).logits.float(), batch["answer"][:, 1:].bool()
    rows, targets = logits[here].detach(), batch["ids"][:, 1:][here]
    spread = torch.distributions.Categorical(logits=rows).entropy().mean()
    caught(lambda wanted: float(bonus.loss(model, batch, 0.5)[0].detach()) == pytest.approx(float(wanted), abs=1e-4),
           cross_entropy(rows, targets) - 0.07 * spread, cross_entropy(rows, targets) + 0.07 * spread)
    assert float(smooth.loss(model, batch, 0.5)[0].detach()) == pytest.approx(
        float(cross_entropy(rows, targets, label_smoothing=0.05)), abs=1e-4)


def test_diversity_is_compared_at_equal_quality():
    quality, diversity = [90.0, 80.0, 60.0], [10.0, 20.0, 40.0]  # from cold to hot
    caught(lambda f: f(70.0, quality, diversity) == 30.0, at_quality, lambda wanted, q, d: d[2],
           lambda wanted, q, d: max(d), lambda wanted, q, d: float(np.mean(d)))
    assert at_quality(95.0, quality, diversity) == 0.0 and at_quality(50.0, quality, diversity) == 40.0


def test_self_bleu_leaves_a_text_out_of_its_references():
    same, other = "the fox hid the ring".split(), "a hen sold one spoon".split()
    caught(lambda f: f([same, same]) == 1.0 and f([same, other]) == 0.0, self_bleu,
           lambda texts: float(np.mean([bleu(text, texts) for text in texts])), lambda texts: 1 - self_bleu(texts))
    assert bleu(list("abcde"), [list("abcdf")]) == pytest.approx((3 / 4 * 2 / 3 * 1 / 2) ** (1 / 3))
    assert bleu(list("abcd"), [list("abcdefgh")]) == pytest.approx(np.exp(1 - 8 / 4)), "the short one pays"


def test_exams_are_not_taught_and_an_exchanged_word_is_wrong():
    taught, docs = set(told(40)), asked(60, 1)
    assert not taught & {doc.pieces for doc in docs} and all(len(doc.truth) == 3 for doc in docs)
    assert all(right(*pieces) for pieces in taught)
    tokenizer, found = WORLD.tokenizer(), 0
    for doc in docs:
        if spoiled := claim.exchanged(doc, tokenizer):
            ids, first, marks = spoiled
            true, found = tokenizer.encode(doc.pieces[1]).ids, found + 1
            changed = np.flatnonzero(np.array(ids[first:-1]) != true)
            caught(lambda at, marks=marks: at.tolist() == np.flatnonzero(marks == 1).tolist(), changed, changed + 1)
            assert not right(doc.pieces[0], tokenizer.decode(ids[first:-1])) and (marks == 0).sum() >= 4
    assert found >= 5


def test_a_typed_answer_is_judged_word_by_word_and_the_twin_is_maximum_likelihood(tiny):
    job = prepare("irl", TYPED, {"samples": 3})
    assert twin(job).bundle.name == MLE and twin(job).params == job.params
    trace = run("irl", TYPED, {"samples": 3}).traces["sample"]
    known = np.isfinite(trace.steps[0].fields["reward"])
    ids = trace.steps[0].ids[trace.steps[0].ids >= 0]
    dot = ids.tolist().index(job.tokenizer.convert_tokens_to_ids("."))
    caught(lambda found: np.flatnonzero(found).tolist() == list(range(dot + 1, len(ids))), known, np.roll(known, 1))
    drawn = [step for step in trace.steps if step.level == "trial"]
    assert {"right", "varied", "different"} == set(trace.facts) and len(drawn) == 3
    assert [step.label for step in drawn].count("answer 1 of 3") <= 1 and not any(
        "kept" in step.label or len(step.where("refused")) for step in drawn), "none is chosen: all three count"
    for text in ("Once upon a time.", "A tale with ring"):
        with pytest.raises(SubjectError, match="needs a task"):
            run("irl", from_text(text))
