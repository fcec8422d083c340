"""Two masks and their joint distribution: what a table says is what trying every first token would say."""

import pytest
import torch

from models.engine.method import run
from models.loops.unmask.canvases import text_board
from models.loops.unmask.two_masks import EXACT, OPENING, PRODUCT, Between, measured
from tests.traps import caught

ATOL = 1e-5
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def board(tiny):
    return text_board(tiny.bundle("text-mdm-2").model, tiny.text_tokenizer(), "Once upon a time", 12)


@torch.inference_mode()
def by_brute_force(model, board, first: int, second: int, token: int) -> torch.Tensor:
    """Probabilities [V] of the second token once the first one stands there."""
    ids = board.ids.clone()
    ids[0, first] = token
    logits = model(ids)[0, second].clone()
    logits[list(board.forbidden)] = -torch.inf
    return logits.softmax(-1)


def test_the_joint_tables_are_what_brute_force_says(tiny, board):
    """Mutant: the product of marginals, which knows no first token."""
    model = tiny.bundle("text-mdm-2").model
    first, second = (board.ids == board.mask_id)[0].nonzero()[:2, 0].tolist()
    pair = measured(board, model, (first, second), 1.0, firsts=4)
    true = torch.stack([by_brute_force(model, board, first, second, token) for token in pair.firsts])
    caught(lambda way: torch.allclose(pair.seconds[way], true, atol=ATOL), EXACT, PRODUCT)
    assert torch.equal(pair.seconds[PRODUCT][0], pair.seconds[PRODUCT][3])
    assert 0 < pair.apart(PRODUCT) <= 1 and pair.apart(EXACT) == 0


def test_what_a_method_puts_between_is_asked_for_the_texts_with_the_first_token(tiny, board):
    """A whole pass in between is exact. Mutant: states that do not change."""
    model = tiny.bundle("text-mdm-2").model

    def exact(states):
        pair = measured(board, model, (5, 7), 1.0, Between("own", "a pass", "own", states))
        assert pair.apart("a pass (own)") < ATOL

    caught(exact, model.look, lambda ids: model.look(board.ids).expand(len(ids), -1, -1))


def test_the_baseline_shows_what_its_tokens_do_not_know_of_each_other(tiny):
    trace = run("mdm", params={"length": 8}).traces["sample"]
    assert len(trace.steps) == 10 and all(set(step.distributions) == {OPENING, EXACT, PRODUCT} for step in trace.steps)
    assert [chart.series["probability"].sum() for chart in trace.charts] == [pytest.approx(1, abs=1e-3)] * 2
