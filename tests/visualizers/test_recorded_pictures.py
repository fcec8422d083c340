"""What every recorded example shows: it ends clean, its legend tells states apart, and every token has its rivals."""

import json

import numpy as np
import pytest

from models.engine.method import atlas, find
from models.serving.recorded import FOLDER, read
from models.trace import CODE, STATES
from models.trace.serialize import load
from visualizers import draw
from visualizers.drawing import palette
from visualizers.drawing.marks import cells, resolved
from visualizers.page.downloads import rendered
from visualizers.page.panel import Panel, Shown

# Methods whose tokens need not all have been weighed where they stand, and why.
UNWEIGHED = {"icn": "its items are completed behind another text; only their first words are ranked"}
NAMES = sorted(path.name for path in FOLDER.glob("*.json"))


@pytest.fixture(params=NAMES)
def drawing(request):
    trace = load((FOLDER / request.param).read_text("utf-8"))
    return draw(trace, says=find(trace.method).card.states.get(trace.tab))


def test_the_legend_tells_all_its_states_apart(drawing):
    """Fault 20: "a patch" and "kept" had one swatch."""
    seen = [(look.light, look.cue, look.hides, look.fade) for state, _ in drawing.legend
            for look in [palette.LOOKS[state]]]
    words = [said for _, said in drawing.legend]
    alike = [words[i] for i, one in enumerate(seen) if seen.count(one) > 1]
    assert not alike and len(set(words)) == len(words), alike


@pytest.mark.parametrize("id, tab", [(m.id, tab) for m in atlas().values() for tab in m.card.states])
def test_a_method_says_what_its_states_mean(id, tab):
    """A right answer, a letter that was deciphered and a disc that is known were all called "accepted"."""
    own, found = find(id).card.states[tab], read(id, tab)
    says = dict(draw(found, says=own).legend)
    assert set(own) <= set(STATES) and set(own.values()) & set(says.values()) or id == "sampling"
    assert all(says[state] == words for state, words in own.items() if state in says)
    panel = object.__new__(Panel)  # without its components
    panel.tab, panel.methods = tab, {id: find(id)}
    files = rendered(Shown((found,)), "html", -1).decode()
    for words in set(own.values()) & set(says.values()):
        assert json.dumps(words) in panel.value(Shown((found,))) and json.dumps(words) in files


def test_it_opens_on_a_colour_that_the_menu_offers(drawing):
    """The menu of a picture whose steps are about nothing of their own was blank."""
    assert drawing.view["by"] != "auto" or any(frame.by for frame in drawing.frames)


def test_a_generation_ends_on_a_clean_step_with_all_its_candidates(drawing):
    """Faults 4 and 7. A graph whose nodes were judged ends on its verdicts."""
    judged = {CODE["accepted"], CODE["refused"]} & set(drawing.frames[-1].state.tolist())
    if drawing.tab not in ("unmask", "sample") or (drawing.layout.kind == "graph" and judged):
        return
    last = len(drawing.frames) - 1
    assert drawing.frames[-1].clean and not any(m.cue for m in cells(drawing, last, resolved(drawing, last, "auto")))
    ids = drawing.frames[-1].ids
    made = [token for token, code in enumerate(drawing.frames[-1].state) if STATES[code] == "known" and ids[token] >= 0]
    without = [token for token in made if not drawing.candidates(last, token)[1]]
    given = set(drawing.frames[-2].state) <= {CODE["context"]}  # a text that is only read
    assert len(made) or given, "nothing was made"
    assert not without or drawing.method.removesuffix("-control") in UNWEIGHED, \
        f"{len(without)} of {len(made)} tokens have no candidates"
    for token in made[:: max(1, len(made) // 20)]:
        for found in drawing.candidates(last, token)[1].values():
            row = int(np.flatnonzero(found.positions == token)[0])
            assert found.picked(token) < 0 or found.picked(token) in found.ids[row], token
