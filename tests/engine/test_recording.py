"""The recording helpers: what they store is what was measured, new becomes known once, and ids are named once."""

import numpy as np
import pytest
import torch

from models.engine.events import Emit
from models.engine.recording import (
    Filling,
    bars,
    board_places,
    distribution,
    line,
    numbers,
    over_steps,
    placed,
    places,
    sheet,
    spread,
    table,
)
from models.trace import CODE, Canvas, Field
from tests.traps import caught

FIELDS = {"entropy": Field("Entropy", "nats"), "confidence": Field("Confidence", ""), "when": Field("Step", "step")}


@pytest.fixture
def logits():
    return torch.randn(3, 9, generator=torch.Generator().manual_seed(0)) * 2


def page(**options) -> Filling:
    return Filling("unmask", Canvas("list", ("",) * 6), FIELDS, "id {}".format, **options)


def test_a_distribution_is_the_softmax(logits):
    found, probs = distribution(logits, [1, 4, 2], [8, -1, 0], top=4, keep=True), logits.softmax(-1)
    best = probs.topk(4)
    assert found.positions.tolist() == [1, 4, 2] and found.chosen.tolist() == [8, -1, 0]
    listed = [[*row[:3], drawn] if drawn >= 0 and drawn not in row else row
              for row, drawn in zip(best.indices.tolist(), (8, -1, 0))]
    assert found.top_ids.tolist() == listed != best.indices.tolist(), "what was drawn stands among its rivals"
    assert np.allclose(found.top_probs, probs.gather(1, torch.tensor(listed)), atol=1e-3)
    assert np.allclose(found.entropy, -(probs * probs.log()).sum(-1), atol=2e-3)
    assert np.allclose(found.lse, logits.logsumexp(-1), atol=1e-5) and np.allclose(found.logits, logits, atol=1e-2)
    assert found.top_probs.dtype == found.entropy.dtype == np.float16
    assert distribution(logits[0], 5).positions.tolist() == [5]
    assert distribution(logits[:1], 5, top=99).top_ids.size == 9, "a small vocabulary has no more"


def test_statistics_may_be_made_already(logits):
    import kernels
    stats = kernels.vocab_stats(logits, top_k=6, chosen=torch.tensor([1, 2, 3]))
    ours, theirs = distribution(stats, slice(0, 3)), distribution(logits, range(3))
    assert all(np.array_equal(getattr(ours, name), getattr(theirs, name)) for name in ("positions", "top_ids", "lse"))
    assert np.allclose(numbers(stats, [1, 2, 3])["confidence"], numbers(logits, [1, 2, 3])["probability"])


def test_numbers_are_those_of_the_chosen_ids(logits):
    found, probs = numbers(logits, [3, -1, 5]), logits.softmax(-1)
    assert found["confidence"][[0, 2]] == pytest.approx([float(probs[0, 3]), float(probs[2, 5])], abs=1e-5)
    assert np.isnan(found["confidence"][1]), "nothing was chosen there"
    assert found["peak"] == pytest.approx(probs.amax(-1).numpy(), abs=1e-5) and "confidence" not in numbers(logits)


def test_new_is_known_in_the_next_step(logits):
    filling = page()
    filling.fill([0, 1], [7, 8])
    first, second = filling.step("one"), filling.step("two")
    assert first.step.where("new").tolist() == [0, 1] and second.step.where("known").tolist() == [0, 1]
    assert first.step.where("unknown").tolist() == [2, 3, 4, 5] and second.step.ids.tolist() == [7, 8, -1, -1, -1, -1]
    taken_back = page(then="discarded")
    taken_back.fill(2, 1)
    assert taken_back.step("one").step.where("new").tolist() == [2]
    assert taken_back.step("two").step.where("discarded").tolist() == [2]


def test_a_step_keeps_what_it_was_when_the_page_goes_on(logits):
    """Mutant: a step that holds the page's own arrays would change with it."""
    filling = page()
    filling.fill(0, 3, when=1.0)
    step = filling.step("one").step
    filling.fill(0, 4, "refused", when=2.0)
    assert step.ids[0] == 3 and step.state[0] == CODE["new"] and step.fields["when"][0] == 1


