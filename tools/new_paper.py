"""Starts a paper: its folder, its test and its card, from assets/papers.json. CONTRIBUTING.md says how to go on.

python tools/new_paper.py SLUG [--kind text|photo|caption] [--baseline ID] [--recipe]

What it writes passes the contract as it is, and is not offered to anybody: its checkpoint does not exist, and a test
refuses weights as long as a placeholder of models/engine/scaffold.py is left.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
import textwrap
from pathlib import Path
from string import Template

ROOT = Path(__file__).resolve().parent.parent
PREFIX = {"text": "text", "photo": "photo", "caption": "scene"}
# Whose tiny stand-in serves until the paper brings its own, and an example of the kind.
TRUNK = {"text": "text-ar-1", "photo": "photo-mae-1", "caption": "scene-mgm-1"}
EXAMPLE = {"text": 'Example("garden", "The key to the garden", "sample-garden.txt")',
           "photo": 'Example("coffee", "A cup of coffee", "coffee.jpg")',
           "caption": 'Example("two", "A circle and a square", "red circle, blue square")'}
KIND = {"mask": "photo", "attend": "text", "prune": "text", "unmask": "caption", "sample": "text"}  # by first tab
BASELINE = {("mask", "photo"): "mae", ("mask", "text"): "mlm", ("attend", "text"): "attention",
            ("attend", "photo"): "vit", ("prune", "text"): "random-keep", ("unmask", "caption"): "maskgit",
            ("unmask", "text"): "mdm", ("sample", "text"): "sampling"}

METHOD = Template('''\
"""$named

A scaffold. Write here the paper's difference and nothing else: the equation or repository it follows, what is our own,
what is not covered. The loop of the tab does the rest: models/loops/$tab/.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine import Card, Event, Job, Method
from models.engine.scaffold import blank
from models.trace.params import Span
from models.trace.subject import Example


@dataclass(frozen=True)
class Params:
    strength: Annotated[float, Span(0.0, 1.0, 0.1, "Strength", "A placeholder: nothing reads it yet.")] = 0.5


def run(job: Job) -> Iterator[Event]:
    """Instead of `blank`: the tab's loop, given this paper's rule."""
    yield from blank(job)


METHOD = Method(
    card=Card(
        id="$slug", title="$title",
        tabs=$tabs, arxiv="$arxiv", year=$year, seed="$seed",
        summary="$idea",
        look_at="Nothing yet: this is a scaffold.",
        not_covered="Everything: this is a scaffold."),
    params=Params, accepts="$kind", checkpoints=("$checkpoint",),
    run=run, baseline="$baseline",
    examples=($example,))
''')

NETWORK = Template('''\
"""The network of $title, built from the shared blocks of models/backbones/.

A scaffold: the stand-in for tests is $trunk's own. A paper that runs on a trunk as it is deletes this
file and names the trunk among its checkpoints; one with a network of its own names the class in NETWORKS
(`__init__.py`) and in models/checkpoints/registry.py, and makes a two-layer one here.
"""

STAND_INS = {"$checkpoint": lambda bundle: (bundle("$trunk").model, bundle("$trunk").tokenizer)}
''')

CLAIM = Template('''\
"""The claim of $title.

What the paper says, and a small version of it that can fail. A scaffold: models/claims/harness.py says how
arms, scores per item and expectations are declared; set the bars before you measure.
"""

from models.claims import Lab, MissingData


def measure(lab: Lab):
    """-> the Claim that `conclude` makes; until then there is none."""
    raise MissingData("this claim is not written yet: models/papers/$id/claim.py")
''')

RECIPE = Template('''\
"""What is trained for $title, and from which trunk.

See training/trainer.py and the recipes in training/trunks/.
"""

from training.trainer import Recipe


class $name(Recipe):
    """A scaffold: nothing can be trained with it yet."""

    name = "$checkpoint"

    def __init__(self, seed: int):
        raise ValueError("this recipe is not written yet: models/papers/$id/recipe.py")
''')

NOTES = Template('''\
# $title: decisions and failures

- $date: scaffolded. Nothing decided yet. (An entry says what was chosen, what else was tried, and with which result.)
''')

TEST = Template('''\
"""$title.

Every trap of the paper stands here, each with the wrong version that it catches (tests/traps.py).
"""

from models.engine.method import find, offered


