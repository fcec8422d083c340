"""A percentage has one form, `88 %`, in code, records, claims and tables; models/trace/percent.py writes it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from models.trace.percent import fine_percent, percent

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("models", "visualizers", "tools", "training", "benchmarks")
OTHER = re.compile(r"\d%(?![\dA-Fa-f]{2})")  # "88%", but no escaped letter of an address
FORMAT = re.compile(r":[^{}\"']{0,8}%\}")  # an f-string's own percentages, which have no space
APART = ("canvas", "vocabulary")  # of a record: a text's own words


def said(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and "array" not in value:
        for key, item in value.items():
            yield from said(item) if key not in APART else ()
    elif isinstance(value, list):
        for item in value:
            yield from said(item)


def others(value: object) -> list[str]:
    return [text for text in said(value) if OTHER.search(text)]


@pytest.mark.parametrize("share, whole, fine", [
    (0, "0 %", "0 %"), (0.0004, "< 1 %", "< 0.1 %"), (0.0049, "< 1 %", "0.49 %"), (0.005, "< 1 %", "0.5 %"),
    (0.876, "88 %", "87.6 %"), (0.996, "> 99 %", "99.6 %"), (0.9996, "> 99 %", "> 99.9 %"), (1, "100 %", "100 %"),
    (1.25, "125 %", "125 %"), (-0.2, "-20 %", "-20 %"), (float("nan"), "not defined", "not defined")])
def test_all_and_nothing_are_said_only_of_all_and_nothing(share, whole, fine):
    assert (percent(share), fine_percent(share)) == (whole, fine)


def test_the_scan_sees_both_mistakes():
    assert FORMAT.search('f"{share:.0%}"') and FORMAT.search("f'{x:4.1%}'") and not FORMAT.search('f"{percent(x)}"')
    assert others({"note": "by 88%", "canvas": {"labels": ["5%"]}, "x": ["a%20b", "12 %"]}) == ["by 88%"]


def test_no_code_writes_a_percentage_of_its_own():
    found = [f"{path.relative_to(ROOT)}:{number}" for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))
             for number, line in enumerate(path.read_text("utf-8").splitlines(), 1) if FORMAT.search(line)]
    assert not found, f"write {{percent(share)}} from models/trace/percent.py instead: {found}"


@pytest.mark.parametrize("folder", ["traces", "claims", "checkpoints"])
def test_nothing_recorded_has_the_other_form(folder):
    found = {path.relative_to(ROOT).as_posix(): others(json.loads(path.read_text("utf-8")))[:2]
             for path in sorted((ROOT / "assets" / folder).rglob("*.json"))
             if OTHER.search(path.read_text("utf-8"))}
    assert not {name: texts for name, texts in found.items() if texts}


def test_the_readme_has_one_form():
    text = re.sub(r"<[^>]*>", "", (ROOT / "README.md").read_text("utf-8"))
    assert not OTHER.search(text), OTHER.search(text)
