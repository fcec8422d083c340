"""Blocks: passes are counted where they are made, sizes come from who chooses them; and a classifier's gradient."""
import numpy as np
import pytest
import torch

from models.backbones.block_diffusion import LONGEST, SIZES, Ahead, BlockDiffusionLM, BlockStream
from models.backbones.stand_in import stirred
from models.backbones.story_classifier import GROUPS, LABELS, StoryClassifier, label_logp, labels_of
from models.engine.method import run
from models.loops.unmask.blocks import (
    STEPS,
    at_random,
    by_blocks,
    by_entropy,
    by_size,
    calls_of,
    entropies,
    steps_of,
    texts,
)
from models.loops.unmask.steering import exact, orders, steering, taylor
from models.trace import Cost
from models.trace.subject import from_text
from models.worlds.tales.headings import LENGTH, WORLD
from models.worlds.world import END, MASK, drawn
from tests.traps import caught
from training.trunks import tale_labels

pytestmark = pytest.mark.usefixtures("one_thread")
TOK, DICE = WORLD.tokenizer(), torch.Generator()
PROMPTS = [[END, 7, 8], [END, *range(10, 40)]]


@pytest.fixture(scope="module")
def net():
    return stirred(BlockDiffusionLM(60, 32, 2, 2, 64)).eval()


@pytest.mark.parametrize("hitting", [False, True])
@pytest.mark.parametrize("size", [0, 2, 4])
def test_calls_are_those_that_were_made(net, size, hitting, monkeypatch):
    """Mutant: denoising steps alone, without the pass that reads a finished block."""
    passes, real = [], BlockStream._read
    monkeypatch.setattr(BlockStream, "_read", lambda self, *given: passes.append(1) or real(self, *given))
    made = texts(by_blocks(net, PROMPTS[:1], by_size(size), DICE.manual_seed(1), 40, hitting=hitting), 1)[0]
    caught(lambda counted: counted(made.sizes, hitting) == len(passes), calls_of,
           lambda sizes, hitting: sum(steps_of(one, hitting) for one in sizes))
    assert END in made.ids[-1:] or len(made.ids) == 37
    assert set(made.sizes[:-1]) <= {SIZES[size]} and [steps_of(one) for one in (3, 5, 9, 16)] == [3, 4, 6, 6]
    assert list(STEPS) == list(SIZES)


def test_texts_side_by_side_are_written_as_each_alone(net):
    """Prompts of different lengths, one longer than a block; greedily, so that no draw is shared."""
    from kernels import Sampler

    def write(prompts):
        dice = torch.Generator().manual_seed(0)
        return texts(by_blocks(net, prompts, by_size(0), dice, 48, sampler=Sampler(0)), len(prompts))
    assert write(PROMPTS) == [write([one])[0] for one in PROMPTS]


def test_rules_choose_what_they_say():
    logits = torch.full((2, LONGEST, 60), 0.0)
    logits[0, :6, 5] = logits[1, :1, 5] = 30.0  # six sure words, and one
    ahead = Ahead(torch.zeros(2, 4), logits, torch.tensor([40, 3]), Cost())
    assert by_entropy(1.0)(ahead, [0, 1]) == [4, 1 if float(entropies(ahead)[1, 1]) > 1 else 16]
    assert bool((entropies(ahead)[1, 3:] == 0).all()), "where there is no room nothing is unsure"
    assert by_size(2.0)(ahead, [0, 1]) == [4, 4] and set(by_size(2.5)(ahead, range(30))) == {4, 8}
    few, many = (np.mean(at_random(tilt, np.random.default_rng(0))(ahead, range(200))) for tilt in (-2.0, 2.0))
    assert few < 2 < 12 < many


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(0)
    return stirred(StoryClassifier(len(TOK.get_vocab()), 32, 1, 2, 64)).eval()