def test_ids_are_named_when_they_first_appear(logits):
    filling = page()
    filling.fill(0, 8)
    filling.guess([1], logits[:1], [4], top=2)
    found = filling.step("one")
    assert isinstance(found, Emit) and set(found.vocabulary) == {8, 4, *logits[0].topk(2).indices.tolist()}
    assert found.vocabulary[8] == "id 8" and filling.step("two").vocabulary == {}
    other = filling.copy()
    other.fill(3, 0, "refused")
    assert other.step("tried").step.ids[3] == 0 and filling.ids[3] == -1, "a trial leaves the page alone"


def test_fields_carry_on_unless_they_are_fleeting(logits):
    filling = page(fleeting=("confidence",))
    filling.guess([1, 2, 3], logits, logits.argmax(-1))
    first, second = filling.step("one").step, filling.step("two").step
    assert set(first.fields) == {"entropy", "confidence"}, "nothing was noted in the third"
    assert set(second.fields) == {"entropy"} and not second.distributions
    assert np.array_equal(np.isnan(second.fields["entropy"]), [1, 0, 0, 0, 1, 1])
    assert filling.step("three", fields={"when": spread(6, 5, 2.0)}).step.fields["when"][5] == 2
    assert np.isnan(filling.values["when"]).all()


def test_a_second_models_guesses_need_not_be_measured(logits):
    filling = page()
    filling.guess([0, 1, 2], logits, name="target")
    before = filling.values["entropy"].copy()
    filling.guess([0, 1, 2], logits * 3, name="drafter", measure=False)
    assert np.array_equal(filling.values["entropy"], before, equal_nan=True)
    assert list(filling.step("one").step.distributions) == ["target", "drafter"]


def test_labels_are_written_where_a_text_grows():
    filling = page()
    filling.fill([2, 3], [1, 2], labels=(" a", "b"))
    assert filling.open(7).canvas.labels == ("", "", " a", "b", "", "") and filling.open().total == 7


def test_lines_begin_where_they_are_told_and_skip_what_is_missing():
    assert over_steps([3, np.nan, 5], 1).tolist() == [[1, 3], [3, 5]]
    assert over_steps(torch.tensor([3.0, 4.0]), at=[0.5, 2]).tolist() == [[0.5, 3], [2, 4]]
    chart = line("Rows", "rows", {"fed": [1, 2], "points": np.array([[4, 9]])}, reference=1.0)
    assert chart.by_step and chart.series["fed"].tolist() == [[0, 1], [1, 2]] and chart.series["points"].shape == (1, 2)
    assert bars("t", "map", "ms", {"ms": [1, 2]}, ("a", "b")).ticks == ("a", "b")
    assert table("t", "to", "from", np.eye(2), "ab", "cd").series["share"].shape == (2, 2)


@pytest.mark.parametrize("at", [slice(2, 5), range(2, 5), [2, 3, 4], np.arange(2, 5), torch.arange(2, 5)])
def test_places_are_given_in_any_form(at):
    assert places(at).tolist() == [2, 3, 4] and places(at).dtype == np.int32


def test_pictures_lie_where_they_were_placed():
    red, blue = (np.full((4, 4, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    made = placed((red, blue), ((0, 0, 2, 2), (2, 3, 4, 4)), (6, 7))
    assert (made[:2, :2] == red[0, 0]).all() and (made[2:, 3:] == blue[0, 0]).all() and (made[3, 0] == 217).all()
    made = sheet((red, blue, red), columns=2, gap=1)
    assert made.shape == (9, 9, 3) and (made[0, 5] == blue[0, 0]).all() and (made[5, 5] == 217).all()
    lettered = sheet((red, blue), 2, labels=("a", "b"))
    assert lettered.shape == (15, 10, 3) and (lettered[:11] < 100).any() and (lettered[11:, :4] == red[0, 0]).all()


def test_the_cells_of_boards_lie_where_their_sheet_shows_them():
    boards = [np.arange(18, dtype=np.uint8).reshape(3, 2, 3).repeat(4, 0).repeat(4, 1) + 20 * i for i in range(3)]
    made = sheet(boards, columns=2, gap=4)  # cells of 4 pixels

    def shown(order):
        column, row = board_places((3, 2), 3, 2)[order].T.astype(int)
        return np.array_equal(made[4 * row + 1, 4 * column + 1], np.concatenate([one[1::4, 1::4] for one in boards])
                              .reshape(18, 3))
    caught(shown, slice(None), slice(None, None, -1))
