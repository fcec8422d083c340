"""All for One: what waiting tokens hold, who hears whom in which layer, on which sums a setting is chosen; mutants."""
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from models.backbones.layer_lens import residuals
from models.claims import Lab
from models.engine.method import run
from models.papers.all_for_one import claim, network
from models.papers.all_for_one.network import ALONE, CAMA, EVERYONE, MEAN, NET, PEEK, ZEROS
from models.papers.all_for_one.recipe import SumsLM
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
    monkeypatch.setattr(torch, "randint", lambda high, size, generator: torch.tensor([*product(range(3), repeat=3)]))
    return {kind: network.ablated(net, IDS, kind, 27, torch.Generator()) for kind in (CAMA, MEAN, ZEROS)}


def test_a_waiting_token_holds_the_mean_over_other_numbers_with_its_own(net, means):
    """Mutants: the mean over any number, which destroys the operand; attention to itself alone, which was never seen in
    training; the state of the whole network, which knows the others."""
    prompts = torch.tensor([sums.ids(sums.sum_of(numbers, "+-")) for numbers in product(range(3), repeat=3)])
    seen = residuals(net, prompts)

    def right(states) -> bool:
        return all(torch.allclose(states[row, t], seen[prompts[:, t] == IDS[row, t]][:, t].mean(0), atol=1e-4)
                   for row in range(len(IDS)) for t in range(IDS.shape[1]))

    alone, embedded = network.allowed(ALONE, IDS.shape[1], True), net.model.embed_tokens(IDS)
    apart = torch.stack([network.through(net, embedded, 0, n, alone) for n in range(DEPTH + 1)], 2)
    caught(right, means[CAMA], means[MEAN], apart, residuals(net, IDS))
    assert all(torch.allclose(states[:, :, 0], embedded, atol=1e-5) for states in means.values())
    assert not means[ZEROS][:, :, 1:].any()


def test_a_state_tells_nothing_of_other_numbers_and_neither_do_later_keys(net, means):
    """Where no token knows its own number the answer is one and the same. Mutant: keys and values of the whole pass."""
    def blind(states) -> bool:
        found = [network.staged(net, states, WAIT, transfer) for transfer in range(DEPTH - WAIT + 1)]
        return all(torch.allclose(logits[0], logits[1], atol=1e-4) for logits in found)

    leaking = means[MEAN].clone()
    leaking[:, :-1] = residuals(net, IDS)[:, :-1]
    caught(blind, means[MEAN], leaking, means[CAMA])
    assert torch.equal((means[CAMA][0] != means[CAMA][2]).flatten(1).any(1), IDS[0] != IDS[2])  # the second number


@pytest.mark.parametrize("start", (True, False))
def test_only_the_last_token_looks_at_others_and_only_while_it_transfers(net, means, start):
    """Mutants: everyone looks back; the last one looks on while it computes; the start token is forgotten, or not."""
    h, count = means[CAMA][:1, :, WAIT], IDS.shape[1]
    last, first = np.arange(count)[:, None] == count - 1, np.arange(count) == 0
    eye = np.eye(count, dtype=bool) | (first & start)

    def heard(sees) -> np.ndarray:
        return reaches(lambda states: network.through(net, states, WAIT, WAIT + 1, sees), h)

    for stage, other, wanted in ((ALONE, PEEK, eye), (PEEK, ALONE, eye | last)):
        caught(lambda sees, wanted=wanted: np.array_equal(heard(sees), wanted), *(
            network.allowed(*mutant) for mutant in ((stage, count, start), (other, count, start),
                                                    (stage, count, not start), (EVERYONE, count, start))))


