"""The tables of README.md and training/README.md are what tools/readme.py writes; nobody edits one by hand."""

import json

import pytest

from tools import readme


def test_the_tables_are_what_the_tools_write(capsys):
    assert readme.main(["--check"]) == 0, capsys.readouterr().out


def test_a_table_edited_by_hand_is_noticed_and_mended(tmp_path, monkeypatch, capsys):
    """Mutant: a verdict that reads better than its claim."""
    (tmp_path / "README.md").write_text("words\n<!-- claims -->\n| `hpm` | holds |\n<!-- /claims -->\nmore words\n")
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(readme, "PAGES", {"README.md": {"claims": lambda: "| `hpm` | mixed |"}})
    assert readme.main(["--check"]) == 1 and "out of date" in capsys.readouterr().out
    assert "holds" in (tmp_path / "README.md").read_text()  # --check writes nothing
    assert readme.main([]) == 0 and readme.main(["--check"]) == 0
    assert (tmp_path / "README.md").read_text().splitlines()[::4] == ["words", "more words"]


@pytest.mark.parametrize("text", ["no markers", "<!-- a -->\nno end", "<!-- /a -->\n<!-- a -->",
                                  "<!-- a -->\n<!-- /a -->\n<!-- a -->\n<!-- /a -->"])
def test_lost_markers_are_an_error(text):
    with pytest.raises(readme.ReadmeError):
        readme.written(text, {"a": lambda: "x"})


def test_every_claim_checkpoint_and_record_stands_in_a_table():
    assert all(f"`{card['name']}`" in readme.checkpoints() for card in readme.cards())
    assert all(f"| `{claim['method']}` | {claim['verdict']} |" in readme.verdicts() for claim in readme.claims())
    assert all(record["command"] in readme.speed() for record in readme.records())
    assert {record["date"] for record in readme.records()} <= set(readme.speed().replace("|", " ").split())


def test_the_questions_are_those_of_the_page():
    from visualizers.page import panel
    assert readme.QUESTIONS == {tab: asked for tab, (_, asked) in panel.QUESTIONS.items()}


def test_a_card_puts_the_metric_first_that_it_names():
    figure = {"value": 0.5, "unit": "0-1", "n": 3}
    steps = {"metrics": {f"score at {n} steps": figure for n in (8, 32, 16)}, "trivial_baseline": {"chance": figure}}
    assert readme.headline(steps) == "score at 32 steps" and readme.reached(steps) == "score at 32 steps: 0.500"
    assert readme.headline(steps | {"headline": "score at 8 steps"}) == "score at 8 steps"


def test_a_measured_record_shows_spread_misses_and_who_was_late():
    rows = [{"what": "x / y", "ratio": 2.0, "least": 1.9, "most": 2.1, "better": "lower", "floor": 1.5, "holds": False}]
    assert readme.lines({"rows": rows}) == [["x / y", "2.00x (1.90 to 2.10) (misses)", "at most 1.5"]]
    timed = [{"what": f"{name} in mask: {step} step / {limit} ms", "wall_ms": ms, "ratio": ms / limit}
             for name, ms in (("mae", 90), ("hpm", 1200)) for step, limit in (("first", 400), ("last", 1000))]
    first, last = readme.lines({"rows": timed})
    assert first[1].startswith("1 of 2; slowest hpm in mask with 1,200 ms (late: hpm in mask") and "hpm" in last[1]


def test_carried_figures_say_so():
    for record in readme.records():
        assert "carried" in record or all("ratio" in row for row in record["rows"]), record["name"]
        json.dumps(record)
