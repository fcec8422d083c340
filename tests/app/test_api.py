"""Programs, agents, notebooks and frames: what docs/api.md promises, against a running app."""

import importlib.util
import io
import json
import re
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Error, expect

import app
from models.engine.method import find
from models.serving import catalog
from models.trace import CODE, TRACES
from models.trace.params import ParamError
from models.trace.serialize import load
from models.trace.subject import SubjectError
from tests import samples
from tests.app.pages import TABS, open_tab, run
from tests.loopback import Answers, answering
from visualizers.server.security_headers import HEADERS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ENDPOINTS = {"/list_methods", *(f"/{tab}" for tab in TABS)}
FIRST = {"mask": "mae", "attend": "attention", "prune": "random-keep", "unmask": "mdm", "sample": "sampling"}


# ---- the functions ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tab", TABS)
def test_an_answer_is_a_summary_and_a_record(tiny, tab):
    found = catalog.answer(tab, FIRST[tab], seed=3)
    trace = load(found["trace"])
    assert type(trace) is TRACES[tab] and trace.provenance.seed == 3
    assert found["summary"]["sentence"] == trace.sentence and set(found["summary"]["facts"]) == set(trace.facts)
    assert set(catalog.answer(tab, FIRST[tab], seed=3, summary_only=True)) == {"summary"}


def test_the_text_of_an_answer_has_the_words_that_were_filled_in(tiny):
    """Mutant: the canvas as it was given, in which blanks are empty."""
    found = catalog.answer("unmask", "mdm", "The hen lived near a ___ and the cat ___ by the fire.", {"steps": 2})
    trace, said = load(found["trace"]), found["summary"]["text"]
    filled = [trace.vocabulary[int(trace.steps[-1].ids[at])] for at in trace.steps[0].where("new", "unknown")]
    assert len(filled) and all(word in said for word in filled) and "___" not in said
    assert said.startswith("The hen lived near a") and len(said) > len(trace.canvas.text)


def test_what_left_or_was_never_written_is_no_blank(tiny):
    """A pruned prompt still says all that was typed; refused drafts and open room are no part of a text."""
    typed = "The hen lived near a mill."
    assert catalog.answer("prune", "random-keep", typed, {"length": 2}, 0, True)["summary"]["text"].startswith(typed)
    trace = samples.sample()
    refused = trace.steps[-1].state.copy()
    refused[-1] = CODE["refused"]
    cut = replace(trace, steps=(*trace.steps[:-1], replace(trace.steps[-1], state=refused)))
    assert catalog.final_text(cut) == "".join(trace.canvas.labels[:-1])


def test_the_list_says_how_to_ask(tiny):
    """Whatever the list names is taken: every example, and parameters at both ends of their schema."""
    for method in catalog.listing():
        assert {"id", "tabs", "summary", "parameters", "subjects", "claim"} <= set(method)
        ask = catalog.asked(method["tabs"][0], find(method["id"]), method["subjects"]["examples"][-1], {}, 0)
        assert ask.own is None
        if method["subjects"]["own"]:
            assert catalog.asked(method["tabs"][0], find(method["id"]), "red circle, 3 plus 4", {}, 0).own is not None
    json.dumps(catalog.listing(), allow_nan=False)


@pytest.mark.parametrize("tab, values, error, words", [
    ("unmask", {"params": {"full": 4000}}, ParamError, "full must be"),
    ("unmask", {"params": {"nothing": 1}}, ParamError, "there is no parameter"),
    ("unmask", {"params": [1]}, ParamError, "names with values"), ("unmask", {"seed": -1}, ParamError, "seed must be"),
    ("unmask", {"seed": True}, ParamError, "seed must be"), ("mask", {}, ParamError, "no picture in the tab"),
    ("unmask", {"method": "none"}, ParamError, "there is no method"),
    ("unmask", {"method": 7}, ParamError, "there is no method"),
    ("unmask", {"subject": ["x"]}, ParamError, "subject must be"),
    ("mask", {"method": "mae", "subject": "/etc/passwd"}, SubjectError, "no example photo"),
    ("sample", {"method": "sampling", "subject": "a" * 50_000}, SubjectError, "under 8,000")])
