"""Tokenscope's front door: builds the page, says which event calls what, and launches.

    python app.py [--host H] [--port P] [--device cpu|cuda] [--dtype float32|bfloat16|float16] [--preload] [--mcp]

The layout is in visualizers/page/panel.py, what a click does in visualizers/page/tab_handlers.py, the runs in
models/serving/session.py.
Nothing a visitor types or uploads is kept.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before gradio is imported; also silences the Hub's telemetry
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # one way of fetching checkpoints: the one that is tested
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")  # no list of who called what ...
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")  # ... and no table of it after every call

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # torch's threads leave the core to the page while they wait

import gradio as gr
import yaml
from PIL import Image

import kernels
from models.checkpoints import store
from models.engine.method import Method, offered
from models.serving import catalog, replicas, zerogpu
from models.serving.errors import told
from models.trace import TABS, limits
from visualizers.page import gradio_theme, head
from visualizers.page.gallery import gallery
from visualizers.page.panel import QUESTIONS
from visualizers.page.tab_handlers import MODEL, Desk
from visualizers.page.terms import explained
from visualizers.server import gradio_patches, security_headers, session_cleanup, thumbnails, upload_errors

Image.MAX_IMAGE_PIXELS = limits.CAMERA_PIXELS  # a small file can hide a huge picture
TITLE = "Tokenscope"
OPENS = {"mask": "mae", "attend": "attention", "prune": "lazyllm", "unmask": "recap", "sample": "sampling"}
MOTTO = "see what a model masks, attends to, prunes, unmasks and samples"


def build() -> gr.Blocks:
    """The whole page: five tabs and the list of all papers. Methods are imported, models are not loaded."""
    with gr.Blocks(title=TITLE, delete_cache=(20, 40), fill_width=True) as page:
        gr.HTML(html_template=f"<header><h1>{TITLE}</h1><p>{MOTTO}</p></header>", apply_default_css=False,
                elem_id="title")
        gradio_patches.lost()
        desks = {}
        with gr.Tabs(overflow_behavior="wrap", elem_id="tabs") as tabs:
            for tab in TABS:
                with gr.Tab(QUESTIONS[tab][0], id=tab):
                    if methods := ordered(tab):
                        desks[tab] = Desk(tab, methods)
            with gr.Tab("All papers", id="papers"):
                papers = gallery(QUESTIONS)
        explained()
        panels = [desk.panel for desk in desks.values()]
        places = [tabs, *(p.wanted for p in panels), *(p.method for p in panels)]
        methods = json.dumps({panel.tab: list(panel.methods) for panel in panels})
        page.load(None, None, places, js=ARRIVE % ("new URLSearchParams(location.search)", methods))
        papers.go(None, [papers], places, js=ARRIVE % ("new URLSearchParams(boxes[0].go)", methods))
        endpoints()
        gradio_patches.insist(page)
        gradio_patches.walk()
        gradio_patches.quiet()
        session_cleanup.after_leaving(page)
    return page.queue(max_size=32, default_concurrency_limit=1, api_open=False)


def ordered(tab: str) -> list[Method]:
    """The methods of a tab as its menu has them: the one on which it opens first, baselines last."""
    methods = [m for m in offered().values() if tab in m.card.tabs]
    return sorted(methods, key=lambda m: (m.id != OPENS[tab], m.card.seed is None))


# A copied link is read in the browser: it opens its tab and hands its parameters to that tab alone, where they are
# checked by the same declarations as the controls. The method goes into its menu at once, so that the controls are
# built for it and not for the one before. A page without a link costs no request. A click in the gallery does the same.
ARRIVE = """(...boxes) => {
  const query = %s, methods = %s, tabs = Object.keys(methods);
  const wanted = query.get('tab'), method = query.get('method'), same = {__type__: 'update'};
  const link = method ? query.toString() : '';
  return [['papers', ...tabs].includes(wanted) ? {...same, selected: wanted} : same,
          ...tabs.map((tab) => tab === wanted ? link : ''),
          ...tabs.map((tab) => tab === wanted && methods[tab].includes(method) ? method : same)]; }"""


def endpoints() -> None:
    """What programs and agents may call: the list, and one endpoint per tab; everything else on the page is private."""
    gr.api(list_methods, api_name="list_methods", queue=False)
    for tab in TABS:
        gr.api(endpoint(tab), api_name=tab, **MODEL)


def list_methods() -> list[dict]:
    """Lists every method: its id, title, tabs, what it does, its subjects, the JSON schema of its parameters, its
    checkpoints and the verdict on its paper's claim."""
    return catalog.listing()


