"""POPri: bounded clients, noise on the sum, the middle rank, a budget of all rounds, no note at the server; mutants."""
import math

import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.papers.popri import claim, federation, record
from models.papers.popri import recipe as recipes
from models.papers.popri.rule import DELTA, aggregated, epsilon, exact_delta, noise_for, pairs, recovered, scores
from models.trace.subject import SubjectError, from_text
from models.worlds import federation as world
from tests import tiny as stand_ins
from tests.traps import caught, only_these_move

OPENED = from_text("A happy tale of the")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name, size in (("PUBLIC", 8), ("LONGEST", 16), ("CLIENTS", 12), ("PROMPTS", 4), ("ROWS", 2), ("STEPS", 2)):
        monkeypatch.setattr(recipes if hasattr(recipes, name) else federation, name, size)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_one_client_moves_the_sum_by_at_most_one_however_many_notes_it_has():
    texts, clients = some(40, 8), some(6, 8, seed=1) * torch.tensor([1.0, 1, 1, 2, 5, 800])[:, None]
    caught(lambda f: bool((f(texts, clients).norm(dim=1) <= 1 + 1e-5).all()), scores, lambda t, c: c @ t.T,
           lambda t, c: 40**0.5 * scores(t, c))
    caught(lambda f: bool((f(texts, clients).mean(1).abs() < 1e-5).all()), scores,
           lambda t, c: torch.nn.functional.normalize(c @ t.T, dim=1))


def test_noise_is_on_the_sum_and_not_on_the_mean():
    told = torch.zeros(50, 4000)
    dice = lambda: torch.Generator().manual_seed(3)  # noqa: E731
    caught(lambda f: float(f(told, 7.0, dice()).std()) * 50 == pytest.approx(7.0, rel=0.05), aggregated,
           lambda t, sigma, d: aggregated(t, 50 * sigma, d), lambda t, sigma, d: aggregated(t, 0.0, d),
           lambda t, sigma, d: aggregated(t, sigma / 50**0.5, d))


def test_the_first_is_preferred_to_the_middle_one_and_not_to_the_worst():
    values = torch.tensor([[3.0, 9, 1, 5, 7, 2, 8, 4]])  # by rank: 1, 6, 4, 3, 7, 0, 5, 2
    caught(lambda found: found.tolist() == [[1, 7]], pairs(values, 4), pairs(values, 7), pairs(values, 4).flip(1),
           pairs(-values, 4))
    caught(lambda clean: recovered(torch.cat([clean, 0 * clean]), pairs(values, 4).expand(2, 2)).all(), values, -values)


def test_the_budget_is_that_of_all_rounds_by_two_formulas():
    plan = {8: 2.01, 4: 3.73, 2: 7.14, 1: 13.9, 0.5: 27.5}  # the spec's, for ten rounds
    caught(lambda f: all(f(budget, 10) == pytest.approx(sigma, rel=5e-3) for budget, sigma in plan.items()), noise_for,
           lambda budget, rounds: noise_for(budget, 1), lambda budget, rounds: noise_for(budget, rounds, 1e-2))
    for rounds, sigma in ((1, 4.0), (8, 6.38), (8, 24.6)):
        orders = np.linspace(1.001, 400, 100_000)
        least = (orders * rounds / (2 * sigma**2) + math.log(1 / DELTA) / (orders - 1)).min()
        assert epsilon(sigma, rounds) == pytest.approx(least, rel=1e-4), "no order tells more"
        caught(lambda spent, s=sigma, r=rounds: 0 < exact_delta(spent, s, r) < DELTA, epsilon(sigma, rounds),
               epsilon(sigma, rounds) / 2, epsilon(3 * sigma, rounds))
    assert (epsilon(0.0, 8), epsilon(1.0, 0), noise_for(math.inf)) == (math.inf, 0.0, 0.0)


def test_no_note_shapes_the_embedder_or_a_prompt(monkeypatch):
    model, words = stand_ins.tale()
    rows = federation.cut(words, world.openings(3))

    def read() -> torch.Tensor:
        return federation.Federation(model, words).phi(rows)
    before, notes = read(), world.note
    monkeypatch.setattr(world, "clients", lambda *_: pytest.fail("a note was read"))
    torch.testing.assert_close(read(), before)
    monkeypatch.setattr(world, "public", lambda count, seed: [
        notes(np.random.default_rng(i), world.styles()[0]) for i in range(count)])
    caught(lambda found: torch.allclose(found, before, atol=1e-4), before, read())
    assert all(world.topic_of(f"{one} moon.") == "" for one in world.openings(3)), "a prompt names no topic"


def test_arms_differ_in_what_they_say_alone_and_only_changes_learn(arms):
    made = {kind: arms(kind) for kind in (recipes.POPri, recipes.Noiseless, recipes.Tight, recipes.Shuffled)}
    for one in made.values():
        torch.manual_seed(0)
        model, batch = one.build(), one.batch(0, 0.0)
        assert float(one.loss(model, batch, 0.0)[0].detach()) == pytest.approx(math.log(2), abs=1e-4)
    ordered = {kind: {tuple(map(tuple, pair)) for pair in one.lessons["ids"].tolist()} for kind, one in made.items()}
    plain = ordered[recipes.POPri]
    caught(lambda found: set(map(frozenset, found)) == set(map(frozenset, plain)) and found != plain,
           ordered[recipes.Shuffled], plain)
    assert [one.sigma for one in made.values()] == [noise_for(b) for b in (2.0, math.inf, 0.5, 2.0)]
    only_these_move(model, lambda net: one.loss(net, batch, 0.0)[0],
                    {name for name, _ in model.named_parameters() if ".change.up" in name})
    assert not torch.equal(one.batch(1, 0.5)["ids"], batch["ids"]) and one.state()["lessons"] is one.lessons


def test_the_gap_is_a_share_of_what_real_notes_would_give():
    rows = np.array([[70.0, 74.0, 72.0], [72.0, 76.0, 73.0]])  # start, real, arm
    caught(lambda f: f(rows) == 0.375, claim.gap, lambda r: float((r[:, 2] - r[:, 0]).mean()))


def test_rounds_are_told_and_more_noise_turns_pairs_round(tiny, monkeypatch):
    few = {"clients": 50, "each": 4}
    assert twin(prepare("popri", OPENED, few)).bundle.name == "tale-popri-shuffled-1"
    trace = run("popri", OPENED, {**few, "epsilon": "inf", "rejected": "worst"}).traces["sample"]
    assert [step.label for step in trace.steps] == ["round 0", "round 2", "round 4", "round 8"]
    assert trace.facts["recovered"].value == 100 and "epsilon" not in trace.facts
    for step in trace.steps:
        link = step.edges["pair"]
        clean = [float(step.fields["clean"][at]) for at in (*link.query, *link.key)]
        caught(lambda pair: pair[0] > pair[1], clean, clean[::-1])
    noisy = run("popri", OPENED, {**few, "epsilon": "0.1"}, checkpoint="tale-popri-tight-1").traces["sample"]
    assert noisy.facts["recovered"].value < 100 and noisy.facts["epsilon"].value == pytest.approx(0.1, abs=0.01)
    assert [step.label for step in noisy.steps] == ["round 0", "round 8"], "only the first arm's rounds are shipped"
    monkeypatch.setattr(record, "candidates", lambda _, words, asked, each, seed: federation.cut(words, asked * each))
    for text, why in ((from_text("the fox " * 30), "at most"), (OPENED, "No text goes on")):
        with pytest.raises(SubjectError, match=why):
            run("popri", text, few)
