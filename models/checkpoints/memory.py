"""What this machine has for models: a GPU or none, and the memory left in our container, or in the host, whichever is
less."""

from __future__ import annotations

import os
from pathlib import Path

from models.trace import limits

ROOT = Path("/")
# limit, use, statistics: of a container's memory (control groups of version 2, then of version 1)
GROUPS = (("memory.max", "memory.current", "memory.stat"),
          ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"))


def default_device() -> str:
    """Where models run: TOKENSCOPE_DEVICE, or cuda where there is one, else cpu."""
    import torch
    return os.environ.get("TOKENSCOPE_DEVICE") or ("cuda" if torch.cuda.is_available() else "cpu")


def model_room(loaded: int) -> int:
    """Bytes that all loaded models may take together, `loaded` of which they take now."""
    if limits.MODEL_BYTES:
        return limits.MODEL_BYTES
    total, free = memory()
    return int(min(limits.MODEL_SHARE * total, loaded + limits.FREE_SHARE * free))


def memory(root: Path | None = None) -> tuple[int, int]:
    """Bytes of memory in all and free, as far as this machine says."""
    root = root or ROOT
    found = [pair for pair in (_host(root), *(_group(root / "sys/fs/cgroup", *names) for names in GROUPS)) if pair]
    totals, free = zip(*found) if found else zip(_pages())
    return min(totals), min(free)


def _host(root: Path) -> tuple[int, int] | None:
    """Linux: memory in all, and what can be had without swapping."""
    table = _table(root / "proc/meminfo", 1024)
    return (table["MemTotal:"], table["MemAvailable:"]) if {"MemTotal:", "MemAvailable:"} <= set(table) else None


def _group(folder: Path, limit: str, use: str, statistics: str) -> tuple[int, int] | None:
    """A container's limit, and what is left of it; files that were read and can be dropped count as free."""
    try:
        most, used = int((folder / limit).read_text()), int((folder / use).read_text())  # "max" is no number
    except (OSError, ValueError):
        return None
    table = _table(folder / statistics, 1)
    idle = table.get("total_inactive_file", table.get("inactive_file", 0))
    return (most, max(most - used + idle, 0)) if most < 1 << 60 else None


def _table(path: Path, unit: int) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        return {row[0]: int(row[1]) * unit for row in rows if len(row) > 1}
    except (OSError, ValueError):
        return {}


def _pages() -> tuple[int, int]:
    """Where nothing else is known (macOS): all memory, and half of it as free."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        total = 8_000_000_000
    return total, total // 2