def test_a_wrong_value_is_refused_in_a_sentence(tiny, tab, values, error, words):
    with pytest.raises(error, match=words):
        catalog.answer(tab, **{"method": "recap"} | values)


# ---- over HTTP -------------------------------------------------------------------------------------------------------

pytestmark = pytest.mark.browser  # they share its server


def call(server, name: str, data: list) -> tuple[str, str]:
    """(event, data) of the last message of an API call."""
    url = f"{server.url}/gradio_api/call/{name}"
    asked = urllib.request.Request(url, json.dumps({"data": data}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(asked) as answer:
        id = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{url}/{id}", timeout=60) as answer:
        lines = answer.read().decode().strip().split("\n")
    kind = next(line[7:] for line in reversed(lines) if line.startswith("event: "))
    return kind, next(line[6:] for line in reversed(lines) if line.startswith("data: "))


def test_only_the_documented_endpoints_are_public(server):
    with urllib.request.urlopen(f"{server.url}/gradio_api/info") as answer:
        named = json.load(answer)["named_endpoints"]
    assert set(named) == ENDPOINTS
    assert all(name.strip("/") in (DOCS / "api.md").read_text() for name in ENDPOINTS)
    known = named["/unmask"]["parameters"]
    assert [p["parameter_name"] for p in known] == ["method", "subject", "params", "seed", "summary_only"]
    assert "recap" in known[0]["type"]["enum"] and "hpm" not in known[0]["type"]["enum"]


def test_the_endpoints_answer(server):
    kind, answer = call(server, "list_methods", [])
    assert kind == "complete" and {"id", "tabs", "parameters"} <= set(json.loads(answer)[0][0])
    kind, answer = call(server, "attend", ["hpm", "cat", {}, 3, False])
    assert kind == "complete" and load(json.loads(answer)[0]["trace"]).tab == "attend"


@pytest.mark.parametrize("name, data, words", [
    ("unmask", ["recap", "two", {"full": 4000}, 0, False], "full must be"),
    ("mask", ["mae", "/etc/passwd", {}, 0, True], "no example photo"),
    ("mask", [{"a": 1}, "", {}, 0, True], "there is no method"),
    ("sample", ["sampling", "", "x", 0, True], "names with"), ("sample", ["sampling"], "needs all its values")])
def test_a_refusal_arrives_as_one_sentence(server, name, data, words):
    kind, answer = call(server, name, data)
    assert kind == "error" and words in answer and "Traceback" not in answer


def test_the_documented_lines_work(server):
    """The curl payload and the Python lines of docs/api.md."""
    text = (DOCS / "api.md").read_text()
    name, data = re.search(r"call/(\w+) -H.*?-d '(.*?)'", text, re.DOTALL).groups()
    kind, answer = call(server, name, json.loads(data)["data"])
    assert kind == "complete" and set(json.loads(answer)[0]) == {"summary"}
    lines = re.search(r"## Python\n\n(.*?)\n\n", text, re.DOTALL)[1].replace("http://127.0.0.1:7860", server.url)
    out = io.StringIO()
    with redirect_stdout(out):
        exec(re.sub(r"^    ", "", lines, flags=re.MULTILINE), {})
    assert len(out.getvalue().strip()) > 20


def test_the_notebook_runs_and_draws(server, monkeypatch):
    monkeypatch.setenv("TOKENSCOPE_URL", server.url)
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebook, space, out = json.loads((DOCS / "api.ipynb").read_text()), {}, io.StringIO()
    with redirect_stdout(out):
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), space)
    assert "recap" in out.getvalue() and "length must be" in out.getvalue()
    assert len(space["entropy"]) == 24 and len(space["axes"].patches) == 24
    assert all(cell.get("outputs", []) == [] for cell in notebook["cells"]), "outputs belong to whoever runs it"


# ---- agents ----------------------------------------------------------------------------------------------------------

