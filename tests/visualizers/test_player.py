"""The player in Chromium: it paints the marks that Python computes, steps without a server, and runs no text."""

import json
from dataclasses import replace

import numpy as np
import pytest

from models.trace import CODE, Field
from tests import samples
from visualizers import draw
from visualizers.drawing.arcs import arcs
from visualizers.drawing.marks import cells
from visualizers.export.figure import shared_scale
from visualizers.player.player import scene

pytestmark = pytest.mark.browser
JS_MARKS = """([side, step, by, dark]) => {
  const d = shown.drawings[side], name = resolved(d, step, by);
  return marksOf(d, step, {by: name, dark, shared: sharedScale(shown.drawings, name)})
    .map(m => [m.token, m.fill, m.share, m.cue, m.edge, m.fade, m.text]);
}"""


def flat(marks) -> list:
    return [[m.token, m.fill, m.share, m.cue, m.edge, m.fade, m.text] for m in marks]


def asked(drawings) -> list[tuple]:
    """(side, step, by, dark) over first, middle and last steps and everything that can colour them."""
    found = []
    for side, drawing in enumerate(drawings):
        extra = [f"attention:{name}" for name in ("row", *drawing.attention.quantities)] if drawing.attention else []
        for step in {0, len(drawing.frames) // 2, len(drawing.frames) - 1}:
            found += [(side, step, by, dark) for by in ("state", "auto", *drawing.fields, *extra) for dark in (0, 1)]
    return found


CASES = {
    "mask": lambda: (draw(samples.mask()),),
    "attend": lambda: (draw(samples.attend(), layer=1, head=2, query=30),),
    "attend mean": lambda: (draw(samples.attend(), layer=3, head=-1, query=12),),
    "prune": lambda: (draw(samples.prune()), draw(samples.prune(number=96, sheets=2))),
    "unmask": lambda: (draw(samples.unmask(steps=5)), draw(samples.twin())),
    "sample": lambda: (draw(samples.sample(), temperature=0.5),),
    "hostile": lambda: (draw(samples.hostile()),),
}


@pytest.mark.parametrize("case", CASES)
def test_browser_and_paper_paint_the_same_marks(case, window, paper_page):
    drawings = CASES[case]()
    questions = asked(drawings)
    answers = window.look(paper_page(*drawings), lambda page: [page.evaluate(JS_MARKS, list(q)) for q in questions])
    for (side, step, by, dark), painted in zip(questions, answers):
        name = (drawings[side].frames[step].by or "state") if by == "auto" else by
        shared = shared_scale(drawings, name, [0] * len(drawings)) if name in drawings[side].fields else None
        expected = json.loads(json.dumps(flat(cells(drawings[side], step, by, bool(dark), shared))))
        assert painted == expected, (side, step, by, dark)


def test_the_parity_test_sees_one_wrong_cell(window, paper_page):
    drawing = draw(samples.unmask(steps=3))
    frame = drawing.frames[1]
    state = frame.state.copy()
    state[100] = (state[100] + 1) % 4
    mutant = replace(drawing, frames=(drawing.frames[0], replace(frame, state=state), drawing.frames[2]))
    painted = window.look(paper_page(mutant), lambda page: page.evaluate(JS_MARKS, [0, 1, "state", 0]))
    assert painted != json.loads(json.dumps(flat(cells(drawing, 1, "state"))))


def test_the_canvas_shows_the_pieces_and_the_covers(window, paper_page):
    """Pixels of the browser's canvas: a known cell has the picture's colour, a hidden one the colour of hidden."""
    trace = samples.mask()
    drawing = draw(trace, by="state")

    def look(page):
        page.wait_for_function("shown.drawings[0].images.some(image => image && image.complete)")
        return page.evaluate("""() => { shown.by = 'state'; shown.go(1); const view = shown.views[0], c = view.canvas;
          const at = c.getContext('2d'), out = []; const w = c.width / 8;
          for (let i = 0; i < 64; i++)
            out.push([...at.getImageData((i % 8 + 0.3) * w, (Math.floor(i / 8) + 0.7) * w, 1, 1).data]);
          return out; }""")
    pixels = np.array(window.look(paper_page(drawing), look))[:, :3]
    marks = cells(drawing, 1, "state")
    piece = trace.steps[1].picture.reshape(8, 8, 8, 8, 3)[:, 5, :, 2].reshape(64, 3)  # the same spot of each patch
    for mark in marks:
        wanted = piece[mark.token] if mark.fill is None else [int(mark.fill[i:i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(pixels[mark.token] - wanted).max() <= 3, mark


def test_stepping_asks_nothing_and_is_quick(window, paper_page):
    def step(page):
        page.wait_for_timeout(300)
        before = len(page.asked)
        times = page.evaluate("""() => { const t = []; for (let i = 0; i < shown.total; i++) {
          const a = performance.now(); shown.go(i); t.push(performance.now() - a); }
          return t.sort((a, b) => a - b); }""")
        return times, [url for url in page.asked[before:] if not url.startswith("data:")]
    for drawings in ((draw(samples.unmask()), draw(samples.twin())), (draw(samples.long_text()),)):
        times, requests = window.look(paper_page(*drawings), step)
        assert requests == []
        assert times[0] < 50, times  # the best of a run: a shared test machine only adds to it


def test_keys_move_through_steps_and_tokens(window, paper_page):
    def keys(page):
        slider = page.locator("input[type=range]")
        slider.focus()
        seen = [page.locator(".ts").get_attribute("data-step")]
        for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft", "End", "PageUp"):
            page.keyboard.press(key)
            seen.append(page.locator(".ts").get_attribute("data-step"))
        page.locator("[role=gridcell][tabindex='0']").first.focus()
        for key in ("ArrowRight", "ArrowDown"):
            page.keyboard.press(key)
        focused = page.evaluate("document.activeElement.dataset.token")
        card = page.locator(".ts-card").inner_text()
        page.keyboard.press("PageDown")
        return seen, focused, card, page.locator(".ts").get_attribute("data-step")
    seen, focused, card, last = window.look(paper_page(draw(samples.unmask())), keys)
    assert seen[1:] == ["0", "1", "2", "1", "12", "11"]
    assert focused == "17" and "row 2, column 2" in card and "Confidence" in card and "%" in card
    assert last == "12"


def test_hovering_shows_candidates_with_bars(window, paper_page):
    def hover(page):
        page.evaluate("shown.go(3)")
        page.locator("[data-token='23']").hover()
        return page.locator(".ts-card").inner_text(), page.locator(".ts-card .ts-track").count()
    card, bars = window.look(paper_page(draw(samples.sample())), hover)
    assert "sampled now" in card and "entropy" in card and bars == 5


def test_pointing_at_a_token_lays_its_attention_over_the_text(window, paper_page):
    drawing = draw(samples.attend(), layer=0, head=1)

    def point(page):
        page.locator("[data-token='9']").hover()
        return page.evaluate("[...shown.views[0].targets].map(t => t.style.backgroundColor !== '' )"), \
            page.locator(".ts-query").get_attribute("data-token")
    _, query = window.look(paper_page(drawing), point)
    assert query == "9"


def test_arcs_start_at_the_token_that_is_pointed_at(window, paper_page):
    """Fault 3: no arcs, and the frame of the query stayed on the old word in another colour than the legend's."""
    trace = samples.attend()
    drawing = draw(trace, layer=0, head=1)
    look = """() => ({
      arcs: shown.linksOf(shown.drawings[0]).map(a => [a.query, a.key, Math.round(a.share * 1e4) / 1e4]),
      widths: [...document.querySelectorAll('.ts-links path')].filter((_, i) => i % 2)
        .map(p => Number(p.getAttribute('stroke-width'))),
      frames: [...document.querySelectorAll('.ts-cue-double:not(.ts-sample)')]
        .map(t => [t.dataset.token, t.style.getPropertyValue('--edge')]),
      legend: document.querySelector('.ts-legend .ts-cue-double').style.getPropertyValue('--edge')})"""

    def point(page):
        first = page.evaluate(look)
        page.locator("[data-token='9']").hover()
        card, box = (page.locator(name).bounding_box() for name in (".ts-card", ".ts-textbox"))
        return first, page.evaluate(look), card["y"] - box["y"] - box["height"]
    first, pointed, below = window.look(paper_page(drawing), point)
    assert [list(arc) for arc in arcs(drawing, 0, "attention:row")] == first["arcs"] and first["arcs"]
    assert {query for query, *_ in pointed["arcs"]} == {9} and all(key < 9 for _, key, _ in pointed["arcs"])
    strongest = int(np.argmax(trace.rows.row(0, 1, 9)[:9]))
    assert pointed["arcs"][0][1] == strongest and pointed["widths"] == sorted(pointed["widths"], reverse=True)
    assert pointed["frames"] == [["9", pointed["legend"]]] and pointed["legend"]
    assert below >= 0, "the card hides the words that are explored"


def test_every_token_has_candidates_to_the_clean_end(window, paper_page):
    drawing = draw(samples.sample())

    def ask(page):
        return page.evaluate("""() => Array.from({length: shown.total}, (_, step) => Array.from({length:
          shown.drawings[0].size}, (_, token) => [shown.drawings[0].born(step, token), shown.drawings[0]
          .candidates(step, token).map(c => c.items.filter(i => i.chosen).length)]))""")
    for step, tokens in enumerate(window.look(paper_page(drawing), ask)):
        for token, (born, chosen) in enumerate(tokens):
            at, lists = drawing.candidates(step, token)
            assert (born, len(chosen)) == (at, len(lists)) and all(n == 1 for n in chosen), (step, token)


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_what_changes_between_steps_moves(motion, window, paper_page):
    drawing = draw(samples.unmask())

    def step(page):
        page.evaluate("shown.go(5)")
        page.wait_for_timeout(800)  # what moved on the way there has come to rest
        return page.evaluate("""() => { shown.go(6);
          return shown.views[0].targets.map((t, i) => t.getAnimations().length ? i : -1).filter(i => i >= 0); }""")
    moved = window.look(paper_page(drawing), step, reduced_motion=motion)
    before, after = cells(drawing, 5, "state"), cells(drawing, 6, "state")
    changed = [m.token for m, old in zip(after, before) if m.cue and (m.cue, m.text) != (old.cue, old.text)]
    assert moved == (changed if motion == "no-preference" else []) and changed


def test_a_colouring_that_nobody_chose_follows_the_picture(window, paper_page):
    """The page recoloured after Run: its first step lacked the number that the finished picture is about."""
    early = draw(samples.mask(), by="state")
    late = replace(early, view={**early.view, "by": "loss"})

    def grow(page):
        seen = [page.evaluate("shown.by")]
        page.evaluate("value => shown.load(value)", json.loads(scene(late)))
        seen.append(page.evaluate("shown.by"))
        page.locator(".ts-menu", has_text="Colour by").locator("select").select_option("predicted")
        page.evaluate("value => shown.load(value)", json.loads(scene(late)))
        return [*seen, page.evaluate("shown.by")]
    assert window.look(paper_page(early), grow) == ["state", "loss", "predicted"]


def test_a_bar_stands_where_the_given_text_ends_and_nowhere_else(window, paper_page):
    trace = samples.sample()
    between = trace.steps[-1].state.copy()
    between[3] = CODE["known"]  # a place in the middle that was filled in: no prompt ends there
    filled = replace(trace, steps=(*trace.steps[:-1], replace(trace.steps[-1], state=between)))
    look = "[...document.querySelectorAll('.ts-given-end')].map(t => Number(t.dataset.token))"
    last = len(trace.steps) - 1
    found = [window.look(paper_page(draw(one)), lambda page: page.evaluate(f"shown.go({last})") or page.evaluate(look))
             for one in (trace, filled)]
    assert found == [[len(trace.steps[0].where("context")) - 1], []]


def test_a_mark_of_a_word_begins_where_the_word_does(window, paper_page):
    """At a line's end the space before the next line's word is neither underlined nor coloured."""
    broken = """() => [...document.querySelectorAll('.ts-token')].filter((t) => /^ \\S+$/.test(t.textContent) &&
      [...t.getClientRects()].filter((r) => r.width > 1).length > 1).length"""

    def look(page):
        page.evaluate("shown.go(99)")
        found = [page.evaluate(broken)]
        page.add_style_tag(content=".ts-token[data-spaced] { white-space: pre-wrap }")  # mutant
        return [*found, page.evaluate(broken)]
    found, mutant = window.look(paper_page(draw(samples.sample())), look, width=330)
    assert found == 0 < mutant


def test_the_end_of_a_text_still_says_what_else_could_have_come(window, paper_page):
    drawing = draw(samples.sample())

    def look(page):
        page.evaluate("shown.go(99)")
        return page.locator(".ts-now").inner_text()
    words = window.look(paper_page(drawing), look)
    assert drawing.frames[-1].clean and "What could have come last" in words and "entropy" in words


def test_two_quantities_beside_each_other_have_two_scales(window, paper_page):
    """Fault 18: patch variance stood beside an error, and one bar spoke for both."""
    trace = samples.mask()
    error = Field("Error of the rebuilt patch", "MSE", 0.0)
    spread = replace(trace, fields={**trace.fields, "loss": Field("Patch variance", "pixels²", 0.0)},
                     steps=tuple(replace(step, fields={n: v * (40 if n == "loss" else 1) for n, v in
                                                       step.fields.items()}) for step in trace.steps))
    drawings = [replace(draw(one, by="loss", title=name), attention=None) for one, name in
                ((replace(trace, fields={**trace.fields, "loss": error}), "One"), (spread, "Other"))]

    def read(page):
        return page.evaluate("[sharedScale(shown.drawings, 'loss').high, "
                             "sharedScale(shown.drawings, 'loss', shown.drawings[1]).high]"), \
            page.locator(".ts-legend .ts-scale").all_inner_texts()
    highs, bars = window.look(paper_page(*drawings), read)
    own = [drawing.fields["loss"].high for drawing in drawings]
    assert highs == own and own[1] > 20 * own[0]
    assert len(bars) == 2 and bars[0].startswith("One: Error") and bars[1].startswith("Other: Patch variance")
    alike = window.look(paper_page(drawings[0], drawings[0]), read)[1]
    assert len(alike) == 1 and alike[0].startswith("Error"), "one quantity is said once"


def test_picture_only_hides_all_marks_and_brings_them_back(window, paper_page):
    count = "marksOf(shown.drawings[0], 5, {by: shown.colouring(shown.drawings[0])}).filter(m => m.cue).length"

    def switch(page):
        page.evaluate("shown.go(5)")
        seen = [page.evaluate(count)]
        for _ in range(2):
            page.get_by_role("button", name="Picture only").click()
            seen += [page.evaluate(count), page.locator(".ts-legend").inner_text()]
        page.evaluate("shown.go(99)")
        return *seen, page.locator(".ts-where").inner_text(), page.evaluate(count)
    marks, none, bare, again, legend, where, end = window.look(paper_page(draw(samples.unmask())), switch)
    assert marks > 0 and (none, bare) == (0, "") and again == marks and "revealed now" in legend
    assert (where, end) == ("finished", 0)


def test_no_text_runs_and_nothing_leaves_the_page(window, paper_page):
    def look(page):
        for step in range(3):
            page.evaluate(f"shown.go({step})")
            page.locator("[data-token='5']").hover()
        page.wait_for_timeout(200)
        text = page.locator(".ts-text").inner_text()
        return page.evaluate("window.pwned"), page.locator("img").count(), text, page.asked
    pwned, images, text, requests = window.look(paper_page(draw(samples.hostile())), look)
    assert pwned is None and images == 0 and "<img src=x onerror=window.pwned=1>" in text
    assert all(url.startswith(("file:", "data:")) for url in requests)


@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_is_wider_than_the_page(width, window, paper_page):
    for drawings in ((draw(samples.unmask()), draw(samples.twin())), (draw(samples.prune()), draw(samples.prune())),
                     (draw(samples.attend()),), (draw(samples.sample(), temperature=0.5),)):
        wide = window.look(paper_page(*drawings), lambda page: page.evaluate("document.documentElement.scrollWidth"),
                           width=width)
        assert wide <= width


def test_dark_pages_use_the_dark_colours(window, paper_page):
    address = paper_page(draw(samples.unmask()))
    read = "[shown.page.panel, getComputedStyle(document.querySelector('.ts-panel')).backgroundColor]"
    for scheme, colours in (("dark", ["#1d1d22", "rgb(29, 29, 34)"]), ("light", ["#ffffff", "rgb(255, 255, 255)"])):
        assert window.look(address, lambda page: page.evaluate(read), color_scheme=scheme) == colours


def test_the_tree_for_assistive_technology(window, paper_page):
    def look(page):
        page.wait_for_timeout(900)
        cell = page.locator("[role=gridcell]").first
        return (page.locator("[role=grid]").first.get_attribute("aria-label"), cell.get_attribute("aria-label"),
                page.locator("[aria-live=polite]").inner_text(), page.locator("[role=row]").count(),
                page.locator("[role=gridcell][tabindex='0']").count())
    grid, cell, live, rows, stops = window.look(paper_page(draw(samples.unmask())), look)
    assert grid.startswith("A grid of 16 by 16 cells") and cell.startswith("row 1, column 1: ")
    assert live.startswith("Step ") and "still masked" in live and rows == 16 and stops == 1


def test_inside_gradio_no_text_runs_and_events_arrive(window):
    gr = pytest.importorskip("gradio")
    from visualizers.player.player import player, row, scene, turn
    heard = []
    few = samples.attend()
    few = replace(few, rows=replace(few.rows, queries=few.rows.queries[:2], weights=few.rows.weights[:, :, :2],
                                    scale=few.rows.scale[:, :, :2]))
    with gr.Blocks() as demo:
        player(scene(draw(samples.hostile())), elem_id="bad")
        attention = player(scene(draw(few)), elem_id="attention")
        game = player(scene(draw(samples.mask()), turn=turn("Hide.", [2])), elem_id="game")

        def compute(event: gr.EventData):
            heard.append((event.side, event.layer, event.head, event.query))
            return row(event.side, event.layer, event.head, event.query, np.linspace(0, 1, 48))

        def picked(event: gr.EventData):
            heard.append(event.groups)
        attention.row(compute, None, attention)
        game.pick(picked, None, None)
    _, url, _ = demo.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", ssr_mode=False)

    def act(page):
        page.locator("#bad .ts-token").first.wait_for()
        page.locator("#bad [data-token='5']").hover()
        page.locator("#attention [data-token='9']").click()
        page.wait_for_function("document.querySelector('#attention .ts').player.drawings[0].extraRows.size === 1")
        for token in (3, 4):
            page.locator(f"#game [data-token='{token}']").click()
        page.locator("#game .ts-primary").click()
        page.wait_for_timeout(1500)
        return page.evaluate("window.pwned"), page.locator("#bad .ts-text").inner_text()
    try:
        pwned, text = window.look(url, act)
    finally:
        demo.close()
    assert pwned is None and "${window.pwned=1}" in text
    assert heard == [("left", 3, 0, 9), [[3, 4]]]
