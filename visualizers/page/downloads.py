"""Files that a visitor takes away: the picture in every form, and what is on the screen as a table."""
from __future__ import annotations

from models.engine.method import find
from models.trace.serialize import save
from visualizers.page.panel import Shown

MIMES = {"png": "image/png", "svg": "image/svg+xml", "pdf": "application/pdf", "gif": "image/gif",
         "json": "application/json", "html": "text/html", "py": "text/x-python", "csv": "text/csv"}


def rendered(shown: Shown, end: str, step: int) -> bytes:
    """The picture as a file of this kind, under the names that the page shows."""
    from visualizers.export import files, table  # Matplotlib is read from disk only when it is asked for
    trace, twin = shown.traces[0], shown.traces[1] if len(shown.traces) > 1 else None
    if end == "json":
        return save(trace).encode("utf-8")
    if end == "py":
        return files.snippet(trace).encode("utf-8")
    if end == "csv":
        return table.table(shown.traces, shown.titles)
    title, other, *_ = [*shown.titles, ""]
    step = step if -1 <= step < len(trace.steps) else -1
    return files.export(trace, end, twin=twin, step=step, title=title, twin_title=other,
                        says=find(trace.method).card.states.get(trace.tab))