def test_layers_of_transfer_come_first_and_all_layers_are_passed(net, means, monkeypatch):
    """By hand, and as the whole network where nobody waits and all look. Mutants: a layer of transfer more, a waiting
    one less; deaf layers that are none."""
    heard, (peek, alone) = [], (network.allowed(stage, IDS.shape[1], True) for stage in (PEEK, ALONE))

    def by_hand(wait: int, transfer: int) -> bool:
        h = network.through(net, means[CAMA][:, :, wait], wait, wait + transfer, peek)
        h = network.through(net, h, wait + transfer, DEPTH, alone)
        return torch.allclose(network.staged(net, means[CAMA], WAIT, 2), network.said(net, h[:, -1]), atol=1e-4)

    caught(by_hand, (WAIT, 2), (WAIT, 3), (1, 2))
    whole = net(IDS, use_cache=False).logits[:, -1]
    assert torch.allclose(network.staged(net, means[CAMA], 0, DEPTH, EVERYONE, start=False), whole, atol=1e-3)
    caught(lambda transfer: torch.allclose(network.blocked(net, IDS, WAIT, transfer), whole, atol=1e-4), 0, 1)
    monkeypatch.setattr(network, "through", lambda model, h, first, last, sees: heard.append((first, last, sees)) or h)
    network.blocked(net, IDS, WAIT, 3, False)
    (_, usual), (_, deaf), (_, again) = ((one[:2], one[2].numpy()) for one in heard)
    assert [one[:2] for one in heard] == [(0, 2), (2, 5), (5, DEPTH)] and (usual == again).all()
    assert (deaf[:-1] == usual[:-1]).all() and (usual == np.tri(6 + 1)).all() and deaf[-1].nonzero()[0].tolist() == [6]


def test_a_setting_is_chosen_on_other_sums_and_scored_on_sums_that_the_network_can_do(net, monkeypatch):
    """Mutants: chosen on what is scored; sums that the whole network gets wrong count as lost."""
    asked, solves, plain = [], lambda ids: ids[:, 1].numpy() % 6 > 0, claim.states
    monkeypatch.setattr(claim, "whole", lambda net, ids, values: solves(ids))
    monkeypatch.setattr(claim, "states", lambda net, ids, *more: asked.append(ids) or plain(net, ids, *more))
    found, (chosen, scored, *_) = claim.measure(Lab(quick=True)), asked

    def fair(chosen, scored) -> bool:
        return not {*map(tuple, chosen.tolist())} & {*map(tuple, scored.tolist())} and solves(scored).all()

    ids, _ = claim.shuffled(claim.SIGNS)
    caught(fair, (chosen, scored), (scored, scored), (chosen, ids[len(ids) // 2 :]))
    assert found.arms[0]["n"] == len(scored) and torch.equal(scored, asked[2])


def test_the_rule_wants_waiting_layers_first_and_few_for_transfer(monkeypatch):
    """Of what keeps enough. Mutants: the settings that keep most, and with too much transfer."""
    deep = SimpleNamespace(model=SimpleNamespace(layers=range(12)))
    share = {(3, 4): 20, (3, 3): 19, (3, 2): 19, (2, 1): 20, (7, 5): 20}
    for place, name, fake in ((network, "staged", lambda net, held, *setting: setting),
                              (claim, "states", lambda *_: None), (claim, "solved", lambda net, *given: given),
                              (claim, "hits", lambda setting, values: np.arange(20) < share.get(setting, 0))):
        monkeypatch.setattr(place, name, fake)
    best, most = claim.searched(deep, IDS, np.zeros(3, int), Lab(quick=True))
    caught(lambda *one: one == (3, 2) and most == 7, best, (3, 4), (7, 5))


def test_it_learns_the_one_token_behind_the_sign_and_no_kept_sum():
    recipe = SumsLM(0)
    recipe.prepare(None)
    ids, place, answer = (found.numpy() for found in recipe.batch(3, 0.0).values())
    caught(lambda at: (ids[range(len(ids)), at] == ID[EQUALS]).all(), place, place - 1)
    numbers, signs = np.where(ids >= ZERO, ids - ZERO, 0), np.where(ids[:, 2:5:2] == ID["-"], -1, 1)
    assert (answer - ZERO == numbers[:, 1] + (signs * numbers[:, 3:6:2]).sum(1)).all()
    assert not {*map(tuple, ids[place == 6].tolist())} & {*map(tuple, recipe.kept[1][0].tolist())}
    recipe.shape = recipe.shape._replace(width=64, layers=2, ff=64)
    model, batch = recipe.build(), {name: value[:16] for name, value in recipe.batch(0, 0.0).items()}
    near, far = torch.cosine_similarity(*(model.lm_head.weight[ZERO + torch.tensor(at)] for at in ([20], [21, 50])))
    assert near > far
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