def test_without_the_package_the_flag_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["app.py", "--mcp"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install -r requirements-mcp.txt"):
        app.main()


def test_agents_find_the_same_functions_as_tools(server):
    pytest.importorskip("mcp")
    import asyncio

    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async def talk():
        async with streamablehttp_client(f"{server.url}/gradio_api/mcp/") as (read, write, _):
            async with ClientSession(read, write) as session:
                await session.initialize()
                tools = (await session.list_tools()).tools
                fine = await session.call_tool("sample", {"method": "sampling", "seed": 2, "summary_only": True})
                wrong = await session.call_tool("sample", {"method": "sampling", "params": {"length": 10**6}})
                return {tool.name: tool for tool in tools}, fine, wrong

    with ThreadPoolExecutor(1) as other:  # a browser test before this one may have left a loop in this thread
        tools, fine, wrong = other.submit(asyncio.run, talk()).result()
    assert {f"/{name}" for name in tools} == ENDPOINTS
    known = tools["sample"].inputSchema["properties"]
    assert "How sure is it?" in tools["sample"].description and "sampling" in known["method"]["enum"]
    assert all(known[name].get("description") for name in ("method", "subject", "params", "seed", "summary_only"))
    assert not fine.isError and "sentence" in fine.content[0].text and len(fine.content[0].text) < 20_000
    assert wrong.isError and "length must be" in wrong.content[0].text


# ---- headers ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/info", "/theme.css", "/nothing-here"])
def test_every_answer_carries_the_headers(server, path):
    try:
        answer = urllib.request.urlopen(server.url + path)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS


def test_on_a_space_the_platforms_headers_stand(monkeypatch):
    from visualizers.server.security_headers import middleware
    assert len(middleware()) == 1
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert middleware() == []


WATCH = "window.violations = []; addEventListener('securitypolicyviolation', (e) => violations.push(e.blockedURI));"


def test_the_policy_forbids_third_hosts_and_nothing_that_the_page_needs(browser, server):
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    try:
        page = context.new_page()
        page.add_init_script(WATCH)
        page.goto(server.url)
        for tab in TABS:
            open_tab(page, tab)
            if tab in ("mask", "sample"):
                run(page, tab, seed=2)
        page.get_by_role("tab", name="All papers").click()
        open_tab(page, "mask")
        with page.expect_download():
            page.locator("#mask-get-png").click()
        assert page.evaluate("violations") == []
        page.evaluate("""() => { new Image().src = 'https://example.org/x.png';
                                 fetch('https://example.org/').catch(() => 0); }""")
        page.wait_for_function("violations.length === 2")
    finally:
        context.close()


# ---- frames ----------------------------------------------------------------------------------------------------------

class Course(Answers):
    """Somebody's course page with the app in a frame of 400 pixels, as docs/api.md writes it."""

    app = ""

    def do_GET(self):  # noqa: N802  the name that http.server calls
        snippet = re.search(r"<iframe.*?</iframe>", (DOCS / "api.md").read_text(), re.DOTALL)[0]
        shown = snippet.replace("https://YOUR-HOST/", f"{self.app}/").replace('"100%"', '"400"')
        body = f"<!doctype html><title>Course</title><h1>Lesson 1</h1>{shown}".encode()
        self.answer(body, Content_Type="text/html")


@pytest.fixture
def course(server):
    """The address of a page at another site: another name and another port."""
    Course.app = server.url
    with answering(Course) as address:
        yield address.replace("127.0.0.1", "localhost") + "/"


def test_another_sites_page_shows_the_app_in_a_narrow_frame(browser, course, server):
    context = browser.new_context(viewport={"width": 800, "height": 1000})
    try:
        page, errors = context.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(course)
        page.locator("iframe").scroll_into_view_if_needed()
        frame = page.locator("iframe").element_handle().content_frame()  # loads late: wait for what is in it
        expect(frame.locator(".walk:visible")).to_contain_text("1 of")
        assert frame.evaluate("document.documentElement.scrollWidth") <= 400
        with pytest.raises(Error, match="cross-origin"):
            frame.evaluate("parent.origin")
        run(frame, "unmask", seed=4)
        frame.locator("#unmask-copy").click()
        box = frame.locator("#unmask-link textarea")
        expect(box).to_have_value(re.compile("^" + re.escape(server.url) + ".*tab=unmask.*seed=4"))
        frame.goto(box.input_value())
        expect(frame.locator("#unmask-strip")).to_contain_text("seed 4")
        assert not errors, errors[:3]
    finally:
        context.close()
