"""All for One: what waiting tokens hold, who hears whom in which layer, on which sums a setting is chosen; mutants."""
from itertools import product

import numpy as np
import pytest
import torch

from models.backbones.layer_lens import residuals
from models.claims import Lab
from models.engine.method import run
from models.papers.all_for_one import claim, network
from models.papers.all_for_one.network import ALONE, CAMA, DEAF, EVERYONE, MEAN, NET, PEEK, ZEROS
from models.papers.all_for_one.recipe import Sums
from models.trace import CODE
from models.trace.subject import SubjectError, from_text
from models.worlds import sums
from models.worlds.sums import EQUALS, ID, ZERO
from tests.traps import caught, learns, reaches

pytestmark = pytest.mark.usefixtures("one_thread", "tiny")
IDS = torch.tensor([sums.ids(sums.read(text)) for text in ("1 + 0 - 2 =", "2 + 1 - 0 =", "1 + 2 - 2 =")])
WAIT, DEPTH = 2, 6


@pytest.fixture
def net(tiny):
    return tiny.bundle(NET).model


@pytest.fixture
def means(net, monkeypatch):
    """Of numbers 0 to 2, every sum of which is drawn once: the means are exact."""
    every = torch.tensor(list(product(range(3), repeat=3)))
    monkeypatch.setattr(torch, "randint", lambda high, size, generator: every[: size[0]])
    return {kind: network.ablated(net, IDS, kind, 27, torch.Generator()) for kind in (CAMA, MEAN, ZEROS)}


def test_a_waiting_token_holds_the_mean_over_other_numbers_with_its_own(net, means):
    """Mutants: the mean over any number, which destroys the operand; attention to itself alone, which was never seen in
    training; the state of the whole network, which knows the others."""
    prompts = torch.tensor([sums.ids(sums.sum_of(numbers, "+-")) for numbers in product(range(3), repeat=3)])
    seen = residuals(net, prompts)

    def right(states) -> bool:
        return all(torch.allclose(states[row, t], seen[prompts[:, t] == IDS[row, t]][:, t].mean(0), atol=1e-4)
                   for row in range(len(IDS)) for t in range(IDS.shape[1]))

    alone = network.allowed(ALONE, IDS.shape[1], True)
    embedded = net.model.embed_tokens(IDS)
    apart = torch.stack([network.through(net, embedded, 0, n, alone) for n in range(DEPTH + 1)], 2)
    caught(right, means[CAMA], means[MEAN], apart, residuals(net, IDS))
    assert torch.allclose(means[CAMA][:, :, 0], embedded, atol=1e-5) and not means[ZEROS].any()


def test_a_state_tells_nothing_of_other_numbers_and_neither_do_later_keys(net, means):
    """Where no token knows its own number the answer is one and the same. Mutant: keys and values of the whole pass."""
    def blind(states) -> bool:
        found = [network.staged(net, states, WAIT, transfer) for transfer in range(DEPTH - WAIT + 1)]
        return all(torch.allclose(logits[0], logits[1], atol=1e-4) for logits in found)

    leaking = means[MEAN].clone()
    leaking[:, :-1] = residuals(net, IDS)[:, :-1]
    caught(blind, means[MEAN], leaking, means[CAMA])
    first, second = means[CAMA][0], means[CAMA][2]  # these differ in their second number alone
    assert torch.equal((first != second).flatten(1).any(1), IDS[0] != IDS[2])
    assert torch.allclose(*(network.staged(net, one[None], WAIT, 0) for one in (first, second)), atol=1e-5)


@pytest.mark.parametrize("start", (True, False))
def test_only_the_last_token_looks_at_others_and_only_while_it_transfers(net, means, start):
    """Mutants: everyone looks back; the last one looks on while it computes; the start token is forgotten, or not."""
    h, count = means[CAMA][:1, :, WAIT], IDS.shape[1]
    eye, usual = np.eye(count, dtype=bool), np.tri(count, dtype=bool)
    last, first = np.arange(count)[:, None] == count - 1, np.arange(count) == 0
    wanted = {ALONE: eye | (first & start), PEEK: eye | (first & start) | last,
              DEAF: np.where(last, eye | (first & start), usual)}

    def heard(sees) -> np.ndarray:
        return reaches(lambda states: network.through(net, states, WAIT, WAIT + 1, sees), h)

    for stage, other in ((ALONE, PEEK), (PEEK, ALONE), (DEAF, PEEK)):
        caught(lambda sees, stage=stage: np.array_equal(heard(sees), wanted[stage]),
               network.allowed(stage, count, start), network.allowed(other, count, start),
               network.allowed(stage, count, not start), network.allowed(EVERYONE, count, start))


def test_layers_of_transfer_come_first_and_all_layers_are_passed(net, means):
    """By hand. Mutants: one layer of transfer more, and one waiting layer less."""
    peek, alone = (network.allowed(stage, IDS.shape[1], True) for stage in (PEEK, ALONE))

    def by_hand(wait: int, transfer: int) -> torch.Tensor:
        h = means[CAMA][:, :, wait]
        for layer in range(wait, DEPTH):
            h = network.through(net, h, layer, layer + 1, peek if layer < wait + transfer else alone)
        return network.said(net, h[:, -1])

    caught(lambda *setting: torch.allclose(network.staged(net, means[CAMA], WAIT, 2), by_hand(*setting), atol=1e-4),
           (WAIT, 2), (WAIT, 3), (1, 2))


