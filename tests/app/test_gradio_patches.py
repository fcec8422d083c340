"""Whether Gradio still does what visualizers/server/gradio_patches.py is for: a failing test says which patch can go.

What the patches achieve is tested where it matters (test_privacy.py, test_faults.py, test_api.py); here Gradio is
looked at without them.
"""

import copy
import inspect
import re
from pathlib import Path

import gradio as gr
import gradio.networking
import gradio.queueing
import pytest
from gradio.blocks import BlocksConfig
from gradio.renderable import Renderable
from gradio.state_holder import SessionState

from tests.app.test_faults import LATE, ask_while_a_stream_ends
from visualizers.server import gradio_patches

ROOT = Path(__file__).parent.parent.parent
GRADIO = Path(gr.__file__).parent


def plain_page() -> gr.Blocks:
    with gr.Blocks() as page:
        box = gr.Textbox()
        gr.Button().click(lambda text: text, box, box)
    return page


def test_every_patch_says_what_it_is_for_and_where_upstream_speaks_of_it():
    for name, (says, upstream) in gradio_patches.PATCHES.items():
        assert hasattr(gradio_patches, name) and len(says) > 30
        assert re.fullmatch(r"https://github\.com/gradio-app/gradio/(issues|pull)/\d+|", upstream)
        assert any(test.startswith(f"test_{name.lower()}_") for test in globals()), f"nothing says when {name} can go"


def test_insist_a_call_with_too_few_values_still_quotes_what_was_sent():
    page = plain_page()
    (event,) = page.fns.values()
    with pytest.raises(ValueError, match="needed: 1, got: 0"):
        page.validate_inputs(event, [])
    assert "received_args.append(v)" in inspect.getsource(gr.Blocks.validate_inputs)


def test_quiet_gradio_still_prints_what_a_visitor_sent():
    assert "traceback.print_exc()" in inspect.getsource(gradio.queueing)
    with pytest.raises(gr.Error, match="a secret") as refused:
        gr.Dropdown(["a"]).preprocess("a secret")
    assert refused.value.print_exception


def test_drop_gradio_still_keeps_closed_sessions_for_an_hour(monkeypatch):
    monkeypatch.delenv("GRADIO_IS_E2E_TEST", raising=False)
    assert SessionState(plain_page()).STATE_TTL_WHEN_CLOSED == 3600
    holder = plain_page().state_holder
    assert {"session_data", "time_last_used"} <= set(vars(holder)), "what drop deletes from"


def test_walk_a_session_is_still_walked_through_while_it_grows():
    """Mutant: Gradio's own copy, a plain dictionary, which breaks off."""
    for place in (BlocksConfig.attach_load_events, Renderable.apply):
        assert re.search(r"for \w+ in \S+\.(blocks|fns)\.values\(\)", inspect.getsource(place)), place
    gradio_patches.walk()
    session = copy.copy(plain_page().default_config)
    for kept in (session.blocks, session.fns):
        seen = [kept.setdefault(9_000 + number, one) for number, one in enumerate(kept.values())]
        assert seen and len(kept) == 2 * len(seen)
        with pytest.raises(RuntimeError, match="changed size"):
            plain = dict(kept)
            [plain.setdefault(90_000 + number, one) for number, one in enumerate(plain.values())]
    assert isinstance(copy.copy(session).blocks, gradio_patches.Walked)


def test_uploads_are_still_never_forgotten():
    """Whoever deletes a file leaves its name in the set."""
    sources = "".join(path.read_text("utf-8") for path in GRADIO.glob("*.py"))
    assert "upload_file_set.update(" in sources
    assert not re.search(r"upload_file_set\.(discard|remove|clear|difference_update)|upload_file_set -=", sources)


def test_lost_gradio_still_loads_the_page_again_in_these_words():
    scripts = "".join(path.read_text("utf-8") for path in (GRADIO / "templates/frontend/assets").glob("Blocks-*.js"))
    words = re.search(r'GRADIOS = "(.*?)"', (ROOT / "visualizers/server/lost.js").read_text("utf-8"))[1]
    assert words in scripts and "location.reload()" in scripts


def test_renders_still_walk_through_components_that_others_add():
    """Nothing in Gradio guards a session's components while a render is going on."""
    source = inspect.getsource(gr.Blocks.postprocess_data) + inspect.getsource(gr.Blocks.process_api)
    assert "blocks_config" in source and "lock" not in source.lower().replace("block", "")


def test_launch_still_asks_the_app_for_three_seconds_at_most():
    assert "timeout=3" in inspect.getsource(gradio.networking.url_ok)
    assert "_frontend and not networking.url_ok" in inspect.getsource(gr.Blocks.launch)


# Keeps window.fetch as it is, so that stream.js, which comes later, cannot put its own there.
UNPATCHED = LATE + "\nObject.defineProperty(window, 'fetch', { value: window.fetch, writable: false });"


@pytest.mark.browser
def test_stream_gradios_client_still_waits_for_ever(visit):
    """As test_faults.test_what_is_asked_while_a_stream_ends_is_answered, without stream.js."""
    page = visit("?tab=mask", script=UNPATCHED)
    ask_while_a_stream_ends(page)
    assert not page.evaluate("window.fetch.toString().includes('JOIN')")
    page.wait_for_timeout(6000)
    assert "seed 5" not in page.locator("#mask-strip").inner_text(), "Gradio has mended it: stream.js can go"
