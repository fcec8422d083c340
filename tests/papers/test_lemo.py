"""LeMo's traps: every layer chooses anew, by raw scores and its own threshold; bytes are measured; gradients flow."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from models.engine.method import run
from models.papers.lemo import elimination
from models.papers.lemo.backward import LOSS, SavedForBackward, learner, step
from models.papers.lemo.elimination import above, at_random, nats, positive_blocks, read, visits
from models.papers.lemo.network import BlockChooser
from models.trace.subject import SubjectError, from_text
from tests.traps import caught, only_these_move

SIZE = 4


@pytest.fixture
def model(tiny, one_thread):
    return tiny.bundle("text-ar-1").model


@pytest.fixture
def predictors(tiny):
    return tiny.fresh("text-lemo-blocks-1").eval()


@pytest.fixture
def ids():
    return torch.randint(3, 300, (42,), generator=torch.Generator().manual_seed(0))


def chooser(predictors, kind=BlockChooser, **how):
    return kind(predictors, SIZE, exact=True, **how)


def test_reading_everything_is_the_librarys_forward(model, ids):
    def as_the_library(states) -> bool:
        return torch.allclose(states, model.model(ids[None]).last_hidden_state, atol=1e-4)
    some = torch.arange(0, 42, 2)
    with torch.no_grad():
        caught(as_the_library, read(model, ids, elimination.everything), read(model, ids, lambda *_: some))


class Gone(BlockChooser):
    """The mutant: who was skipped once stays away from all later layers."""

    def __call__(self, visit):
        super().__call__(visit)
        kept = torch.stack([one.kept for one in self.found.values()]).all(0)
        self.found[visit.index, visit.part] = self.found[visit.index, visit.part]._replace(kept=kept)
        return kept.repeat_interleave(SIZE)[: visit.x.shape[1]].nonzero()[:, 0]


def test_a_block_that_was_skipped_is_asked_again(model, predictors, ids):
    def comes_back(kind) -> None:
        choose = chooser(predictors, kind)
        with torch.no_grad():
            read(model, ids, choose)
        kept = torch.stack([one.kept for one in choose.found.values()])  # [layers x parts, M]
        assert (kept[1:] & ~kept[:-1]).any()
    caught(comes_back, BlockChooser, Gone)


def test_what_is_skipped_rides_on_unchanged_and_is_read_by_nobody(model, ids):
    visit, rows = visits(model, ids)[0], torch.tensor([0, 1, 2, 3, 8, 9, 10, 11])
    others = torch.tensor(sorted(set(range(len(ids))) - set(rows.tolist())))
    changed = visit._replace(x=visit.x.index_add(1, others, torch.ones(1, len(others), visit.x.shape[2])))

    def passes_by(carry) -> None:
        out = carry(visit, rows)
        assert torch.equal(out[:, others], visit.x[:, others]) and not torch.equal(out[:, rows], visit.x[:, rows])
        assert torch.equal(out[:, rows], carry(changed, rows)[:, rows])

    def chosen_too_late(visit, rows):  # attention for all, and only then the choice
        return visit.x.index_add(1, rows, visit.said(torch.arange(visit.x.shape[1]))[:, rows])
    with torch.no_grad():
        caught(passes_by, elimination.carried, chosen_too_late)


def test_scores_are_raw_positive_and_the_highest_of_their_block():
    dice = torch.Generator().manual_seed(1)
    q, k = torch.randn(1, 4, 10, 8, generator=dice), torch.randn(1, 2, 10, 8, generator=dice)
    products = q[0] @ k[0].repeat_interleave(2, 0).transpose(1, 2)  # [H, N, N]

    def slow(m, n) -> float:
        inside = [range(at * SIZE, min(at * SIZE + SIZE, 10)) for at in (m, n)]
        return max(sum(max(float(q[0, h, i] @ k[0, h // 2, j]), 0.0) for h in range(4)) / 4
                   for i in inside[0] for j in inside[1])

    def as_said(score) -> bool:
        wanted = torch.tensor([[slow(m, n) for n in range(3)] for m in range(3)])
        return torch.allclose(score(q, k, SIZE), wanted, atol=1e-5)

    def after_softmax(*_):
        return F.max_pool2d(products.softmax(-1).mean(0)[None], SIZE, ceil_mode=True)[0]

    def signed(*_):
        return F.max_pool2d(products.mean(0)[None], SIZE, ceil_mode=True)[0]
    caught(as_said, positive_blocks, after_softmax, signed)


def test_every_layer_has_a_threshold_of_its_own(model, predictors, ids):
    predictors.times[0, 0], predictors.times[1, 0] = 3.0, 0.1
    seen = [visit for visit in visits(model, ids) if visit.part == "attention"]

    def own_threshold(keep) -> None:
        first, second = (int(keep(predictors.keeps(visit, SIZE, exact=True)).sum()) for visit in seen[:2])
        assert first < second

    def one_ratio(found):
        return torch.zeros_like(found.kept).index_fill(0, found.scores.topk(len(found.kept) // 2).indices, True)
    caught(own_threshold, lambda found: found.kept, one_ratio)


def test_the_first_block_stays_and_dice_keep_as_many():
    found = above(torch.tensor([[0.0, 1.0, 3.0, 0.5, 2.0]]), 1.0)
    assert found.kept.tolist() == [True, False, True, False, True] and found.scores[2] == pytest.approx(3 / 1.3)
    drawn = [at_random(found.kept, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert all(one[0] and int(one.sum()) == 3 for one in drawn) and len({tuple(one.tolist()) for one in drawn}) > 3


class WeightsToo(SavedForBackward):
    def __init__(self, model):
        super().__init__(model)
        self.weights = set()


class OftenCounted(SavedForBackward):
    def keep(self, storage, size):
        self.alive[storage] = 0
        super().keep(storage, size)


class FormulaOnly(SavedForBackward):
    """So many numbers for so many operations, whatever was kept."""

    def keep(self, storage, size):
        self.peak = 4 * 5 * 8 * 4


def test_bytes_are_measured_once_each_and_without_weights():
    layer, x = torch.nn.Linear(8, 8, bias=False).requires_grad_(False), torch.randn(5, 8, requires_grad=True)

    def twice(x):
        return torch.sin(layer(torch.sin(x) * torch.sin(x)))

    def measured(kind) -> None:
        with kind(layer) as plain:
            twice(x).sum().backward()
        with kind(layer) as again:  # the same numbers, recomputed: only x is kept
            checkpoint(twice, x, use_reentrant=False).sum().backward()
        assert plain.peak == 4 * 5 * 8 * 4 and again.peak < plain.peak and plain.now == 0
    caught(measured, SavedForBackward, WeightsToo, OftenCounted, FormulaOnly)


def test_a_step_that_skips_blocks_keeps_less_and_loses_no_word(model, predictors, ids):
    net = learner(model)
    whole, everything = step(net, ids)
    losses, some = step(net, ids, chooser(predictors))
    assert some.peak < everything.peak and losses.shape == whole.shape == (41,) and bool(losses.isfinite().all())
    assert step(net, ids, segments=8)[1].peak < everything.peak and everything.saved[LOSS] > 0
    assert step(net, ids, learns=False)[1].peak == everything.peak, "the way back through the layers only lets go"


def test_gradients_reach_the_changes_through_what_is_read(model, predictors, ids):
    """Mutant: pruning as for inference, where what a layer says is cut off from its weights."""
    before, net, cut = {name: one.clone() for name, one in model.named_parameters()}, learner(model), learner(model)
    cut.model.layers[1].mlp.register_forward_hook(lambda module, given, said: said.detach())
    ends = [f"model.layers.{index}.{name}.change" for index in range(3) for name in (
        "self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj", "mlp.down_proj", "mlp.gate_proj")]

    def learns_everywhere(network) -> None:
        only_these_move(network, lambda one: nats(one, ids, chooser(predictors)), ends)
    caught(learns_everywhere, net, cut)
    assert all(torch.equal(one, before[name]) and not one.requires_grad for name, one in model.named_parameters())
    assert {id(one) for one in model.parameters()} <= {id(one) for one in net.parameters()}


def test_a_run_shows_what_was_read_and_measured(tiny, one_thread):
    found = run("lemo", params={"length": 128, "segments": 2}, dtype="float32").traces
    prune, attend = found["prune"], found["attend"]
    assert len(prune.steps) == 2 * 3 + 1 and len(attend.steps) == 3
    assert 0 < prune.facts["bytes"].value < 100 and prune.facts["peak"].value < prune.facts["whole"].value
    assert len(prune.steps[0].where("dropped")) and not len(prune.steps[-1].where("dropped"))
    other = run("lemo-control", params={"length": 128, "scorer": "random"}, dtype="float32").traces
    assert other["prune"].facts["read"].value == pytest.approx(prune.facts["read"].value, abs=8)
    states = [np.stack([step.state for step in one.steps]) for one in (attend, other["attend"])]
    assert not np.array_equal(*states), "what the dice choose is shown, not the guess again"
    own = run("lemo", params={"length": 128, "scorer": "oracle"}, dtype="float32").traces["attend"]
    assert own.facts["recall"].value == 100 > attend.facts["recall"].value
    everything = run("lemo", params={"length": 128, "times": 0.2, "parts": "mlp"}, dtype="float32").traces["prune"]
    assert not len(everything.steps[0].where("dropped"))


def test_a_text_of_less_than_two_blocks_is_refused(tiny):
    with pytest.raises(SubjectError, match="two blocks"):
        run("lemo", from_text("O brave new world"), dtype="float32")