def test_without_waiting_and_with_everyone_looking_it_is_the_whole_network(net, means):
    """Mutant for the deaf layers, which are those of transfer and no others: one of them."""
    whole = net(IDS, use_cache=False).logits[:, -1]
    assert torch.allclose(network.staged(net, means[CAMA], 0, DEPTH, EVERYONE, start=False), whole, atol=1e-3)
    caught(lambda transfer: torch.allclose(network.blocked(net, IDS, WAIT, transfer), whole, atol=1e-4), 0, 1)


def test_a_setting_is_chosen_on_other_sums_and_scored_on_sums_that_the_network_can_do(net, monkeypatch):
    """Mutants: chosen on what is scored; sums that the whole network gets wrong count as lost."""
    asked, solves, plain = [], lambda ids: ids[:, 1].numpy() % 6 > 0, claim.states
    monkeypatch.setattr(claim, "whole", lambda net, ids, values: solves(ids))
    monkeypatch.setattr(claim, "states", lambda net, ids, *more: asked.append(ids) or plain(net, ids, *more))
    found = claim.measure(Lab(quick=True))
    chosen, scored = asked[0], asked[1]

    def fair(chosen, scored) -> bool:
        return not {*map(tuple, chosen.tolist())} & {*map(tuple, scored.tolist())} and solves(scored).all()

    ids, _ = claim.shuffled(claim.SIGNS)
    caught(fair, (chosen, scored), (scored, scored), (chosen, ids[len(ids) // 2 :]))
    assert found.arms[0]["n"] == len(scored) and torch.equal(scored, asked[2])
    assert (ids[:, 2] == ID["+"]).all() and (ids[:, 4] == ID["-"]).all()


def test_the_rule_wants_waiting_layers_first_and_few_for_transfer(monkeypatch):
    """Of what keeps enough. Mutants: the settings that keep most, and with too much transfer."""
    share, deep = {(3, 4): 20, (3, 3): 19, (3, 2): 19, (2, 1): 20, (7, 5): 20}, lambda: None
    deep.model = lambda: None
    deep.model.layers = range(12)
    monkeypatch.setattr(network, "staged", lambda net, held, *setting: setting)
    monkeypatch.setattr(claim, "states", lambda *_: None)
    monkeypatch.setattr(claim, "solved", lambda net, *given: given)
    monkeypatch.setattr(claim, "hits", lambda setting, values: np.arange(20) < share.get(setting, 0))
    best, most = claim.searched(deep, IDS, np.zeros(3, int), Lab(quick=True))
    caught(lambda *one: one == (3, 2), best, (3, 4), (7, 5))
    assert most == 7 and all(2 <= wait and 1 <= transfer <= 4 for wait, transfer in claim.settings(12))


def test_it_learns_the_one_token_behind_the_sign_and_no_kept_sum(monkeypatch):
    recipe = Sums(0)
    recipe.prepare(None)
    ids, place, answer = (recipe.batch(3, 0.0)[name].numpy() for name in ("ids", "place", "answer"))
    rows = np.arange(len(ids))
    caught(lambda at: (ids[rows, at] == ID[EQUALS]).all(), place, place - 1)
    numbers = np.where(ids >= ZERO, ids - ZERO, 0)
    signs = np.where(ids[:, 2:5:2] == ID["-"], -1, 1)
    assert (answer - ZERO == numbers[:, 1] + (signs * numbers[:, 3:6:2]).sum(1)).all()
    assert not {*map(tuple, ids[place == 6].tolist())} & {*map(tuple, recipe.kept[1][0].tolist())}
    recipe.shape = recipe.shape._replace(width=64, layers=2, ff=64)
    model = recipe.build()
    table = model.model.embed_tokens.weight[ZERO:]
    near = torch.cosine_similarity(table[20], table[[21, 50]])
    assert near[0] > near[1] and model.lm_head.weight is not model.model.embed_tokens.weight
    batch = {name: value[:16] for name, value in recipe.batch(0, 0.0).items()}
    learns(model, lambda model: recipe.loss(model, batch, 0.0)[0])


@pytest.mark.parametrize("params, last", (
    ({"wait": 0, "transfer": 0}, "compute"), ({"wait": 12, "transfer": 12}, "wait"),
    ({"wait": 2, "transfer": 12, "ablation": ZEROS}, "transfer")))
def test_a_run_shows_every_layer_and_only_what_may_be_heard(params, last):
    trace = run("all-for-one", from_text("24-7"), params | {"samples": 16}).traces["attend"]
    assert len(trace.steps) == DEPTH + 1 and trace.steps[-1].label == f"layer 6: {last}"
    edges, transfer = trace.steps[-1].edges, min(params["transfer"], DEPTH - min(params["wait"], DEPTH))
    assert (edges["attention"].key % 4 != 3).sum() == 3 * transfer  # the others, beside "=" itself
    assert len(trace.canvas.links) == 4 * DEPTH + 3 * transfer
    assert (trace.steps[2].state == CODE["unknown"]).sum() == 4 * (DEPTH - 2)
    assert np.isfinite(trace.charts[1].series["probability"]).sum() == (DEPTH + 1) * (DEPTH + 2) / 2
    with pytest.raises(SubjectError, match="A sum is written like"):
        run("all-for-one", from_text("30 + 1 ="))
