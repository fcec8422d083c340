"""Writes every table of README.md, the queue of training/README.md and the lessons of docs/teaching.md between their
markers, from what is measured.

python tools/readme.py            after a training, a claim or a benchmark: writes these files
python tools/readme.py --check    exit 1 if they say anything else; a test runs it too

`<!-- name -->` and `<!-- /name -->` stand around a table; the words between the tables are written by hand. Sources:
the methods' cards and assets/papers.json, assets/checkpoints/*/card.json, models/checkpoints/hub.py,
assets/claims/*.json and benchmarks/records/*.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from models.checkpoints import hub  # noqa: E402  run as a script, it finds its own repository
from models.engine.method import Method, offered  # noqa: E402

QUESTIONS = {"mask": "What is hidden, and how hard is it?", "attend": "Who looks at whom?", "prune": "Who can leave?",
             "unmask": "Who is filled in next?", "sample": "How sure is it?"}
ORDER = ("attention", "vocabulary", "unmask-step", "model", "public-model", "public-first-step", "prune", "latency",
         "click", "start")
BY_STEPS = re.compile(r"(.+) at (\d+) steps$")


class ReadmeError(ValueError):
    """A file lacks a table's markers."""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(_cell(cell) for cell in line)} |" for line in (titles, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(titles), *lines[1:]])


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def cards() -> list[dict]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "assets/checkpoints").glob("*/card.json"))]


def claims() -> list[dict]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((ROOT / "assets/claims").glob("*.json"))]


def records() -> list[dict]:
    found = [json.loads(path.read_text("utf-8")) for path in (ROOT / "benchmarks/records").glob("*.json")]
    place = {name: at for at, name in enumerate(ORDER)}
    return sorted(found, key=lambda r: (r["device"] != "cpu", place.get(r["name"], len(ORDER)), r["name"]))


# --- methods ----------------------------------------------------------------------------------------------------------

def tabs() -> str:
    """What runs in each tab: the papers, and what they are set beside."""
    live = offered().values()
    rows = []
    for tab, question in QUESTIONS.items():
        here = [m for m in live if tab in m.card.tabs]
        papers, plain = ([_code(m.id) for m in here if bool(m.card.seed) == paper] for paper in (True, False))
        rows.append([f"**{tab.title()}**", question, ", ".join(papers), ", ".join(plain)])
    return table(["tab", "the question", "papers that run now", "beside them"], rows)


def methods() -> str:
    """Every paper that is live: where it is from, its tabs and what stands beside it."""
    titles = {fact["slug"]: fact["paper"] for fact in json.loads((ROOT / "assets/papers.json").read_text("utf-8"))}
    live = sorted((m for m in offered().values() if m.card.seed), key=lambda m: m.id)
    return table(["paper", "from", "tabs", "beside", "runs on"],
                 [[_code(m.id), _source(m, titles), ", ".join(m.card.tabs), _code(m.baseline or ""),
                   _code(m.checkpoints[0])] for m in live])


def lessons() -> str:
    """Every live paper by the family in which the gallery shows it: where to open it, and what to look at."""
    family = {fact["slug"]: fact["family"] for fact in json.loads((ROOT / "assets/papers.json").read_text("utf-8"))}
    live = sorted((m for m in offered().values() if m.card.seed), key=lambda m: (family[m.id], m.id))
    return table(["lesson", "paper", "link", "what to look at"], [
        [f"**{family[m.id]}**" if at == 0 or family[live[at - 1].id] != family[m.id] else "", m.card.title,
         f"`?tab={m.card.tabs[0]}&method={m.id}`", m.card.look_at] for at, m in enumerate(live)])


def _source(method: Method, titles: dict[str, str]) -> str:
    title = titles.get(method.id, method.card.title)
    return f"[{title}](https://arxiv.org/abs/{method.card.arxiv})" if method.card.arxiv else title


def _code(name: str) -> str:
    return f"`{name}`" if name else ""


# --- checkpoints ------------------------------------------------------------------------------------------------------

def checkpoints() -> str:
    return table(["name", "parameters", "trained", "reached", "to compare"],
                 [[_code(c["name"]), _count(c["parameters"]), f"{c['minutes']:.0f} min", reached(c), beside(c)]
                  for c in cards()])


def queue() -> str:
    """For those who train: by which commands, for how long, and how much of the plan that was."""
    return table(["checkpoint", "commands", "minutes, steps", "reached", "to compare", "of the plan", "date"],
                 [[_code(c["name"]), _commands(c), f"{c['minutes']:g}, {c['steps']:,}", reached(c), beside(c),
                   c["budget_fraction"], c["date"]] for c in cards()])


def headline(card: dict) -> str:
    """The metric that a card puts first: the one it names, of "... at N steps" the most steps, or simply its first."""
    first = next(iter(card["metrics"]))
    counts = [found for name in card["metrics"] if (found := BY_STEPS.match(name)) and first.startswith(found[1])]
    return card.get("headline") or (max(counts, key=lambda found: int(found[2]))[0] if counts else first)


def reached(card: dict) -> str:
    name = headline(card)
    return _figure(name, card["metrics"][name])


