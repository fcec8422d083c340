"""Speculative decoding and LANTERN: the traps of the papers, each with the wrong version beside it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import kernels
from models.baselines.speculative.claim import NoSubtraction
from models.claims import drafting_lab
from models.claims.drafting_lab import lean
from models.engine.method import prepare, run
from models.loops.sample import speculative_decoding
from models.loops.sample.acceptance_rules import Exact, certain, normalised, off, outcome, pick
from models.loops.sample.drafting_records import condition
from models.loops.sample.speculative_decoding import Chain, DraftPlan, examine, rounds
from models.papers.lantern import method as lantern
from models.papers.lantern.method import Relaxed, by_distance
from tests.traps import caught

V, K, CAPTION = 128, 8, "red circle, blue square"


def toy(seed: int, codes: int = V):
    """The spec's toy: Dirichlet q, p half mixed with it, random 4-d codes."""
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    q, other = (torch.from_numpy(rng.dirichlet(np.ones(codes))).float() for _ in range(2))
    apart = torch.cdist(*[torch.randn(codes, 4, generator=generator)] * 2).fill_diagonal_(float("inf"))
    return q, (q + other) / 2, apart.argsort(1)[:, :-1]


def relaxed(order, delta, **options) -> Relaxed:
    return Relaxed(order=order, k=K, delta=delta, **options)


def chance(rule, q, p) -> float:
    return float((p * rule(q, p, torch.arange(len(p))).chance).sum())


@pytest.fixture(scope="module")
def tiny_nets():
    from tests import tiny
    return tiny.bundle("scene-ar-1").model, tiny.bundle("scene-ar-draft-1").model, tiny.bundle("scene-vq-2").model


def played(nets, rule, plan=None, seed=0):
    with torch.inference_mode():
        chain = Chain(nets[0], nets[1], condition(CAPTION, True, "cpu"), plan or DraftPlan())
    dice = torch.rand(chain.size, 3, generator=torch.Generator().manual_seed(seed))
    return chain, list(rounds(chain, rule, dice))


# --- the exact rule -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("favourite", [False, True])
def test_the_exact_rule_leaves_the_targets_distribution(favourite):
    """By the whole distribution, and by what the claim measures on pictures: the lean to what the drafter overrates."""
    q, p, _ = toy(1)
    p = certain(p) if favourite else p

    def same(rule):
        assert off(rule, q, p) < 1e-5

    def upright(rule):
        tested = [SimpleNamespace(q=q, p=p, position=0)]
        leans = torch.tensor([lean(tested, torch.tensor([code])) for code in range(V)])
        assert abs(float((outcome(rule, q, p) * leans).sum())) < 1e-4

    for check in (same, upright):
        caught(check, Exact(), NoSubtraction())


def test_budget_zero_is_exact():
    q, p, order = toy(2)
    assert off(relaxed(order, 0.0), q, p) < 1e-5
    assert torch.allclose(outcome(relaxed(order, 0.0), q, p), outcome(Exact(), q, p))


def test_drawn_texts_follow_the_target():
    """Chi-square over whole chains: three codes from a Markov target, drafted by another one."""
    rng = np.random.default_rng(0)
    target, draft = (torch.from_numpy(rng.dirichlet(np.ones(4), 4)).float() for _ in range(2))
    for rule, fits in ((Exact(), True), (NoSubtraction(), False)):
        counts, generator = np.zeros((4, 4)), torch.Generator().manual_seed(5)
        for _ in range(2000):
            first, second = chain_of_two(rule, target, draft, torch.rand(2, 3, generator=generator))
            counts[first, second] += 1
        expected = 2000 * (target[0][:, None] * target).numpy()
        chi = ((counts - expected) ** 2 / expected).sum()
        assert (chi < 37.7) == fits, chi  # 99.9 % of chi-square with 15 degrees of freedom


def chain_of_two(rule, target, draft, dice):
    """Two positions, both drafted at once; what a round leaves open is drafted again."""
    codes = [0]
    while len(codes) < 3:
        t, drafts, ps = len(codes) - 1, [], []
        for i in range(t, 2):
            ps.append(draft[[*codes, *drafts][i]])
            drafts.append(pick(ps[-1], float(dice[i, 0])))
        qs = torch.stack([target[code] for code in [codes[-1], *drafts]])[: 2 - t]
        tested, left = examine(rule, drafts, ps, qs, dice[:, 1], t)
        good = [one.draft for one in tested if one.accepted]
        codes += good if left is None else [*good, pick(left, float(dice[t + len(good), 2]))]
    return codes[1:3]


# --- the paper's rule -----------------------------------------------------------------------------------------------

