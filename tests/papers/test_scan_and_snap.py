"""Scan and Snap's traps, each with its mutants: what the network is, how it is trained, where the curves come from."""
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.engine.method import find, follow, prepare, run, twin
from models.engine.statistics import spearman
from models.papers.scan_and_snap.network import MOMENTUM, PairwiseTransformer, SnapTraining
from models.papers.scan_and_snap.record import AttentionHistory, SnapRecord
from models.trace.subject import SubjectError, from_text
from models.worlds.topics import COMMON, TOPICS, VERBS, fact_set, facts_of
from tests import tiny as stand_ins
from tests.traps import as_, caught, only_these_move, work_is_counted
from visualizers import draw

TWO = facts_of("drink tea, sail ship")
SPEC = {0: 0.645, 10: 0.547, 20: 0.424, 40: 0.365, 100: 0.357}  # common words of the first fact in one other training


def live(cls=SnapTraining, net=PairwiseTransformer, seed=0, world=None, **options):
    world = world or fact_set(TWO)
    made = net(128).beginning(len(world.words))
    made.__class__ = net
    options = {"length": 128, "rate": 1.0, "ratio": 1.0, **options}
    return cls(made, world, dice=torch.Generator().manual_seed(seed), **options)


def trained(steps=100, **options) -> AttentionHistory:
    training = live(**options)
    c = [training.attention().numpy()]
    for _ in range(steps):
        training.step()
        c.append(training.attention().numpy())
    return AttentionHistory(options.get("world") or fact_set(TWO), np.stack(c))


# --- the network: two tables, the query no key, f of length 1 -------------------------------------------------------

class Rough(PairwiseTransformer):
    """Mutant: f is not normalised."""

    def forward(self, counts, query):
        return F.linear(self.attend(counts, query), self.decoder)


class Cool(PairwiseTransformer):
    """Mutant: logits over sqrt(M), as where there are queries and keys."""

    def attend(self, counts, query):
        weights = counts * (self.logits[query] / len(self.logits) ** 0.5).exp()
        return weights / weights.sum(1, keepdim=True)


class SelfSeeing(PairwiseTransformer):
    """Mutant: the query is one of its own keys."""

    def attend(self, counts, query):
        return super().attend(counts + F.one_hot(query, counts.shape[1]), query)


def word_by_word(net, ids, query, target):
    """The spec's equations, place by place, under plain autograd: loss and gradients of both tables."""
    y, z = (table.detach().clone().requires_grad_() for table in (net.decoder, net.logits))
    b = z[query[:, None], ids].softmax(1)  # [B, L - 1]
    f = (b[..., None] * F.one_hot(ids, len(y)).float()).sum(1)  # [B, M]
    loss = F.cross_entropy((f / f.norm(dim=1, keepdim=True)) @ y.T, target)
    return loss, *torch.autograd.grad(loss, (y, z))


def test_counts_of_words_are_exact():
    torch.manual_seed(0)
    net = PairwiseTransformer(20)
    for table in net.parameters():
        torch.nn.init.normal_(table)
    ids, query, target = torch.randint(12, (6, 40)), torch.randint(12, 16, (6,)), torch.randint(16, 20, (6,))
    wanted = word_by_word(net, ids, query, target)
    counts = F.one_hot(ids, 20).sum(1).float()

    def exact(one) -> bool:
        loss = F.cross_entropy(one(counts, query), target)
        found = loss, *torch.autograd.grad(loss, (one.decoder, one.logits))
        return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, wanted))
    caught(exact, net, as_(Rough, net), as_(Cool, net), as_(SelfSeeing, net))


def test_there_is_nothing_but_two_tables():
    def two_tables(net) -> bool:
        return {name: tuple(table.shape) for name, table in net.named_parameters()} == {
            "decoder": (30, 30), "logits": (30, 30)}
    projected, placed = PairwiseTransformer(30), PairwiseTransformer(30)
    projected.query = torch.nn.Linear(30, 30, bias=False)
    placed.positions = torch.nn.Parameter(torch.zeros(128, 30))
    caught(two_tables, PairwiseTransformer(30), projected, placed)