def beside(card: dict) -> str:
    """What it is set beside: what the card names, or its first trivial baseline."""
    found = card["trivial_baseline"]
    name = card.get("headline_beside") or next(iter(found))
    return _figure(name, found[name])


def _figure(name: str, figure: dict) -> str:
    unit = re.split(r"[(,]", figure["unit"])[0].strip()
    return f"{name}: {figure['value']:#.3g} {'' if unit in ('share', '0-1', 'AUC') else unit}".strip()


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.1f} M" if parameters >= 1e5 else f"{parameters / 1e3:.1f} k"


def _commands(card: dict) -> str:
    parts = card["recipe"].split(", then ")
    return ", then ".join(_code(re.sub(r"python -m training \S+ ?", "", part)) for part in parts)


def public() -> str:
    """Checkpoints of the Hub that can be chosen; those without a commit wait for whoever runs the server."""
    return table(["repository", "size", "licence", "methods"],
                 [[f"[{one.repo}](https://huggingface.co/{one.repo})", size(one), one.licence,
                   ", ".join(map(_code, one.methods))] for one in hub.TABLE.values() if one.methods])


def size(entry: hub.Public) -> str:
    return f"{entry.bytes / 1e9:.2f} GB" if entry.revision else "to be pinned first"


# --- claims -----------------------------------------------------------------------------------------------------------

def verdicts() -> str:
    return table(["method", "verdict", "why", "measured"],
                 [[_code(c["method"]), c["verdict"], _why(c), c["date"]] for c in claims()])


def _why(claim: dict) -> str:
    takes = claim.get("what_it_would_take", "")
    grade = f"{claim['grade'].capitalize()}. " if claim.get("grade") else ""
    takes = f" It would take {takes}." if takes and claim["verdict"] == "not testable here" else ""
    return grade + claim["reason"] + takes


# --- speed ------------------------------------------------------------------------------------------------------------

def speed() -> str:
    rows = [[*line, f"`{r['command']}`" if not at else "", r["date"] if not at else ""]
            for r in records() for at, line in enumerate(lines(r))]
    return table(["what", "measured", "must be", "command", "date"], rows)


def lines(record: dict) -> list[list[str]]:
    """what, measured, bound of every row; waiting times of dozens of methods are summed up."""
    if "carried" in record:
        return [[r["what"], r["measured"] + ("" if r["holds"] else " (misses)"), r["bound"]] for r in record["rows"]]
    timed = [r for r in record["rows"] if re.search(r": (first|last) step / \d+ ms$", r["what"])]
    return [line for step in ("first", "last") for line in waits(step, timed)] or [ratio(r) for r in record["rows"]]


def ratio(row: dict) -> list[str]:
    if row["ratio"] is None:
        return [row["what"], row["peer"], ""]
    spread = f" ({row['least']:.2f} to {row['most']:.2f})" if "least" in row else ""
    bound = f"at {'most' if row['better'] == 'lower' else 'least'} {row['floor']:g}" if row["floor"] else ""
    return [row["what"], f"{row['ratio']:.2f}x{spread}{' (misses)' if row['holds'] is False else ''}", bound]


def waits(step: str, rows: Sequence[dict]) -> list[list[str]]:
    """How many methods are in time, and which are not."""
    found = [(r["what"].split(":")[0], r.get("click_ms", r.get("wall_ms")), int(r["what"].split()[-2])) for r in rows
             if f": {step} step" in r["what"]]
    if not found:
        return []
    late = [f"{name} {ms:,}" for name, ms, limit in found if ms > limit]
    slowest = max(found, key=lambda one: one[1])
    said = f"{len(found) - len(late)} of {len(found)}; slowest {slowest[0]} with {slowest[1]:,} ms"
    usual, *longer = sorted({limit for _, _, limit in found})
    more = "".join(f", {limit:,} for {', '.join(name for name, _, own in found if own == limit)}" for limit in longer)
    return [[f"{step} step in time", said + (f" (late: {', '.join(late)})" if late else ""),
             f"at most {usual:,} ms{more}"]]


# --- files ------------------------------------------------------------------------------------------------------------

PAGES = {
    "README.md": {"tabs": tabs, "methods": methods, "checkpoints": checkpoints, "public": public, "claims": verdicts,
                  "speed": speed},
    "training/README.md": {"queue": queue},
    "docs/teaching.md": {"lessons": lessons},
}


def written(text: str, tables: dict) -> str:
    """A page with its tables put in; ReadmeError if a pair of markers is missing."""
    for name, made in tables.items():
        parts = re.split(f"(<!-- /?{name} -->)", text)
        if parts[1::2] != [f"<!-- {name} -->", f"<!-- /{name} -->"]:
            raise ReadmeError(f"the markers <!-- {name} --> and <!-- /{name} --> must stand there once, in this order")
        text = "".join([*parts[:2], f"\n{made()}\n", *parts[3:]])
    return text


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python tools/readme.py", description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a table is out of date")
    check, stale = parser.parse_args(arguments).check, []
    for name, tables in PAGES.items():
        page = ROOT / name
        text = page.read_text("utf-8")
        if (new := written(text, tables)) != text:
            stale.append(name)
            if not check:
                page.write_text(new, "utf-8")
    if stale:
        print(f"{', '.join(stale)} " + ("out of date: run python tools/readme.py" if check else "written"))
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