def test_the_card_is_the_papers():
    card = find("$slug").card
    assert (card.arxiv, card.year, card.tabs) == ("$arxiv", $year, $tabs)


def test_nobody_meets_a_scaffold():
    """Goes with the last placeholder; the first trap takes its place."""
    assert "$slug" not in offered()
''')


class PaperError(ValueError):
    """What cannot be scaffolded, and why, in one sentence."""


def entry(slug: str, root: Path = ROOT) -> dict:
    """The paper's line of assets/papers.json."""
    found = {fact["slug"]: fact for fact in json.loads((root / "assets/papers.json").read_text("utf-8"))}
    if slug not in found:
        near = ", ".join(sorted(s for s in found if slug[:3] in s)) or ", ".join(sorted(found))
        raise PaperError(f"assets/papers.json has no '{slug}'; there are {near}")
    return found[slug]


def names(fact: dict, kind: str = "", baseline: str = "") -> dict[str, str]:
    """Everything that the templates ask for."""
    slug, first = fact["slug"], fact["tabs"][0]
    kind = kind or KIND[first]
    beside = baseline or BASELINE.get((first, kind), "")
    if not beside:
        raise PaperError(f"say what stands beside a method of {first} on a {kind}: --baseline ID")
    return {"slug": slug, "id": slug.replace("-", "_"), "name": slug.title().replace("-", ""), "tab": first,
            "title": _text(fact["title"]), "arxiv": fact["arxiv"], "year": str(fact["year"]), "seed": fact["seed"],
            "named": textwrap.fill(f"{fact['paper']} (arXiv {fact['arxiv']}).".replace('"', "'"), 110),
            "tabs": json.dumps(fact["tabs"]).replace("[", "(").replace("]", ",)" if len(fact["tabs"]) == 1 else ")"),
            "idea": _wrapped(_text(fact["idea"])), "kind": kind, "baseline": beside, "trunk": TRUNK[kind],
            "checkpoint": f"{PREFIX[kind]}-{slug}-1", "example": EXAMPLE[kind],
            "date": datetime.date.today().isoformat()}


def _text(words: str) -> str:
    return words.replace("\\", "\\\\").replace('"', '\\"')


def _wrapped(words: str, width: int = 90) -> str:
    """A long string as pieces that stand one above the other."""
    pieces, line = [], ""
    for word in words.split():
        if len(line) + len(word) > width:
            pieces.append(line)
            line = ""
        line += f"{word} "
    return '"\n                "'.join([*pieces, line.rstrip()])


def scaffold(slug: str, root: Path = ROOT, kind: str = "", baseline: str = "", recipe: bool = False) -> list[Path]:
    """Writes the folder and the test; PaperError where something of that name is there already."""
    words = names(entry(slug, root), kind, baseline)
    folder, test = root / "models/papers" / words["id"], root / "tests/papers" / f"test_{words['id']}.py"
    for place in (folder, test):
        if place.exists():
            raise PaperError(f"{place.relative_to(root)} is there already")
    files = {folder / "__init__.py": f'"""{words["title"]} (arXiv {words["arxiv"]})."""\n',
             folder / "method.py": METHOD.substitute(words), folder / "network.py": NETWORK.substitute(words),
             folder / "claim.py": CLAIM.substitute(words), folder / "NOTES.md": NOTES.substitute(words),
             test: TEST.substitute(words)}
    if recipe:
        files[folder / "recipe.py"] = RECIPE.substitute(words)
    folder.mkdir(parents=True)
    for place, text in files.items():
        place.write_text(text, "utf-8")
    return list(files)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tools/new_paper.py", description=__doc__.split("\n")[0])
    parser.add_argument("slug", help="as in assets/papers.json")
    parser.add_argument("--kind", choices=PREFIX, default="", help="the subject; by default that of its first tab")
    parser.add_argument("--baseline", metavar="ID", default="", help="the method that it stands beside")
    parser.add_argument("--recipe", action="store_true", help="a recipe.py too, for a paper that trains something")
    asked = parser.parse_args(arguments)
    try:
        made = scaffold(asked.slug, ROOT, asked.kind, asked.baseline, asked.recipe)
    except PaperError as error:
        print(f"new_paper: {error}", file=sys.stderr)
        return 2
    print("\n".join(str(place.relative_to(ROOT)) for place in made))
    print(f"Now: make paper ID={asked.slug}, and CONTRIBUTING.md.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
