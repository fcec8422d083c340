"""Which moments of runs stand beside each other; the player's `at` in marks.js is the same rule."""

from __future__ import annotations

from visualizers.drawing.marks import Drawing


def at_step(drawing: Drawing, step: int, first: Drawing, total: int = 0) -> int:
    """Which step stands beside the others': of the same number, or where lengths differ of the same name or the same
    share of the run; -1: the last. total: steps of the longest run."""
    last, total = len(drawing.frames) - 1, total or max(len(drawing.frames), len(first.frames))
    names = {frame.label: i for i, frame in enumerate(drawing.frames)}
    shared = sum(frame.label in names for frame in first.frames)
    same = drawing is first or len(first.frames) == last + 1
    if step < 0 or same or len(names) <= last or shared < 2 or shared * 2 < last + 1:
        share = step if total <= 1 or total == last + 1 else int(step * last / (total - 1) + 0.5)
        return last if step < 0 else min(share, last)
    return max((names[frame.label] for frame in first.frames[:step + 1] if frame.label in names), default=0)
