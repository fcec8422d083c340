"""When the machine fails: one clear sentence for that visitor, nothing secret in page or log; the next run works."""

import errno
import os
import resource
import signal
import threading
import time

import httpx
import pytest
import torch
from playwright.sync_api import expect

from models.checkpoints import store
from models.serving import cores, errors
from models.trace.params import ParamError
from tests.app.pages import picture, run, toast
from tests.app.serve import FAULTS, SLOW
from tests.local_server import free_port, serving
from tests.visitor import Visitor

WORDS = {79: errors.CARD_MEMORY, 80: errors.CARD, 81: errors.MEMORY, 82: errors.DISK, 83: errors.FILE,
         84: errors.MEMORY}


# ---- which sentence, and what is put in order ------------------------------------------------------------------------

@pytest.fixture
def device(monkeypatch):
    monkeypatch.setenv("TOKENSCOPE_DEVICE", "cuda")
    return lambda: os.environ["TOKENSCOPE_DEVICE"]


@pytest.mark.parametrize("seed", FAULTS)
def test_each_fault_has_its_sentence(seed, device):
    said = errors.told(FAULTS[seed])
    assert said == WORDS[seed] and said.endswith(".") and "secret" not in said


def test_torchs_own_cuda_error_is_known_by_its_type(device):
    kind = getattr(torch, "AcceleratorError", None)
    if kind is None:
        pytest.skip("this torch has no AcceleratorError")
    assert errors.told(kind("device-side assert triggered")) == errors.CARD


def test_what_a_visitor_can_change_is_said_as_it_is():
    assert errors.told(ParamError("seed must be a whole number")) == "seed must be a whole number"
    assert errors.told(KeyError("the secret inside")) == errors.GENERIC
    assert errors.told(ParamError("no method 'a\nb\u202ec 🦊'")) == "no method 'a b c 🦊'"  # one line, left to right


def test_after_a_cuda_error_the_next_run_is_on_the_processor(device):
    """Mutant: an out-of-memory error, after which the card is fine, must not turn it off."""
    errors.told(FAULTS[79])
    assert device() == "cuda"
    errors.told(FAULTS[80])
    assert device() == "cpu" and store.default_device() == "cpu"


def test_when_memory_is_short_loaded_models_are_given_back(tiny):
    store.load("photo-mae-1")
    errors.told(OSError(errno.ENOSPC, "disk"))
    assert store._loaded
    errors.told(MemoryError())
    assert not store._loaded


def test_the_log_says_where_and_never_what(caplog):
    try:
        try:
            raise KeyError("the secret inside")
        except KeyError as cause:
            raise RuntimeError("also the secret inside") from cause
    except RuntimeError as error:
        errors.told(error)
    assert "RuntimeError at test_faults.py" in caplog.text and "KeyError at" in caplog.text
    assert "secret" not in caplog.text


# ---- in the running app ----------------------------------------------------------------------------------------------

@pytest.mark.browser
def test_every_fault_is_one_sentence_on_the_page_and_the_next_run_works(server):
    visitor = Visitor(server.url)
    for seed, words in WORDS.items():
        visitor.set("mask-seed", seed)
        answer = visitor.press("mask-run")
        assert answer.error is None and answer.warnings == [words]
        visitor.set("mask-seed", 1)
        good = visitor.press("mask-run")
        assert not good.warnings and "live" in str(good.outputs[visitor.named["mask-strip"]])
    assert "the secret inside" not in server.out.read_text()


@pytest.mark.browser
def test_a_killed_server_is_announced_and_the_next_run_works(browser, tmp_path):
    port = free_port()
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    with serving(tmp_path, port) as server:
        page.goto(f"{server.url}/")
        page.get_by_role("tab", name="Unmask").click()
        run(page, "unmask", seed=SLOW, wait=False)
        expect(page.locator("#unmask-status")).to_contain_text("%", timeout=60_000)
        os.kill(server.process.pid, signal.SIGKILL)
        expect(page.get_by_text("Connection to the server was lost")).to_be_visible(timeout=30_000)
    with serving(tmp_path, port):
        expect(page.locator(".lost [role=alert]")).to_contain_text("press Run again", timeout=60_000)
        assert page.locator("#tabs [role=tab]").first.bounding_box()["y"] < 60, "the tabs stay where they are"
        expect(page.get_by_role("tab", name="Unmask")).to_have_attribute("aria-selected", "true")
        run(page, "unmask", seed=2)
        page.locator(".lost button").click()
        expect(page.locator(".lost [role=alert]")).to_have_count(0)
    page.context.close()


@pytest.mark.browser
def test_a_restart_between_two_runs_needs_no_reload(tmp_path):
    port = free_port()
    with serving(tmp_path, port) as server:
        visitor = Visitor(server.url)
        visitor.set("mask-seed", 3)
        assert not visitor.press("mask-run").warnings
    with serving(tmp_path, port):
        forgotten = visitor.press("mask-get-json")
        assert "run it again" in forgotten.warnings[0], "a picture that the new process does not know"
        answer = visitor.press("mask-run")
        assert answer.error is None and "seed 3" in str(answer.outputs[visitor.named["mask-strip"]])


