"""A model on every board of a run: what is concentrated, who is known, and heads from the first step on."""

import numpy as np
import pytest

from models.engine.method import follow, prepare, run
from models.loops.attend.boards import BoardLens, concentration, half_known
from models.loops.unmask.canvases import scene_board
from models.loops.unmask.loop import Full, Move, Plan, moves
from models.trace import CODE
from models.trace.subject import from_text
from tests.filling import going
from tests.traps import caught

pytestmark = pytest.mark.usefixtures("one_thread")


def test_concentration_is_a_share_and_a_lift():
    change, fresh = np.full(8, 0.1), np.zeros(8, bool)
    assert concentration(change, fresh)[0] == pytest.approx(0.25)
    change[[2, 5]], fresh[[2, 5]] = 4.7, True
    assert concentration(change, fresh) == (pytest.approx(0.94), 4.0)
    assert concentration(change, ~fresh)[1] == 0
    rng = np.random.default_rng(0)
    lifts = [concentration(rng.random(64), rng.random(64) < 0.2)[1] for _ in range(400)]
    assert np.mean(lifts) == pytest.approx(1, abs=0.05), "by chance new tokens are as often among them as any"


def test_unchanged_boards_do_not_change_the_model(tiny):
    model = tiny.masked_scene().eval()
    board, known = scene_board(model, tiny.scene_tokenizer(), "red circle, blue square"), np.zeros(256, bool)
    looked = BoardLens(model, board, [Move(256)])
    looked.features = looked.taken(board.ids, known)
    assert np.abs(looked.changed(looked.taken(board.ids, known), known)).max() < 1e-5
    mass = looked.roles[0]
    assert np.isnan(mass[:, 1]).all() and np.allclose(mass[:, 0, 1], 0), "nobody is known yet"


@pytest.mark.parametrize("counts, step", [((1, 1, 2), 2), ((2, 1, 1), 1), ((1, 3), 1)])
def test_heads_are_those_of_the_half_known_board(counts, step):
    assert half_known([Move(count) for count in counts]) == step


@pytest.mark.parametrize("id", ["enat", "mdm"])
def test_attention_can_be_looked_at_from_the_first_step_on(id, tiny):
    """Mutant: heads that come with the end of the run, so that the Attend tab shows nothing until then."""
    results = [dict(result.traces) for result in follow(prepare(id, params={"steps": 8}))]  # as they stand then
    first = next(traces for traces in results if "attend" in traces)
    assert len(first["attend"].steps) == 1 and first["attend"].heads is not None
    early, late = first["attend"].heads.span, results[-1]["attend"].heads.span
    assert early.shape == late.shape and not np.array_equal(early, late)  # the half known board's replace them


def test_boards_of_a_text_are_those_of_its_steps(tiny):
    """What is given is context, what a step wrote is new on the next board, and every token has its name."""
    traces = run("mdm", from_text("The cat ____ by the ___."), {"steps": 3}).traces
    boards, steps = traces["attend"].steps, traces["unmask"].steps
    assert len(boards) == len(steps) == 3 and not len(boards[0].where("new", "known"))
    for board, before in zip(boards[1:], steps):
        assert np.array_equal(board.where("new"), before.where("new"))
        assert np.array_equal(board.ids[board.state != CODE["unknown"]], before.ids[before.state != CODE["unknown"]])
        assert {int(i) for i in board.ids if i >= 0} <= set(traces["attend"].vocabulary)
    one = run("mdm", from_text("The cat ____ by the ___."), {"steps": 1}).traces["attend"]
    assert "held" not in one.facts and len(one.steps) == 1, "one board has nothing to be compared with"


def test_a_run_of_the_models_own_is_read_once(tiny, monkeypatch):
    """Mutant: a lens beside the network, which reads every board again."""
    model, calls = tiny.masked_scene().eval(), []
    board, look = scene_board(model, tiny.scene_tokenizer(), "red circle, blue square"), model.look
    monkeypatch.setattr(model, "look", lambda *args: calls.append(1) or look(*args))

    def reads_once(network):
        calls.clear()
        lens = BoardLens(model, board, planned := moves(256, 4))
        plan = Plan(planned, Full(network or lens, board.cond))
        for turn in going(plan, board):
            lens.taken(turn.moment.ids, ~turn.moment.masked[0].numpy())
        return len(calls) == 4

    caught(reads_once, None, model)