def endpoint(tab: str) -> Callable[..., dict]:
    """The function behind /<tab>; its name, hints and words are what MCP clients and the API page read."""
    def ask(method: str, subject: str = "", params: dict | None = None, seed: int = 0,
            summary_only: bool = False) -> dict:
        try:
            return catalog.answer(tab, method, subject, params, seed, summary_only)
        except Exception as error:
            raise gr.Error(told(error), print_exception=False) from None

    ids = tuple(method.id for method in offered().values() if tab in method.card.tabs)
    ask.__name__ = ask.__qualname__ = tab
    ask.__annotations__["method"] = Literal[ids] if ids else str
    ask.__doc__ = WORDS.format(tab=QUESTIONS[tab][0], question=QUESTIONS[tab][1])
    return ask


WORDS = """{tab}: {question} Runs one method on a small real model and says what happened, step by step.

Parameters:
    method: Id of the method; list_methods says what each one does.
    subject: An example's id or a text (for photos an id only), as list_methods says; empty for the first example.
    params: Values by name, inside the ranges of the method's schema in list_methods; the others keep their defaults.
    seed: A whole number from 0; the same seed gives the same answer.
    summary_only: True for a readable summary alone, without the trace (up to a megabyte).
Returns:
    summary: a sentence, facts with units, steps. trace: the whole record as JSON text, for models.trace.serialize.load.
"""


def launch(page: gr.Blocks, host: str, port: int, mcp: bool = False, **more):
    """Serves the page: no other host is contacted, no history, no monitoring, no file outside the page's own."""
    titles = {tab: {method.id: method.card.title for method in ordered(tab)} for tab in TABS}
    return page.launch(
        server_name=host, server_port=port, run_history=False, enable_monitoring=False, ssr_mode=False, pwa=False,
        show_error=False, strict_cors=True, max_file_size=limits.FILE_BYTES, allowed_paths=[], footer_links=["api"],
        state_session_capacity=200, theme=gradio_theme.theme(), css=gradio_theme.css(), head=head.head(titles),
        mcp_server=mcp,
        app_kwargs={"middleware": [*security_headers.middleware(), *upload_errors.middleware()],
                    "routes": thumbnails.routes()},
        **gradio_patches.LAUNCH, **more)


def flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python app.py", description=f"{TITLE}: {MOTTO}.")
    hosted = os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")  # a Space says here where it listens
    parser.add_argument("--host", default=os.environ.get("HOST", hosted))
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", 7860)))
    parser.add_argument("--device", help="cpu or cuda; default: cuda where there is one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"),
                        help="default: float32, or bfloat16 where this processor gains by it")
    parser.add_argument("--mcp", action="store_true", help="also offer the API as tools for agents (docs/api.md)")
    parser.add_argument("--preload", action="store_true", help="load every shipped checkpoint before serving")
    return parser.parse_args()


def preloaded() -> list[str]:
    """The checkpoints that the Spacefile wants in memory before the first visitor comes; none outside of a Space."""
    if not os.environ.get("SPACE_ID"):
        return []
    return yaml.safe_load((Path(__file__).parent / "Spacefile").read_text("utf-8"))["preload"]


def main() -> None:
    options = flags()
    if options.mcp and not importlib.util.find_spec("mcp"):
        sys.exit("tokenscope: --mcp needs one more package: pip install -r requirements-mcp.txt")
    if limits.REPLICAS and not importlib.util.find_spec("ray"):
        sys.exit("tokenscope: replicas need one more package: pip install -r requirements-ray.txt")
    for name, value in (("TOKENSCOPE_DEVICE", options.device), ("TOKENSCOPE_DTYPE", options.dtype)):
        if value:
            os.environ[name] = value
    if options.host not in ("127.0.0.1", "localhost", "::1"):  # others reach the page: no look at this machine's disk
        os.environ.setdefault("TOKENSCOPE_FOLDERS", "0")
    for name in store.shipped() if options.preload else preloaded():
        store.preload(name)
    zerogpu.place(store.shipped())
    kernels.compile_kernels()
    if limits.REPLICAS:
        replicas.deploy(limits.REPLICAS, tuple(preloaded()))
    launch(build(), options.host, options.port, options.mcp)


if __name__ == "__main__":
    main()