# The end of a stream reaches the page when the test lets it, as on a slow line.
LATE = """
  const real = window.fetch.bind(window);
  window.streams = window.asked = 0;
  window.fetch = async (...request) => {
    const answer = await real(...request), { json } = answer;
    answer.json = async () => {  // what the client does with it comes before the next timer
      const said = await json.call(answer);
      if (answer.url.includes("/queue/join")) setTimeout(() => window.asked++, 100);
      return said; };
    if (!String(request[0]?.url ?? request[0]).includes("/queue/data")) return answer;
    window.streams++;
    const slow = new TransformStream({ async transform(chunk, out) {
      const text = new TextDecoder("latin1").decode(chunk), end = text.indexOf('data: {"msg":"close_stream"');
      if (end < 0) return out.enqueue(chunk);
      out.enqueue(chunk.slice(0, end));
      if (window.hold) await new Promise((go) => { window.release = go; });
      out.enqueue(chunk.slice(end));
      window.streams--;
    } });
    return new Response(answer.body.pipeThrough(slow), { status: answer.status, headers: answer.headers });
  };"""


@pytest.mark.browser
def test_streams_are_followed_from_the_first_request_on(visit):
    """Mutant: stream.js in a component of the page, which may come after the page's first requests."""
    page = visit("?tab=mask", script="""
        const real = window.fetch; window.unfollowed = 0;
        const watched = (...request) => {
          const url = String(request[0]?.url ?? request[0]);
          if (window.fetch === watched && url.includes("/queue/")) window.unfollowed++;
          return real(...request); };
        window.fetch = watched;""")
    run(page, "mask")
    assert page.evaluate("window.fetch.toString().includes('JOIN')") and page.evaluate("unfollowed") == 0


def ask_while_a_stream_ends(page):
    """Seed 5 is asked after the answer to seed 4 is there and before its stream has ended."""
    run(page, "mask", seed=3)
    page.wait_for_function("window.streams === 0")
    page.evaluate("window.hold = true")
    run(page, "mask", seed=4)
    page.wait_for_function("!!window.release")
    page.locator("#mask-seed input").fill("5")
    page.locator("#mask-seed input").blur()
    before = page.evaluate("window.asked")
    page.locator("#mask-run").click()
    page.wait_for_function("before => window.asked > before", arg=before)  # a slower client would ask the next stream
    page.evaluate("window.hold = false; release()")


@pytest.mark.browser
def test_what_is_asked_while_a_stream_ends_is_answered(visit):
    """Mutant: visualizers/server/stream.js left out. Gradio's client then waits for ever."""
    page = visit("?tab=mask", script=LATE)
    ask_while_a_stream_ends(page)
    expect(page.locator("#mask-strip")).to_contain_text("seed 5", timeout=20_000)
    expect(page.locator("#mask-run")).to_have_text("Run", timeout=20_000)


@pytest.mark.browser
def test_a_full_disk_stops_uploads_with_a_sentence_and_nothing_else(browser, tmp_path):
    """No file of the server may grow any more: whatever it would write fails as on a full disk."""
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    with serving(tmp_path) as server:
        page.goto(f"{server.url}/?tab=mask")
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        run(page, "mask", seed=1)
        with page.expect_download():
            page.locator("#mask-get-json").click()
        page.locator("#mask-photo").locator("xpath=preceding-sibling::input[@type='file'][1]").set_input_files(
            {"name": "a.png", "mimeType": "image/png", "buffer": picture()})
        toast(page, "could not be uploaded")
        run(page, "mask", seed=2)
    page.context.close()


# ---- too many at once ------------------------------------------------------------------------------------------------

@pytest.fixture
def crowd(server):
    """crowd(n) -> the answers so far of n visitors whose slow runs go on, wait, or are refused and tried again."""
    visitors, answers, over = [], [], threading.Event()

    def insist(visitor: Visitor) -> None:
        while not over.is_set():
            answers.append(visitor.press("unmask-run"))
            if answers[-1].status != 503:
                return
            time.sleep(0.3)

    def come(number: int, queued: int) -> list:
        config = Visitor(server.url).config
        for _ in range(number):
            visitors.append(Visitor(server.url, config=config))
            visitors[-1].set("unmask-seed", SLOW)
            threading.Thread(target=insist, args=(visitors[-1],), daemon=True).start()
        ends = time.monotonic() + 90
        while waiting(server) < queued and time.monotonic() < ends:
            time.sleep(0.1)
        return answers
    yield come
    over.set()
    ends = time.monotonic() + 60
    while waiting(server) and time.monotonic() < ends:
        for visitor in visitors:
            visitor.cancel()
        time.sleep(0.5)


def waiting(server) -> int:
    return httpx.get(f"{server.url}/gradio_api/queue/status", timeout=60).json()["queue_size"]


@pytest.mark.browser
def test_who_waits_sees_their_place(visit, crowd):
    page = visit("?tab=mask")
    crowd(2 + cores.at_once(), queued=2)
    run(page, "mask", seed=4, wait=False)
    place = page.locator("#mask-status .progress-text")
    expect(place).to_contain_text("queue: 3/3", timeout=20_000)
    expect(place).to_be_visible()
    before = place.evaluate("(e) => getComputedStyle(e, '::before').content")
    assert "your place in the" in before


@pytest.mark.browser
def test_a_full_queue_is_refused_at_once_with_a_sentence(visit, crowd):
    page = visit("?tab=mask")
    answers = crowd(35 + cores.at_once(), queued=32)
    run(page, "mask", seed=4, wait=False)
    toast(page, "currently busy. Please try again")
    expect(page.locator("#mask-run")).to_be_enabled()
    refused = [answer for answer in answers if answer.status == 503]
    assert refused and all("Queue is full" in answer.error for answer in refused)