def hand():
    """Four codes on a line, the draft is 0: neighbours 1, 2, 3 hold 0.05, 0.2 and 0.01."""
    entries = torch.tensor([[0.0], [1.0], [2.5], [4.5]])
    apart = torch.cdist(entries, entries).fill_diagonal_(float("inf"))
    return torch.tensor([0.74, 0.05, 0.2, 0.01]), apart.argsort(1)[:, :-1]


class Skipping(Relaxed):
    """Wrong: a neighbour that does not fit is skipped and the next one is taken."""

    def raised(self, q, drafts):
        taken = []
        for code in self.order[drafts[0], : self.k].tolist():
            if sum(float(q[i]) for i in [*taken, code]) <= self.delta:
                taken.append(code)
        return None, q[taken].sum()[None], torch.tensor([len(taken)])


def test_neighbours_are_taken_by_distance_until_the_first_that_does_not_fit():
    q, order = hand()
    draft = torch.tensor([0])
    for delta, spent, count in ((0.0, 0, 0), (0.06, 0.05, 1), (0.1, 0.05, 1), (0.25, 0.25, 2), (0.3, 0.26, 3)):
        _, moved, taken = relaxed(order, delta).raised(q, draft)
        assert float(moved[0]) == pytest.approx(spent) and int(taken[0]) == count
    _, moved, taken = Skipping(order=order, k=K, delta=0.1).raised(q, draft)
    assert float(moved) == pytest.approx(0.06) and int(taken) == 2
    by_mass = torch.argsort(q, descending=True)[None].expand(4, -1)[:, 1:]  # wrong: sorted by probability
    assert float(relaxed(by_mass, 0.21).raised(q, draft)[1][0]) == pytest.approx(0.2)
    assert float(relaxed(order, 0.21).raised(q, draft)[1][0]) == pytest.approx(0.05)


def test_one_drafts_move_is_the_total_variation_it_spends():
    q, _, order = toy(3)
    drafts = torch.arange(V)
    raised, spent, _ = relaxed(order, 0.1).raised(q, drafts)
    assert torch.allclose((raised - q).abs().sum(1) / 2, spent, atol=1e-6) and float(spent.max()) <= 0.1
    assert torch.allclose(raised.sum(1), torch.ones(V))


def test_the_budget_does_not_bound_what_comes_out():
    exact, rule = [], []
    for seed in range(20):
        q, p, order = toy(seed)
        assert off(Exact(), q, p) < 1e-5
        exact.append(chance(Exact(), q, p))
        rule.append((chance(relaxed(order, 0.05), q, p), off(relaxed(order, 0.05), q, p)))
    accepted, away = np.mean(rule, 0)
    assert np.mean(exact) < 0.8 < 0.9 < accepted, "a budget of 0.05 accepts nearly everything"
    assert away > 3 * 0.05, "and what comes out is much further from q than 0.05"


def test_what_is_accepted_is_the_draft_itself(tiny_nets):
    rule = lantern.rule(lantern.Params(delta=0.8), tiny_nets[2])
    _, found = played(tiny_nets, rule)
    borrowed = [(one, done) for done in found for one in done.tested if one.relaxed]
    assert borrowed
    for one, done in borrowed:
        assert int(done.ids[one.position]) == one.draft
    near = [rule.order[one.draft, :5] for one, _ in borrowed]
    best = [int(n[one.q[n].argmax()]) for n, (one, _) in zip(near, borrowed)]  # wrong: the likeliest neighbour
    assert any(code != int(done.ids[one.position]) for code, (one, done) in zip(best, borrowed))


def test_a_code_is_not_its_own_neighbour(tiny_nets):
    order = by_distance(tiny_nets[2])
    entries = tiny_nets[2].entries
    assert not (order == torch.arange(len(order))[:, None]).any()
    apart = (entries[0] - entries[order[0]]).norm(dim=1)
    assert torch.all(apart[1:] >= apart[:-1])
    naive = torch.cdist(entries, entries).argsort(dim=1)  # wrong: no infinite diagonal, so q(x) is counted twice
    q = torch.full((len(entries),), 1 / len(entries))
    spent = Relaxed(order=naive, k=1, delta=0.5).raised(q, torch.tensor([0]))[0]
    assert float(spent[0].sum()) == pytest.approx(1, abs=1e-5) and int(naive[0, 0]) == 0


def test_shuffled_neighbours_are_a_permuted_codebook(tiny_nets):
    nearest, shuffled = (by_distance(tiny_nets[2], kind) for kind in lantern.KINDS)
    assert shuffled.shape == nearest.shape and not torch.equal(nearest, shuffled)
    assert torch.equal(shuffled.sort(1).values, nearest.sort(1).values)
    assert lantern.rule(lantern.Params(neighbours="shuffled"), tiny_nets[2]).k == nearest.shape[1]