# --- the texts ------------------------------------------------------------------------------------------------------

def test_words_come_as_often_as_in_the_reference():
    world = fact_set(TWO)
    weights = np.concatenate([np.ones(10), np.linspace(0.1, 1, 10)])
    for fact, own in enumerate(world.own):
        np.testing.assert_allclose(world.chance[fact, [*range(10), *own]], weights / weights.sum())
    assert (world.chance > 0).sum() == 40 and len(world.words) == 10 + 2 * 10 + 2 + 2
    training, seen = live(), np.zeros_like(world.chance)
    for _ in range(60):
        counts, query, target = training.batch()
        assert (counts.sum(1) == 127).all()  # the last word is the query and no key
        assert (world.next[np.searchsorted(world.query, query)] == target.numpy()).all()
        np.add.at(seen, np.searchsorted(world.query, query), counts.numpy())
    caught(lambda drawn: np.abs(drawn / drawn.sum(1, keepdims=True) - world.chance).max() < 2e-3, seen,
           np.roll(seen, 1, 1), np.where(seen > 0, 1.0, 0.0))


def test_no_word_means_two_things():
    words = [*COMMON, *VERBS, *TOPICS, *(word for own in TOPICS.values() for word in own)]
    assert len(set(words)) == len(words) and {len(own) for own in TOPICS.values()} == {12}
    largest = fact_set(list(zip(VERBS, TOPICS)), 12)
    assert len(largest.words) <= len(stand_ins.bundle("facts-scan-1").model.decoder)


def test_a_shared_word_is_as_frequent_as_before_and_loses_its_attention():
    alone, shared = fact_set(TWO), fact_set(TWO, share=True)
    np.testing.assert_allclose(alone.chance[0], shared.chance[0])
    assert shared.chance[1, shared.shared] > 0 == alone.chance[1, shared.shared]
    caught(lambda world: trained(world=world).c[-1, 0, shared.shared] < alone.chance[0, shared.shared], shared, alone)


@pytest.mark.parametrize("text, told", [
    ("drink tea", "at least two"), ("drink", "is no fact"), ("drink tea, fly ship", "verb 'fly'"),
    ("drink tea, sail cloud", "topic 'cloud'"), ("drink tea, love tea", "each topic once"), ("; ,", "at least two")])
def test_what_is_no_set_of_facts_is_refused_in_a_sentence(text, told, tiny):
    with pytest.raises(SubjectError, match=told):
        run("scan-and-snap", from_text(text, "facts"))


# --- the training ---------------------------------------------------------------------------------------------------

class Adaptive(SnapTraining):
    """Mutant: Adam."""

    def __init__(self, net, world, **options):
        super().__init__(net, world, **options)
        self.optimiser = torch.optim.Adam(net.parameters(), 0.05)


def test_a_step_is_plain_sgd_with_momentum_and_a_rate_for_each_table():
    def by_hand(cls) -> bool:
        training, twin_net = live(cls, rate=0.5, ratio=3.0), PairwiseTransformer(34).requires_grad_(True)
        texts, speed = live(), [torch.zeros(34, 34)] * 2
        for _ in range(4):
            counts, query, target = texts.batch()
            loss = F.cross_entropy(twin_net(counts, query), target)
            slopes = torch.autograd.grad(loss, (twin_net.logits, twin_net.decoder))
            speed = [MOMENTUM * v + slope for v, slope in zip(speed, slopes)]
            with torch.no_grad():
                twin_net.logits -= 0.5 * speed[0]
                twin_net.decoder -= 1.5 * speed[1]
            training.step()
        return all(torch.allclose(a, b, atol=1e-6) for a, b in zip(training.net.parameters(), twin_net.parameters()))
    caught(by_hand, SnapTraining, Adaptive)


def test_rank_by_co_occurrence_is_sgds():
    """Adam gives rare words the steps of frequent ones."""
    caught(lambda cls: trained(cls=cls).rho > 0.95, SnapTraining, Adaptive)


