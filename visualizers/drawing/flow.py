"""A method's data flow as its card declares it, read into the arrows that player/flow.js draws."""

from __future__ import annotations

import re

ARROW = re.compile(r" (~?>) ")


def arrows(flow: str) -> list[list[str]]:
    """[from, to] of every arrow, with a third "again" where it leads back. A box that begins with * is the paper's."""
    found = []
    for chain in filter(None, flow.split("; ")):
        parts = ARROW.split(chain)  # box, arrow, box, arrow, box
        found += [[parts[i], parts[i + 2], *(["again"] if parts[i + 1] == "~>" else [])]
                  for i in range(0, len(parts) - 2, 2)]
    return found