class AlwaysGone(Relaxed):
    """Wrong: the neighbours go although none of them fitted the budget."""

    def left(self, raised, q, p, drafts):
        gone = torch.cat([drafts[:, None], self.order[drafts, : self.k + 1]], 1)
        return normalised(q.expand(len(drafts), -1).scatter(1, gone, 0.0), q)


@pytest.mark.parametrize("favourite", [False, True])
def test_the_references_rule_is_lossless_at_budget_zero(favourite):
    for seed in range(4):
        q, p, order = toy(seed)
        p = certain(p) if favourite else p
        caught(lambda rule, q=q, p=p: off(rule, q, p) < 1e-5, relaxed(order, 0.0, rejection="code"),
               AlwaysGone(order=order, k=K, delta=0.0), relaxed(order, 0.05, rejection="code"))


def test_the_references_rule_takes_one_neighbour_more_than_it_borrows_from():
    q, p, order = toy(4)
    draft, near = p.argmax()[None], order[int(p.argmax())]
    rule, far = relaxed(order, 0.05, rejection="code"), near[K + 1 :]
    assert 0 < int(rule.raised(q, draft)[2]) <= K

    def spares_the_rest(count):
        left, drawn = (rule(q, each, draft).left[0] for each in (certain(p), p))
        spared = torch.zeros(V, dtype=torch.bool).index_fill(0, near[:count], True)
        assert not left[draft] and not left[near[:count]].any() and bool((left[far] > 0).all())
        assert torch.allclose(drawn, normalised((q - p * ~spared).clamp_min(0)[None], q)[0]), "as if not drafted"

    caught(spares_the_rest, K + 1, K, K + 2)


# --- the chain ------------------------------------------------------------------------------------------------------

def truth(nets, ids, guidance=0.0):
    """Guided probabilities [N, V] of every code of one picture, in one pass over all of it."""
    cond = condition(CAPTION, True, "cpu")
    with torch.inference_mode():
        logits = nets[0](ids[None], cond)[0]
        if guidance:
            logits = (1 + guidance) * logits - guidance * nets[0](ids[None], None)[0]
    return logits.softmax(-1)


@pytest.mark.parametrize("guidance", [0.0, 1.5])
def test_the_target_says_the_same_in_rounds_as_in_one_pass(tiny_nets, guidance):
    """Caches go back to what stands after a refusal, and both sides are guided."""
    plan = DraftPlan(ahead=3, favourite=True, sampler=kernels.Sampler(1.0), guidance=guidance)
    _, found = played(tiny_nets, lantern.rule(lantern.Params(delta=0.3), tiny_nets[2]), plan)
    full, plain = truth(tiny_nets, found[-1].ids, guidance), truth(tiny_nets, found[-1].ids)
    assert any(done.accepted < len(done.drafts) for done in found)
    first = [done.tested[0] for done in found]
    assert max(float((one.q - full[one.position]).abs().max()) for one in first) < 1e-4
    if guidance:  # wrong: checked without guidance
        assert max(float((one.q - plain[one.position]).abs().max()) for one in first) > 1e-3


def test_a_cache_that_does_not_go_back_is_noticed(tiny_nets, monkeypatch):
    right = speculative_decoding.rewind
    monkeypatch.setattr(speculative_decoding, "rewind",
                        lambda cache, keep: len(cache.layers) == 1 and right(cache, keep))
    _, found = played(tiny_nets, Exact(), DraftPlan(ahead=3, favourite=True))
    full = truth(tiny_nets, found[-1].ids)
    assert max(float((d.tested[0].q - full[d.tested[0].position]).abs().max()) for d in found) > 1e-3


def test_first_drafts_are_read_from_true_states(tiny_nets):
    target, drafter, _ = tiny_nets
    _, found = played(tiny_nets, Exact(), DraftPlan(ahead=4))
    cond = condition(CAPTION, True, "cpu")
    with torch.inference_mode():
        hidden, (cos, sin) = target.slots(found[-1].ids[None], cond)
        states = target.states(hidden, (cos, sin))
        guessed = drafter(hidden[:, 1:], states[:, :-1], (cos[:, 1:], sin[:, 1:]))[:, target.cond_length - 1 :]
        p = target.head(guessed).softmax(-1)[0]
    assert max(float((done.tested[0].p - p[done.first]).abs().max()) for done in found) < 1e-4


def test_greedy_speculation_writes_what_the_target_writes(tiny_nets):
    plan = DraftPlan(sampler=kernels.Sampler(0.0))
    _, found = played(tiny_nets, Exact(True), plan)
    ids = found[-1].ids
    assert torch.equal(truth(tiny_nets, ids).argmax(-1), ids)
    _, loose = played(tiny_nets, lantern.rule(lantern.Params(temperature=0.0, delta=0.8), tiny_nets[2]), plan)
    assert len(loose) <= len(found)


