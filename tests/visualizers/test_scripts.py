"""The page's scripts are linted as the browser gets them: names across files, and lines of at most 120 characters."""

import re

import pytest

from tools import lint_js
from visualizers.player.player import FOLDER

pytestmark = pytest.mark.skipif(lint_js.oxlint() is None, reason="oxlint is not installed")


def test_the_scripts_are_clean(capsys):
    assert lint_js.main() == 0, capsys.readouterr().out
    assert len(lint_js.scripts()) > 4


@pytest.mark.parametrize("line, said", [
    ("console.log(nobodyKnowsThis);", "no-undef"), ("const nobodyNeedsThis = 1;", "no-unused-vars"),
    ("if (props.value = 1) watch();", "no-cond-assign"), ("// " + "x" * 120, "123 characters"),
])
def test_mistakes_are_found_where_they_stand(tmp_path, line, said):
    """Mutants of a clean script; in a joined one the second file is named."""
    first, second = tmp_path / "first.js", tmp_path / "second.js"
    first.write_text("function mountInGradio(...all) { return [all, THEME, PLOT_CSS]; }\n")
    second.write_text("trigger(element, props, watch);\n")
    assert lint_js.findings([first, second]) == []
    second.write_text(f"trigger(element, props, watch);\n{line}\n")
    found = lint_js.findings([first, second])
    assert all(each.startswith("second.js:2") for each in found) and any(said in each for each in found)


def test_what_the_player_hangs_on_a_view_hides_none_of_its_methods():
    """Mutant: a painter's method `label` beside the element of that name; cells with words then stopped the page."""
    def hidden(paint: str) -> set[str]:
        hung = re.findall(r"\bview\.(\w+) = ", (FOLDER / "player.js").read_text("utf-8"))
        return set(hung) & set(re.findall(r"^  (\w+)\([^)]*\) \{", paint, re.M))

    paint = (FOLDER / "paint.js").read_text("utf-8")
    assert not hidden(paint) and hidden(paint.replace("  inscribe(", "  label(")) == {"label"}
