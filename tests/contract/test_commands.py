"""Every command that README.md, CONTRIBUTING.md and docs/ quote: the cheap ones of the README run, all others are read
by the very parser that would read them; targets of make, files of tests and names of parameters exist."""

import argparse
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "training/README.md", *sorted(ROOT.glob("docs/*.md")))
START = r"(?:\w+=\S+ )*(?:python (?:-m )?[\w./]+|make \w)"
QUOTED = re.compile(rf"`({START}[^`\n]*)`|^    ({START}.*)$", re.M)
STANDS_FOR = {"training": "photo-mae-1", "benchmarks": "attention"}  # for NAME


class Parsed(Exception):
    """What a command's own parser made of it."""


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for quoted, indented in QUOTED.findall(page.read_text("utf-8")):
            text = re.sub(r"\s+#.*|\[[^\]]*\]", "", quoted or indented).strip()
            found += [(page.name, part.strip()) for part in text.split("&&")]
    return sorted(set(found))


def parse(monkeypatch, words: list[str]) -> argparse.Namespace:
    """The arguments as the program itself reads them; SystemExit if it would refuse them."""
    real = argparse.ArgumentParser.parse_args

    def stop(self, given=None, space=None):
        raise Parsed(real(self, given, space))

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    module = words[0] == "-m"
    name, arguments = words[module], words[1 + module:]
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    file = ROOT / (name.replace(".", "/") + ".py" if module else name)
    if file.is_file() and "argparse" not in file.read_text("utf-8"):
        assert not arguments
        return argparse.Namespace()
    with pytest.raises(Parsed) as caught:
        runpy.run_module(name, run_name="__main__") if module else runpy.run_path(str(ROOT / name), run_name="__main__")
    return caught.value.args[0]


def test_the_pages_have_commands():
    found = [text for _, text in commands()]
    assert len(found) > 30 and sum(text.startswith("make") for text in found) > 8


@pytest.mark.parametrize("page, text", commands())
def test_a_quoted_command_is_understood(page, text, monkeypatch):
    words = [word for word in shlex.split(text) if not re.fullmatch(r"[A-Z_]+=\S*", word)]
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
        assert set(words[1:]) <= set(targets)
        return
    words = [STANDS_FOR.get(words[2], word) if word == "NAME" else word for word in words]
    if words[1:3] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:] if word.startswith("tests/"))
    elif words[1:3] == ["-m", "pip"] or words[1] == "app.py":
        assert all((ROOT / word).exists() for word in words if word.endswith((".txt", ".py")))
    elif len(words) > 1 and "lut" not in words:  # `lut` is the paper that CONTRIBUTING scaffolds
        asked = parse(monkeypatch, words[1:])
        if getattr(asked, "method", None):
            names_exist(asked)


def names_exist(asked: argparse.Namespace) -> None:
    from models.engine.method import find
    from models.trace.params import declaration
    declared = declaration(find(asked.method).params)
    assert {pair.split("=")[0] for pair in asked.set} <= set(declared)


def without_a_browser() -> list[str]:
    """The README's block of that name, but for what takes minutes."""
    text = (ROOT / "README.md").read_text("utf-8").split("## Without a browser")[1].split("\n\n")[1]
    lines = [line.strip().replace(".gif", ".png") for line in text.splitlines()]  # a GIF draws every step
    return [line for line in lines if " models list" in line or " models run" in line]


@pytest.mark.weights
@pytest.mark.parametrize("text", without_a_browser())
def test_the_readmes_cheap_commands_run(text, tmp_path, monkeypatch, capsys, shipped):
    """A story.txt lies where they are typed. Mutant: a parameter that the method does not have."""
    from models.__main__ import main
    from models.engine.method import find
    words = shlex.split(text)[3:]
    if words[0] == "run":
        shipped(find(words[1]).checkpoints[0], *find(words[1]).companions)
    (tmp_path / "story.txt").write_text("The hen went to the mill, and the cat slept by the fire.\n")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0, capsys.readouterr().err
    written = [words[at + 1] for at, word in enumerate(words) if word in ("--out", "--figure")]
    assert all((tmp_path / name).stat().st_size > 1000 for name in written)