def test_greedy_relaxation_accepts_what_becomes_the_likeliest():
    q, order = torch.tensor([0.3, 0.35, 0.25, 0.1]), hand()[1]
    p, draft = certain(torch.tensor([1.0, 0, 0, 0])), torch.tensor([0])
    assert float(Relaxed(True, order, 3, 0.3)(q, p, draft).chance) == 0  # 0.35 does not fit into 0.3
    assert float(Relaxed(True, order, 3, 0.4)(q, p, draft).chance) == 1
    assert int(Relaxed(True, order, 3, 0.3)(q, p, draft).left[0].argmax()) == 1


def test_two_rules_see_the_same_dice(tiny):
    """At budget 0 LANTERN writes the baseline's picture, code by code."""
    for drafts in ("drawn", "favourite"):
        ours, base = (run(name, params={"drafts": drafts, **more}, seed=4).traces["unmask"].steps[-1].ids
                      for name, more in (("lantern", {"delta": 0.0}), ("speculative", {})))
        assert np.array_equal(ours, base)


# --- what is shown --------------------------------------------------------------------------------------------------

def test_work_counts_the_drafter_and_what_was_refused(tiny, tiny_nets):
    traces = run("lantern", seed=1).traces
    facts, done = traces["sample"].facts, sum(step.cost.macs for step in traces["sample"].steps)
    with torch.inference_mode():
        alone = Chain(*tiny_nets[:2], condition(CAPTION, True, "cpu"), DraftPlan()).alone
    assert alone.calls == 65 and facts["work"].value == pytest.approx(100 * done / alone.macs, rel=1e-6)
    assert facts["work"].value > 100 and 0 < facts["drafting"].value < 100, "a draft costs, a checked one costs again"
    assert facts["length"].value == pytest.approx(64 / facts["passes"].value)
    assert [s.cost for s in traces["unmask"].steps] == [s.cost for s in traces["sample"].steps]


def test_work_is_what_torch_is_asked_to_do(tiny_nets):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        chain, found = played(tiny_nets, Exact(), DraftPlan(ahead=3))
    counted = sum(done.cost.macs for done in found)
    assert counted * 2 == pytest.approx(counter.get_total_flops(), rel=1e-6)
    assert (counted - chain.drafted) * 2 != pytest.approx(counter.get_total_flops(), rel=1e-3), "drafts for nothing"


def test_records_tell_verdicts_apart(tiny):
    traces = run("lantern", params={"delta": 0.5, "drafts": "favourite"}, seed=2).traces
    seen = {name for step in traces["sample"].steps for name in ("accepted", "merged", "refused", "discarded")
            if len(step.where(name))}
    assert {"merged", "refused", "discarded"} <= seen
    last = traces["unmask"].steps[-1]
    assert not len(last.where("unknown", "refused", "discarded")) and last.ids.min() >= 0
    values = traces["sample"].steps[-1].fields
    tested = ~np.isnan(values["u"])
    assert np.all(values["borrowed"][tested] <= 0.5 + 1e-3)
    taken = (values["u"] * values["p"] < values["q"] + values["borrowed"])[tested]  # rounded to half precision
    stands = np.isin(np.flatnonzero(tested), last.where("accepted", "merged"))
    assert np.mean(taken == stands) > 0.95 and 0 < taken.mean() < 1
    assert "draft and its nearest codes, in q" in traces["sample"].steps[0].distributions


def test_words_outside_the_world_are_refused(tiny):
    from models.trace.subject import SubjectError, from_text
    with pytest.raises(SubjectError, match="colour"):
        run("lantern", from_text("purple cow", "caption"))


def test_the_baseline_gets_the_same_settings(tiny):
    from models.engine.method import twin
    other = twin(prepare("lantern", params={"ahead": 2, "light": False, "delta": 0.5}, seed=9))
    assert other.params.ahead == 2 and other.params.light is False and other.seed == 9


def test_one_pass_per_code_is_what_it_is_timed_against(tiny_nets):
    """Alone, the target reads one code a pass behind the same cache, and draws what one pass over all of it says."""
    found = drafting_lab.Nets(*tiny_nets)
    ids, dice = drafting_lab.alone(found, CAPTION, True), torch.rand(64, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ids, torch.tensor([pick(q, float(u)) for q, u in zip(truth(tiny_nets, ids), dice)]))


def test_one_favourite_draft_is_off_by_what_it_borrows():
    """With a single possible draft the budget does bound the output; with drawn drafts it does not (see above)."""
    q, _, order = toy(6)
    rule, p = relaxed(order, 0.1), certain(q)
    borrowed = float(rule.raised(q, q.argmax()[None])[1][0])
    assert 0 < borrowed <= 0.1 and off(rule, q, p) == pytest.approx(borrowed, abs=1e-5)
