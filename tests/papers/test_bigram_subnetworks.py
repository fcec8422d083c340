"""Bigram subnetworks' traps, each with the mutant that the same check rejects, and its masks' recipe."""

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax

from models.backbones import weight_masks
from models.claims import Lab
from models.engine.method import find, prepare, run, twin
from models.papers.bigram_subnetworks import claim
from models.papers.bigram_subnetworks.method import Params, masks_of, networks
from models.papers.bigram_subnetworks.network import BigramTable, correlation, surprisals
from models.papers.bigram_subnetworks.recipe import BigramMask
from models.papers.bigram_subnetworks.record import FULL, MASK, PAIRS, RANDOM, WITHOUT, WITHOUT_RANDOM, said, shuffled
from models.trace.subject import SubjectError, from_text
from tests.traps import caught, learns_beside

TEXT = [3, 4, 3, 4, 3, 5, 6, 6]  # pairs: 3 4 twice, 4 3 twice, 3 5, 5 6, 6 6


@pytest.fixture
def parts(tiny):
    """A trunk, half of whose weights are kept, and the five networks."""
    trunk = tiny.bundle("text-ar-1").model
    generator = torch.Generator().manual_seed(0)
    masks = {name: torch.rand(one.shape, generator=generator) < 0.5
             for name, one in weight_masks.maskable(trunk).items()}
    return trunk, masks, networks(trunk, masks, generator)


# --- what is masked, and how ----------------------------------------------------------------------------------------

def test_only_attention_and_mlp_matrices_are_masked(tiny):
    """Mutants: the embeddings (a factored table of pairs would be the trivial solution), or the norms too."""
    trunk = tiny.bundle("text-ar-1").model

    def inside(names) -> bool:
        return set(names) == {name for name, _ in trunk.named_parameters() if name.endswith("_proj.weight")}

    found = list(weight_masks.maskable(trunk))
    caught(inside, found, [*found, "model.embed_tokens.weight"], [*found, "model.norm.weight"], found[1:])


def test_masks_at_evaluation_are_hard(parts):
    """Every weight is the trunk's own or 0. Mutant: the soft mask of training, which scales what it keeps."""
    trunk, masks, five = parts

    def hard(model) -> bool:
        there, whole = weight_masks.maskable(model), weight_masks.maskable(trunk)
        return all(torch.equal(there[name], torch.where(mask, whole[name], 0)) for name, mask in masks.items())

    soft = {name: torch.where(mask, 0.95, 0.05) for name, mask in masks.items()}
    caught(hard, five[MASK], weight_masks.partial(trunk, soft))


def test_random_masks_are_of_equal_size_in_every_matrix(parts):
    """Mutant: as many weights drawn from all matrices together, which spares the small ones."""
    _, masks, _ = parts
    masks = {name: mask & (number % 2 == 0) for number, (name, mask) in enumerate(masks.items())}

    def matched(drawn) -> bool:
        return all(drawn[name].sum() == mask.sum() for name, mask in masks.items())

    order = torch.cat([mask.flatten() for mask in masks.values()])
    order = order[torch.randperm(len(order))].split([mask.numel() for mask in masks.values()])
    caught(matched, weight_masks.permuted(masks, torch.Generator().manual_seed(1)), dict(zip(masks, order)))
    drawn = weight_masks.permuted(masks, torch.Generator().manual_seed(1))
    assert any(not torch.equal(drawn[name], mask) for name, mask in masks.items())


def test_magnitude_pruning_is_offered_as_another_method(tiny):
    jobs = [prepare("bigram-subnetworks", params={"chosen": chosen}) for chosen in ("learned", "largest", "random")]
    learned, large, chance = map(masks_of, jobs)
    assert Params().chosen == "learned" and learned.keys() == large.keys()
    assert all(torch.equal(learned[name], one != 0) for name, one in weight_masks.maskable(jobs[0].model).items())
    assert all(learned[name].sum() == large[name].sum() == chance[name].sum() for name in learned)
    assert any(not torch.equal(learned[name], large[name]) for name in learned)
    assert twin(jobs[0]).params.chosen == "random"


# --- what is compared -----------------------------------------------------------------------------------------------

def test_the_table_counts_pairs_and_falls_back_to_words():
    table = BigramTable.counted(np.array(TEXT), 10)
    found = table(torch.tensor([3, 6, 9]))
    torch.testing.assert_close(found[0, [4, 5]], torch.tensor([2 / 3, 1 / 3]))
    assert found[1, 6] == 1 and found[0].count_nonzero() == 2
    after = np.bincount(TEXT[1:], minlength=10) / 7  # 9 is never gone on from
    torch.testing.assert_close(found[2], torch.from_numpy(after).float())
    torch.testing.assert_close(found.sum(1), torch.ones(3))


def test_far_pairs_and_large_counts_survive_two_bytes():
    rng = np.random.default_rng(0)
    text = np.where(rng.random(4000) < 0.5, 7, rng.integers(0, 900, 4000))
    table = BigramTable.counted(text, 900)
    exact = np.zeros(900)
    np.add.at(exact, text[1:][text[:-1] == 7], 1)
    exact /= exact.sum()
    np.testing.assert_allclose(table(torch.tensor([7]))[0].numpy(), exact, rtol=0.05, atol=1e-6)


