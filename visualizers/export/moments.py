"""Which moments of runs stand beside each other; the player's `at` in marks.js is the same rule."""

from __future__ import annotations

from visualizers.drawing.marks import Drawing


def at_step(drawing: Drawing, step: int, first: Drawing, total: int = 0) -> int:
    """Which step stands beside the others': of the same number, or where lengths differ of the same name or the same
    share of the run; -1: the last. total: steps of the longest run."""
    last, total = len(drawing.frames) - 1, total or max(len(drawing.frames), len(first.frames))
    names = {frame.label: i for i, frame in enumerate(drawing.frames)}
    shared = sum(frame.label in names for frame in first.frames)
    single = len({frame.label for frame in first.frames}) == len(first.frames)  # a name of many trials means none
    same = drawing is first or len(first.frames) == last + 1 or not single
    if step < 0 or same or len(names) <= last or shared < 2 or shared * 2 < last + 1:
        return last if step < 0 else _shared(drawing, step, last, total)
    theirs, ours = (max(i for i, frame in enumerate(one.frames) if not frame.clean) for one in (first, drawing))
    if step > theirs:
        return min(last, ours + step - theirs)  # clean ends stand beside each other
    found = [names.get(frame.label, names.get(frame.label.split(": ")[0])) for frame in first.frames[:theirs + 1]]
    named = [(at, place) for at, place in enumerate(found) if place is not None]  # "layer 4: keys kept" is of layer 4
    known, place = named[-1]
    if step <= known:
        return _between(named, step)
    return place - (known - step) * (ours - place) // (theirs - known)  # named otherwise: up to the end


def _between(named: list[tuple[int, int]], step: int) -> int:
    """Where a step stands that has no namesake: as far between those around it. named: (theirs, mine) in order."""
    before = [pair for pair in named if pair[0] <= step]
    if not before:
        return 0
    (start, mine), (stop, end) = before[-1], named[min(len(before), len(named) - 1)]
    return mine + (step - start) * (end - mine) // (stop - start) if end > mine else mine


def _shared(drawing: Drawing, step: int, last: int, total: int) -> int:
    """The same share of the run; the clean steps at its end stand beside the other's."""
    clean = sum(frame.clean for frame in drawing.frames)
    theirs = total - 1 - clean
    if step > theirs:
        return min(last, max(0, last - (total - 1 - step)))
    share = step if theirs <= 0 or total == last + 1 else int(step * (last - clean) / theirs + 0.5)
    return min(last, max(0, share))
