"""Groups of answers: they go on where they stood, count as sums, and are compared within their group alone."""
import pytest
import torch

from models.worlds.world import END, PAD
from tests.traps import caught
from training.language import Shape, llama
from training.preferences import above_group, answer_logp, batched, dpo, drawn_on, reinforce

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    made = llama(20, Shape(16, 1, 2, 2, 32), 32).eval()
    made.get_input_embeddings().weight.data.mul_(20)  # tied to the head: it prefers some tokens
    return made


def test_answers_are_drawn_from_the_model_and_go_on_where_they_stood(model):
    rows = [[4, 5, 6]] * 3000 + [[4, 5, 6, 7, 8]] * 8
    made = drawn_on(model, rows, 3, torch.Generator().manual_seed(1))
    assert all(new[: len(old)] == old and len(new) <= len(old) + 3 for old, new in zip(rows, made, strict=True))
    assert all(END not in new[len(old) : -1] for old, new in zip(rows, made, strict=True))
    found = torch.bincount(torch.tensor([new[3] for new in made[:3000]]), minlength=20) / 3000
    with torch.no_grad():
        wanted = model(torch.tensor(rows[:1])).logits[0, -1].float().softmax(-1)
    caught(lambda chance: float((found - chance).abs().max()) < 0.03, wanted, wanted.roll(1), (20 * wanted).softmax(-1))


def test_the_likelihood_of_an_answer_is_a_sum_and_padding_counts_nothing(model):
    rows = [[4, 5, 6, 7, END], [4, 5, 8, 9, 10, 11, END]]
    ids, answer = batched(rows, 2)
    assert ids[0, 5:].tolist() == [PAD, PAD] and answer.sum(1).tolist() == [3, 5] and not answer[:, :2].any()
    with torch.no_grad():
        alone = [model(torch.tensor([row])).logits[0].log_softmax(-1) for row in rows]
        wanted = torch.stack([sum(logp[t, row[t + 1]] for t in range(1, len(row) - 1))
                              for logp, row in zip(alone, rows, strict=True)])
        caught(lambda f: torch.allclose(f(model, ids, answer), wanted, atol=1e-4), answer_logp,
               lambda *given: answer_logp(*given) / answer.sum(1),
               lambda model, ids, answer: answer_logp(model, ids, torch.ones_like(answer)))


def test_an_answer_is_compared_with_its_own_group_and_nothing_is_normalised():
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    caught(lambda f: f(rewards).tolist() == [[0.75, -0.25, -0.25, -0.25], [0.0] * 4], above_group,
           lambda r: r - r.mean(), lambda r: above_group(r) / (r.std(-1, keepdim=True) + 1e-6))
    logp = torch.zeros(2, requires_grad=True)
    reinforce(logp, torch.tensor([0.5, -0.25])).backward()
    assert logp.grad.tolist() == [-0.25, 0.125], "descent makes likelier what is above the mean of its group"


def test_a_preference_pulls_answers_apart_against_a_reference():
    policy, reference = torch.tensor([[-3.0, -5.0], [-4.0, -2.0]]), torch.tensor([[-4.0, -5.0], [-4.0, -4.0]])
    wanted = -torch.sigmoid(torch.tensor([0.1, -0.2])).log().mean()  # 0.1 (1 - 0), 0.1 (0 - 2)
    caught(lambda f: torch.allclose(f(policy, reference, 0.1)[0], wanted), dpo,
           lambda p, r, b: dpo(p.flip(0), r.flip(0), b), lambda p, r, b: dpo(p, 0 * r, b),
           lambda p, r, b: dpo(p, r, 1.0), lambda p, r, b: dpo(p, r.flip(0), b))
    policy.requires_grad_(True), reference.requires_grad_(True)
    dpo(policy, reference, 0.1)[0].backward()
    assert bool((policy.grad[0] < 0).all() and (policy.grad[1] > 0).all()), "descent lifts the chosen ones"
    assert reference.grad is None