def test_surprise_not_the_first_guess_is_compared():
    """Two networks with the same first guesses: one has the table's distribution, the other is sure of its guess. The
    first guess cannot tell them apart (the mutant's measure), r of surprisals can."""
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(1, 400, 30, generator=generator) * 2
    ids = torch.cat([torch.zeros(1, 1, dtype=torch.long), torch.multinomial(table[0].softmax(-1), 1,
                                                                           generator=generator).T], 1)
    sure = table + 20 * torch.nn.functional.one_hot(table.argmax(-1), 30)
    bigram = surprisals(log_softmax(table, -1), ids)

    def tells(measure) -> bool:
        return measure(table) > measure(sure) + 0.2

    caught(tells, lambda logits: correlation(surprisals(log_softmax(logits, -1), ids), bigram),
           lambda logits: float((logits.argmax(-1) == table.argmax(-1)).float().mean()))


def test_pairs_that_the_books_have_not_are_left_out():
    bigram, mine = torch.tensor([1.0, 2.0, torch.inf, 3.0]), torch.tensor([1.0, 2.0, 50.0, 3.0])
    assert correlation(mine, bigram) > 0.999
    assert np.isfinite(correlation(torch.tensor([1.0, torch.inf, 0.0, 3.0]), bigram))
    unknown = torch.tensor([torch.inf, torch.inf, 2.0, torch.inf])  # a language that the table has never seen
    assert np.isnan(correlation(torch.ones(4), unknown)) and np.isnan(correlation(torch.ones(4), unknown + torch.inf))
    told = said({**dict.fromkeys((FULL, WITHOUT, WITHOUT_RANDOM, MASK), torch.ones(4)), PAIRS: unknown})
    assert "nan" not in told and "no table of the books" in told


def test_surprisals_are_of_the_next_token():
    """Mutant: of the token that was just read."""
    ids = torch.tensor([[1, 2, 3]])
    logp = log_softmax(torch.eye(5)[ids[:, 1:]] * 9, -1)  # each place is sure of what comes next

    def next_one(f) -> bool:
        return bool((f(logp, ids) < 0.01).all())

    caught(next_one, surprisals, lambda logp, ids: -logp.gather(-1, ids[:, :-1, None])[..., 0])


def test_shuffling_moves_all_but_the_last_token(parts):
    """A network without attention has only the last token to go by."""
    trunk, masks, _ = parts
    blind = weight_masks.partial(trunk, {name: torch.zeros_like(mask) for name, mask in masks.items()
                                         if "self_attn" in name})
    found = shuffled({"blind": blind, "whole": trunk}, list(range(5, 17)), torch.Generator().manual_seed(0))
    assert found["blind"].max() < 1e-5 < found["whole"].min()


# --- the recipe -----------------------------------------------------------------------------------------------------

@pytest.fixture
def recipe(tiny):
    made = BigramMask(0)
    made.base = tiny.fresh("text-ar-1").requires_grad_(False)
    size = made.base.config.vocab_size
    made.table = BigramTable.counted(np.arange(1, 4000) ** 2 % size, size)
    made.target = made.table(torch.arange(size))
    return made


def test_only_scores_learn_and_every_mask_begins_at_a_half(recipe):
    model, batch = recipe.build(), {"ids": torch.randint(3, 300, (2, 16))}
    assert {name for name, _ in model.named_parameters()} == {f"scores.{i}" for i in range(len(model.names))}
    assert all(bool((mask == 0.5).all()) for mask in recipe.soft(model, 0.0).values())
    learns_beside(recipe, model, batch, ("scores",), progress=0.1, steps=20, rate=0.3)


def test_lambda_multiplies_the_mean_of_the_masks(recipe):
    model, batch = recipe.build(), {"ids": torch.randint(3, 300, (2, 16))}
    loss, logs = recipe.loss(model, batch, 0.0)
    assert float(logs["mask"]) == 0.5
    assert float(loss.detach() - logs["cross"]) == pytest.approx(0.5 * recipe.sparsity, abs=1e-4)


# --- method, records, claim -----------------------------------------------------------------------------------------

def test_the_card_is_the_papers():
    card = find("bigram-subnetworks").card
    assert (card.arxiv, card.year, card.tabs) == ("2504.15471", 2025, ("sample", "prune"))


def test_five_networks_stand_on_one_text(tiny):
    found = run("bigram-subnetworks", params={"length": 6}).traces
    for trace in found.values():
        assert [step.label for step in trace.steps] == [FULL, MASK, RANDOM, WITHOUT_RANDOM, WITHOUT]
        assert all(len(step.distributions) == 2 for step in trace.steps)
        assert np.array_equal(trace.steps[0].distributions["table of word pairs"].positions,
                              trace.steps[0].distributions[FULL].positions)
    read, wrote = found["sample"], found["prune"]
    assert len({step.ids.tobytes() for step in read.steps}) == 1 < len({step.ids.tobytes() for step in wrote.steps})


def test_a_text_without_words_before_the_last_is_refused(tiny):
    with pytest.raises(SubjectError, match="at least 4"):
        run("bigram-subnetworks", from_text("a"))


def test_pooled_sums_give_pearsons_r():
    rng = np.random.default_rng(0)
    pairs, mine = rng.random((30, 7)), rng.random((30, 7))
    pairs[3, 2] = np.inf
    known = np.isfinite(pairs)
    found = claim.r_of("r", pairs, mine)
    assert found.statistic(found.items) == pytest.approx(np.corrcoef(pairs[known], mine[known])[0, 1])


def test_the_claim_measures_in_its_quick_form(tiny):
    found = claim.measure(Lab(quick=True))
    asked = {row.name for row in (*found.rows, *found.context)}
    assert {"r of the mask's weights alone", "r: the mask's minus no weights", "weights in the mask"} <= asked
    spent = {name: budget["mean"] for name, budget in found.budgets.items() if name.startswith("without ")}
    assert len({spent[f"without {kind}"] for kind in (claim.MASK, claim.CHANCE, claim.LARGE)}) == 1