def test_first_order_is_the_slope_and_exact_is_the_change(classifier):
    """Against a finite difference; mutants: of another label, with the other sign, without the mask's own vector."""
    ids, place, label = torch.tensor([[END, 9, MASK, 30, MASK]]), 2, 4
    scores = taylor(classifier, ids, torch.tensor([[place]]), label)[0, 0]
    table = classifier.encoder.embed_tokens.weight
    embedded, turned = classifier.encoder.embed(ids)

    def slope(word: int) -> float:
        near = embedded.clone()
        near[0, place] += 1e-2 * (table[word] - table[MASK])
        return float((label_logp(classifier.scores(near, turned), label)
                      - label_logp(classifier(ids), label)).detach()) / 1e-2
    wanted = np.array([slope(word) for word in (9, 30, 77)])
    caught(lambda found: np.allclose(found[[9, 30, 77]], wanted, atol=2e-3 + 0.05 * abs(wanted).max()), scores,
           taylor(classifier, ids, torch.tensor([[place]]), 0)[0, 0], -scores, scores + 0.3)
    other = ids.clone()
    other[0, place] = 77
    assert float(exact(classifier, ids[0], place, torch.tensor([77]), label)[0]) == pytest.approx(
        float(label_logp(classifier(other), label).detach()), abs=1e-5)
    first, exactly = orders(classifier, ids[0], place, torch.tensor([9, 77]), label)
    assert torch.equal(first, scores[[9, 77]]) and len(exactly) == 2
    guided = steering(classifier, label, 2.0)(torch.zeros(1, 1, len(scores)), ids, torch.tensor([[place]]))
    assert torch.allclose(guided[0, 0], 2 * scores)


def test_labels_are_told_in_their_own_group(classifier):
    ids = torch.tensor([[END, 9, MASK]])
    for group in (range(GROUPS[0]), range(GROUPS[0], len(LABELS))):
        assert sum(float(label_logp(classifier(ids), label).detach().exp()) for label in group) == pytest.approx(1)
    moods, topics = labels_of(classifier, [[END, 9], [END, 30, 31]]).T
    assert (moods < GROUPS[0]).all() and (topics >= GROUPS[0]).all()


def test_classifiers_learn_masked_text_and_different_stories():
    """Mutant: clean text only, on which a gradient at a mask means nothing."""
    rng = np.random.default_rng(0)
    docs = [drawn(WORLD, rng) for _ in range(60)]

    def any_share(share) -> bool:
        ids = tale_labels.partly_masked(docs, TOK, np.random.default_rng(1), share)["ids"]
        hidden = (ids == MASK).float().mean(1)
        return bool(hidden.min() < 0.2) and bool(hidden.max() > 0.8) and 0.2 < float(hidden.std())
    caught(any_share, None, 0.0, 0.5)
    halves = [tale_labels.half_of(doc) for doc in docs]
    assert 15 < sum(halves) < 45
    guide, judge = tale_labels.Guides(0), tale_labels.Judges(0)
    for one in (guide, judge):
        one.prepare(None)
        one.rows = 4
    assert not {tuple(row) for row in guide.batch(0, 0.0)["ids"].tolist()} & {
        tuple(row) for row in judge.batch(0, 0.0)["ids"].tolist()}
    assert guide.half != judge.half and guide.shape != judge.shape and LENGTH == guide.batch(0, 0.0)["ids"].shape[1]


@pytest.mark.parametrize("params", [{}, {"label": "sea", "strength": 100}, {"blocks": "fixed", "size": "16"},
                                    {"blocks": "random", "hitting": True, "length": 24}])
def test_blocks_lie_one_behind_the_other_and_passes_inside_them(params, tiny):
    traces = run("ctrldiff", from_text("A happy tale of the sea."), params).traces
    page, sample = traces["unmask"], traces["sample"]
    blocks = [at for at, step in enumerate(page.steps) if step.level == "block"]
    assert len(blocks) == len(sample.steps)
    assert all(step.parent in blocks for step in page.steps if step.level == "step")
    numbers = page.steps[-1].fields["block"]
    assert np.all(np.diff(numbers[~np.isnan(numbers)]) >= 0) and numbers[~np.isnan(numbers)][0] == 1
    assert page.facts["calls"].value * np.sum(~np.isnan(numbers)) == pytest.approx(len(page.steps), rel=1e-3)
    assert sum(step.cost.calls for step in page.steps) == len(page.steps), "a step is a pass"
    assert ("steered" in sample.steps[0].distributions) == ("label" in params)
