"""Files: every kind opens, the same trace gives the same file, and paper shows the marks of the page."""

import ast
import io
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from models.trace import CODE, Canvas, MaskTrace, Provenance, Step
from tests import samples
from visualizers import draw
from visualizers.drawing import palette
from visualizers.drawing.marks import cells
from visualizers.export.canvas_mpl import readable
from visualizers.export.files import KINDS, export, snippet
from visualizers.export.fonts_mpl import Ruler

STARTS = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF", "gif": b"GIF89a", "html": b"<!DOCTYPE html>"}


def tiny() -> MaskTrace:
    """Four by four cells without a picture, a state each."""
    names = ["unknown", "masked-hard", "masked-random", "visible", "known", "new", "recomputed", "reused", "recycled",
             "merged", "revived", "accepted", "refused", "discarded", "dropped", "context"]
    state = np.array([CODE[name] for name in names], np.uint8)
    return MaskTrace("m", Canvas("grid", ("",) * 16, (4, 4)), (Step("one", state), Step("two", state[::-1].copy())))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_opens(kind):
    data = export(tiny(), kind, twin=tiny())
    assert data.startswith(STARTS[kind])


def test_an_unknown_kind_is_refused_with_one_sentence():
    with pytest.raises(ValueError, match="png, svg, pdf, gif, html"):
        export(tiny(), "bmp")


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_same_trace_gives_the_same_file(kind):
    assert export(samples.sample(), kind) == export(samples.sample(), kind)


def test_a_gif_shows_all_steps():
    from PIL import Image
    assert Image.open(io.BytesIO(export(samples.mask(), "gif"))).n_frames == 5  # and the original, and the clean end


def colours_on_paper(trace, dark: bool) -> list[str]:
    """The colour under each cell, a little off its centre, where no cue is drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from visualizers.export.figure import FigurePage
    page = FigurePage([draw(trace)], 0, "state", dark)
    figure = page.draw("", "")
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(100)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    at = page.boxes(page.drawings[0], 0.3, 0.58)
    return [palette.hexed(pixels[int((y + h * 0.3) * 100), int((x + w * 0.68) * 100)]) for x, y, w, h in at]


@pytest.mark.parametrize("dark", [False, True])
def test_paper_shows_the_colours_of_the_marks(dark):
    trace = tiny()
    wanted = [palette.mix(m.fill, palette.PAGE["dark" if dark else "light"]["paper"], m.share)
              for m in cells(draw(trace), 0, "state", dark)]
    names = ["visible", "known", "new", "recomputed", "reused", "recycled", "merged", "accepted", "context", "unknown"]
    plain = [i for i, code in enumerate(trace.steps[0].state) if list(palette.LOOKS)[code] in names]
    found = colours_on_paper(trace, dark)
    near = [max(abs(a - b) for a, b in zip(palette.rgb(found[i]), palette.rgb(wanted[i]))) for i in plain]
    assert max(near) <= 3, list(zip(plain, near))
    shifted = colours_on_paper(replace(trace, steps=(trace.steps[1],)), dark)  # the mutant: cells in another order
    assert max(abs(a - b) for i in plain for a, b in zip(palette.rgb(shifted[i]), palette.rgb(wanted[i]))) > 30


def test_text_on_paper_keeps_every_token_in_order():
    from visualizers.export.figure import FigurePage
    page = FigurePage([draw(samples.long_text(300, 1))], 0, "state", False)
    placed = [token for line in page.text_lines(0) for token, _ in line]
    assert sorted(set(placed)) == list(range(300)) and placed == sorted(placed)
    ruler = Ruler(9.5)
    assert all(ruler("".join(piece for _, piece in line)) < page.panel + 0.35 for line in page.text_lines(0))


@pytest.mark.filterwarnings("ignore:Glyph")
def test_paper_writes_text_literally():
    data = export(samples.hostile(), "svg")
    assert b"<script" not in data and data.startswith(STARTS["svg"])


def test_control_and_direction_characters_are_made_visible():
    assert readable("\x00\u202eabc\u202c") in ("␀‹U+202E›abc‹U+202C›", "‹U+0000 U+202E›abc‹U+202C›")
    assert readable("\ud83d\ude00") in ("😀", "‹U+1F600›") and readable("a\nb\tc") == "a\nb    c"


def test_the_page_asks_no_other_host_and_hides_no_markup():
    text = export(samples.hostile(), "html").decode()
    assert "default-src 'none'" in text
    assert "https://" not in text and text.count("http://") == text.count("http://www.w3.org/")
    body = text[text.index("<body>"):]
    assert body.count("<script") == 3 and "<img" not in body


def test_the_snippet_is_python_with_the_runs_settings():
    trace = replace(samples.unmask(), provenance=Provenance(
        checkpoint="scene-mgm-1", seed=7, params={"steps": 12, "order": "x'\"\n"}, subject="two-shapes"))
    tree = ast.parse(snippet(trace))
    call = next(n for n in ast.walk(tree) if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "run")
    assert ast.literal_eval(call.args[2]) == {"steps": 12, "order": "x'\"\n"}
    assert {k.arg: ast.literal_eval(k.value) for k in call.keywords} == {"checkpoint": "scene-mgm-1", "seed": 7}


def test_the_snippet_reproduces_a_run(tiny, capsys):
    from models.engine.method import run
    trace = run("mae").traces["mask"]
    exec(compile(snippet(trace), "snippet", "exec"), {})
    assert trace.sentence in capsys.readouterr().out


def test_the_snippet_of_a_changed_run_makes_the_same_change(tiny):
    from models.engine.method import run
    from models.trace.interventions import Interventions
    trace = run("maskgit", params={"steps": 4}, interventions=Interventions(overwrites=((3, 2, 7),))).traces["unmask"]
    names = {}
    exec(compile(snippet(trace), "snippet", "exec"), names)
    assert names["trace"].steps[-1].ids[2] == 7 == trace.steps[-1].ids[2]


def test_drawing_needs_no_torch_no_gradio_and_no_pyplot():
    code = ("import sys; from tests import samples; from visualizers import draw; "
            "from visualizers.drawing.payload import pack; pack(draw(samples.unmask()));"
            "heavy = {'torch', 'gradio', 'plotly', 'matplotlib'} & set(sys.modules); assert not heavy, heavy;"
            "from visualizers.export.files import export; export(samples.mask(), 'png');"
            "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_attention_beside_attention_asks_one_query_and_shows_each_rows_scale():
    from visualizers.drawing import attend
    from visualizers.export import figure as paper
    one, other = (attend.draw(samples.attend(), query=query) for query in (3, 40))
    own = [paper.shared_scale([drawing], "attention:row", [0]) for drawing in (one, other)]
    assert own[0].high != own[1].high and paper.shared_scale([one, other], "attention:row", [0, 0]) == own[0]
    told = paper.FigurePage([one, other], 0, "attention:row", False).bars
    assert [scale for scale, _ in told] == own and all(owner.endswith(": ") for _, owner in told), "one bar a picture"
    asked = []

    def noted(trace, **view):
        asked.append(view.get("query"))
        return attend.draw(trace, **view)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("visualizers.export.files.draw", noted)
        export(samples.attend(), "svg", twin=samples.attend(), query=7)
        export(samples.attend(), "svg", twin=samples.attend())
    assert asked == [7, 7, None, 47]
