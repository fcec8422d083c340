"""Tokenscope's front door: builds the page, says which event calls what, and launches.

    python app.py [--host H] [--port P] [--device cpu|cuda] [--dtype float32|bfloat16|float16] [--preload]

The layout is in visualizers/panel.py, what a click does in visualizers/desk.py, the runs in models/session.py.
Nothing a visitor types or uploads is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported; also silences the Hub's telemetry
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # one way of fetching checkpoints: the one that is tested

import gradio as gr
import yaml
from PIL import Image

import kernels
from models import checkpoints, limits
from models.__main__ import describe
from models.method import Method, find, follow, offered, prepare
from models.params import ParamError, schema
from models.session import in_time
from models.subject import Subject, SubjectError, from_example, from_text
from models.trace import TABS
from models.trace_json import save
from visualizers import look, papers
from visualizers.desk import CLEAR, MODEL, Desk
from visualizers.panel import QUESTIONS

Image.MAX_IMAGE_PIXELS = limits.PIXELS  # a small file can hide a huge picture
TITLE = "Tokenscope"
OPENS = {"mask": "hpm", "attend": "attention", "prune": "lazyllm", "unmask": "recap", "sample": "sampling"}
MOTTO = "see what a model masks, attends to, prunes, unmasks and samples"


def build() -> gr.Blocks:
    """The whole page: five tabs and the list of all papers. Methods are imported, models are not loaded."""
    with gr.Blocks(title=TITLE, delete_cache=(3600, 3600), fill_width=True) as page:
        gr.HTML(html_template=f"<header><h1>{TITLE}</h1><p>{MOTTO}</p></header>", apply_default_css=False,
                elem_id="title")
        desks = {}
        with gr.Tabs(overflow_behavior="wrap", elem_id="tabs") as tabs:
            for tab in TABS:
                methods = [m for m in offered().values() if tab in m.card.tabs]
                with gr.Tab(QUESTIONS[tab][0], id=tab):
                    if methods:
                        desks[tab] = Desk(tab, sorted(methods, key=lambda m: (m.id != OPENS[tab], m.card.seed is None)))
            with gr.Tab("All papers", id="papers"):
                papers.page()
        panels = [desk.panel for desk in desks.values()]
        page.load(None, None, [tabs, *(p.wanted for p in panels), *(p.method for p in panels)],
                  js=ARRIVE % json.dumps({panel.tab: list(panel.methods) for panel in panels}))
        endpoints()
    return page.queue(max_size=32, default_concurrency_limit=1, api_open=False)


# A copied link is read in the browser: it opens its tab and hands its parameters to that tab alone, where they are
# checked by the same declarations as the controls. The method goes into its menu at once, so that the controls are
# built for it and not for the one before. A page without a link costs no request.
ARRIVE = """(...boxes) => {
  const query = new URLSearchParams(location.search), methods = %s, tabs = Object.keys(methods);
  const wanted = query.get('tab'), method = query.get('method'), same = {__type__: 'update'};
  const link = method ? query.toString() : '';
  return [['papers', ...tabs].includes(wanted) ? {...same, selected: wanted} : same,
          ...tabs.map((tab) => tab === wanted ? link : ''),
          ...tabs.map((tab) => tab === wanted && methods[tab].includes(method) ? method : same)]; }"""


def endpoints() -> None:
    """Two documented endpoints for programs; everything else on the page is private."""
    gr.api(list_methods, api_name="list_methods", queue=False)
    gr.api(run_method, api_name="run_method", **MODEL)


def list_methods() -> list[dict]:
    """Every method: id, title, paper, tabs, baseline, grade, checkpoints, the verdict on its claim, its parameters."""
    return [describe(method) | {"parameters": schema(method.params)} for method in offered().values()]


def run_method(method: str, subject: str = "", params: dict | None = None, seed: int = 0, tab: str = "") -> dict:
    """Runs one method on an example's id (or, for text methods, on a text) and returns its trace as JSON data.

    params: values by name inside the ranges that list_methods states. tab: one of the method's tabs, or its first.
    """
    try:
        if not isinstance(subject, str) or not isinstance(tab, str):
            raise ParamError("subject and tab must be texts")
        chosen = find(method)
        asked = prepare(chosen, from_api(chosen, subject) if subject else None, params, seed=seed)
        *_, last = in_time(follow(asked), time.perf_counter())
        traces = last.traces
        if tab and tab not in traces:
            raise ParamError(f"there is no record for the tab '{tab[:20]}'; this method has {', '.join(traces)}")
        return json.loads(save(traces[tab or chosen.card.tabs[0]]))
    except CLEAR as error:
        raise gr.Error(str(error), print_exception=False) from None


def from_api(method: Method, subject: str) -> Subject:
    """An example by id or a text; never a path on this machine."""
    kind = method.kind()
    named = [e for e in method.examples_for(kind) if e.id == subject]
    if not named and kind == "photo":
        raise SubjectError("there is no example photo of this name; see list_methods")
    return from_example(named[0], kind) if named else from_text(subject, kind)


def launch(page: gr.Blocks, host: str, port: int, **more):
    """Serves the page: no other host is contacted, no history, no monitoring, no file outside the page's own."""
    return page.launch(
        server_name=host, server_port=port, run_history=False, enable_monitoring=False, ssr_mode=False, pwa=False,
        show_error=False, strict_cors=True, max_file_size=limits.FILE_BYTES, allowed_paths=[], footer_links=["api"],
        state_session_capacity=200, theme=look.theme(), css=look.css(), **more)


def flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description=f"{TITLE}: {MOTTO}.")
    hosted = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")  # a Space says here where it listens
    parser.add_argument("--host", default=os.environ.get("HOST", hosted))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", 7860)))
    parser.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"),
                        help="default: float32, or bfloat16 where this processor gains by it")
    parser.add_argument("--preload", action="store_true", help="load every shipped checkpoint before serving")
    return parser.parse_args()


def preloaded() -> list[str]:
    """The checkpoints that the Spacefile wants in memory before the first visitor comes; none outside of a Space."""
    if not os.environ.get("SPACE_ID"):
        return []
    return yaml.safe_load((Path(__file__).parent / "Spacefile").read_text("utf-8"))["preload"]


def main() -> None:
    options = flags()
    for name, value in (("TOKENSCOPE_DEVICE", options.device), ("TOKENSCOPE_DTYPE", options.dtype)):
        if value:
            os.environ[name] = value
    for name in checkpoints.shipped() if options.preload else preloaded():
        checkpoints.preload(name)
    kernels.compile_kernels()
    launch(build(), options.host, options.port)


if __name__ == "__main__":
    main()