def test_the_specs_own_training_lies_within_the_noise_of_ours():
    def alike(net) -> bool:
        mass = np.array([trained(net=net, seed=seed).c[:, 0, :10].sum(1) for seed in range(4)])
        return all(abs(mass[:, at].mean() - wanted) < 0.01 + 3 * mass[:, at].std() for at, wanted in SPEC.items())
    caught(alike, PairwiseTransformer, Cool)


def loss_of(net, counts, query, target):
    return F.cross_entropy(net(counts, query), target)


def test_without_a_decoder_attention_does_not_move(tiny):
    caught(lambda options: trained(steps=20, **options).reach == 0, {"frozen": True}, {})
    for frozen, names in ((False, ("logits", "decoder")), (True, ("logits",))):
        training = live(frozen=frozen)
        counts, query, target = training.batch()
        torch.nn.init.normal_(training.net.decoder)
        only_these_move(training.net, partial(loss_of, counts=counts, query=query, target=target), names)
    other = twin(prepare("scan-and-snap", params={"steps": 20}))
    assert other.method.id == "scan-and-snap-control" and other.params.decoder == "frozen"
    *_, last = follow(other)
    assert last.traces["attend"].sentence.startswith("Attention does not move")
    assert "rho" not in last.traces["attend"].facts


@pytest.mark.parametrize("frozen", [False, True])
def test_its_work_is_counted(frozen):
    training = live(frozen=frozen)
    work_is_counted(training.step, training.macs)


# --- the record -----------------------------------------------------------------------------------------------------

class Animated(SnapTraining):
    """Mutant: attention that looks right and is drawn by hand."""

    def attention(self):
        scan = self.chance.clone()
        scan[:, :10] *= 0.6
        return scan / scan.sum(1, keepdim=True)


def test_curves_come_from_the_table_of_attention():
    def read_off(cls) -> bool:
        training = live(cls)
        for _ in range(15):
            training.step()
        world = fact_set(TWO)
        weights = world.chance * np.exp(training.net.logits.detach().numpy()[world.query])
        return np.allclose(training.attention(), weights / weights.sum(1, keepdims=True), atol=1e-6)
    caught(read_off, SnapTraining, Animated)


def test_the_record_is_the_training_and_the_checkpoint_stays_zero(tiny):
    trace = run("scan-and-snap", params={"steps": 30}, seed=4).traces["attend"]
    bundle = stand_ins.bundle("facts-scan-1")
    assert not any(bool(table.any()) for table in bundle.model.parameters())
    training = live()
    training.dice.manual_seed(4 * 1_000_003)
    for _ in range(30):
        training.step()
    wanted = SnapRecord(fact_set(TWO)).by_word(training.attention().numpy())
    found = trace.steps[30].fields["attention"]
    caught(lambda values: np.allclose(values[:30], wanted[:30], atol=0.02), found, trace.steps[29].fields["attention"])
    assert np.isnan(found[30:]).all(), "verbs and topics are no keys"
    assert trace.provenance.grade == "trained in this run" and len(trace.steps) == 31
    assert draw(trace).view["by"] == "attention", "the words are tinted from the first look on"
    assert trace.canvas.roles.count("common") == 10 and trace.canvas.roles[30:] == ("query", "query", "next", "next")


def test_numbers_of_a_finished_training():
    found = trained()
    common = found.c[:, :, :10].sum(2).mean(1)
    assert found.first_half == pytest.approx((common[0] - common[50]) / (common[0] - common[100]))
    lost = -np.diff(common)
    assert lost[found.snap - 1] < 0.05 * lost.max() <= lost[found.snap - 2]
    gains = [found.c[-1, fact, own] / found.c[0, fact, own] for fact, own in enumerate(found.world.own)]
    assert found.rho == pytest.approx(np.mean([spearman(np.arange(10), gain) for gain in gains]))
    assert find("scan-and-snap").card.grade == "trained in this run"
