"""python -m benchmarks NAME [--device cpu|cuda] [--json] [--quick] [--record]; no name: what there is."""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import platform
import sys
from pathlib import Path

from models.trace.percent import percent

RECORDS = Path(__file__).parent / "records"  # what README's table of speeds is written from
HELPERS = {"__init__", "__main__", "timing"}
SHOWN = ("_ms", "_mb", "_per_s", "path", "peer")  # what a line of the table says beside the verdict


def names() -> list[str]:
    stems = {path.stem for path in Path(__file__).parent.glob("*.py")}
    return sorted(stem.replace("_", "-") for stem in stems - HELPERS)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", nargs="?", choices=names(), metavar="NAME", help=", ".join(names()))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds: does it run, not how fast")
    parser.add_argument("--record", action="store_true", help="also keep it in benchmarks/records for the README")
    return parser.parse_args(argv)


def measure(name: str, device: str, quick: bool) -> dict:
    import torch

    import kernels
    from benchmarks.timing import Elsewhere

    kernels.compile_kernels(wait=True)
    module = importlib.import_module(f"benchmarks.{name.replace('-', '_')}")
    elsewhere = Elsewhere()
    with torch.no_grad():
        rows = module.run(device, quick)
    return {
        "name": name, "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__,
        "threads": torch.get_num_threads(), "elsewhere": elsewhere.share(), "quick": quick, "rows": rows,
    }


def record(found: dict, folder: Path = RECORDS) -> Path:
    """Keeps a measurement, with its date, machine and command. ValueError for a quick one, which says nothing."""
    if found["quick"]:
        raise ValueError("a quick run shows that a benchmark works, not how fast anything is")
    head = {"name": found["name"], "date": datetime.date.today().isoformat(), "machine": machine(),
            "command": f"python -m benchmarks {found['name']}"
                       + ("" if found["device"] == "cpu" else " --device cuda")}
    folder.mkdir(exist_ok=True)
    place = folder / (found["name"] + ("" if found["device"] == "cpu" else "-cuda") + ".json")
    place.write_text(json.dumps(head | found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return place


def machine() -> str:
    """Processor and cores, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()}, {os.cpu_count()} cores"


def table(found: dict) -> str:
    """The rows as text, one line each, and what else the machine was doing."""
    lines = [f"{found['name']} on {found['device']}, {found['threads']} threads, torch {found['torch']}"]
    for row in found["rows"]:
        bound = f"{'<=' if row['better'] == 'lower' else '>='} {row['floor']}" if row["floor"] else "reported"
        verdict = {True: "holds", False: "MISSES", None: ""}[row["holds"]] + (" (target met)" if row["stretch"] else "")
        rest = {key: value for key, value in row.items() if key.endswith(SHOWN)}
        ratio = "none" if row["ratio"] is None else f"{row['ratio']:.2f}"
        lines.append(f"  {row['what']:<58} {ratio:>7}  {bound:<9} {verdict:<20} {rest}")
    if found["elsewhere"] is not None:
        lines.append(f"  {percent(found['elsewhere'])} of the machine was used by others meanwhile.")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    options = arguments(argv)
    if options.name is None:
        print("\n".join(names()))
        return 0
    if options.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            print("No CUDA device here; use --device cpu.", file=sys.stderr)
            return 2
    if options.record and options.quick:
        print("A quick run is not recorded: it shows that a benchmark works, not how fast it is.", file=sys.stderr)
        return 2
    found = measure(options.name, options.device, options.quick)
    if options.record:
        record(found)
    print(json.dumps(found) if options.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
