"""The two records: the graph, whose nodes light up as they are put in, and the text that grows from inside."""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from models.claims.star_lab import ALLOWED
from models.engine.method import Close, Event
from models.engine.recording import Filling, bars, line
from models.loops.unmask.insertion import FIELDS, NOTHING, Draft, Put, grown, label, note, placed
from models.trace import YES, Canvas, Cost, Edges, Fact, Field
from models.worlds import stars
from models.worlds.world import Doc

NODES = {"next": Field("Chance that this node comes next, in any slot", "probability", 0.0, 1.0),
         "order": FIELDS["order"]}


def told(doc: Doc, text: Draft, puts: Sequence[Put], words: Callable[[int], str]) -> Iterator[Event]:
    yield from lit(doc, text, puts, words)
    yield closing("unmask", doc, text, puts, words)
    yield from grown("sample", text, [put._replace(cost=Cost()) for put in puts], words)  # counted above
    yield closing("sample", doc, text, puts, words)


def lit(doc: Doc, text: Draft, puts: Sequence[Put], words) -> Iterator[Event]:
    """The graph. An arrow leads to a node that is put in from the one behind which it was put; at the end all do."""
    edges, *_ = stars.parsed(doc.prompt)
    names, places = stars.drawing(edges)
    at = {name: i for i, name in enumerate(names)}
    ids = np.array([ALLOWED[stars.NAMES.index(name)] for name in names])
    page = Filling("unmask", Canvas("graph", tuple(names), positions=places, roles=("inserted",) * len(names), ids=ids,
                                    links=np.array([[at[one], at[other]] for one, other in edges], np.int32),
                                    directed=True), NODES, words, fleeting=("next",))
    here = [at.get(words(id)) if i >= text.first else None for i, id in enumerate(text.ids)]  # nodes of the answer
    page.fill(range(len(names)), ids, "context")
    page.fill([node for node in here if node is not None], state="known")
    yield page.open(len(puts))
    tree: list[tuple[int, int, float]] = []
    for step, put in enumerate(puts, 1):
        node, parent, before = None if put.token == NOTHING else at.get(words(put.token)), here[put.at], len(tree)
        page.note(range(len(names)), next=put.shares.sum(0)[ids])
        if node is not None:
            page.fill([node], order=[step])
            page.guess([node], put.scores[put.slots.index(put.at)], [put.token], "in its slot", measure=False)
            tree += [(parent, node, put.chance)] if parent is not None else []
        if put.token != NOTHING:
            here.insert(put.at + 1, node)
        shown = tree if put is puts[-1] else tree[before:]
        arrows = Edges(*(np.array(row) for row in zip(*shown, strict=True))) if shown else None
        yield page.step(label(step, put, words), note=note(put), cost=put.cost,
                        edges={"put in behind": arrows} if arrows else {})


def closing(tab: str, doc: Doc, text: Draft, puts: Sequence[Put], words) -> Close:
    order, ids = placed(text, puts)
    answer, new = [words(ids[one]) for one in order[text.first:]], len(ids) - len(text.ids)
    steps = [step for step, put in enumerate(puts, 1) if put.token != NOTHING]
    when = [0 if one < len(text.ids) else steps[one - len(text.ids)] for one in order[text.first:]]
    right = answer == list(doc.truth)
    facts = {"right": Fact("Right way", float(right), YES, "higher"),
             "length": Fact("Nodes in the answer", float(len(answer)), f"where the way has {len(doc.truth)}"),
             "passes": Fact("Passes of the network", float(sum(put.cost.calls for put in puts)), "passes", "lower")}
    if new:
        facts["first"] = Fact("The first one put in stands at place", float(when.index(steps[0]) + 1),
                              f"of {len(answer)}")
    charts = (line("The text is finished, it says", "probability", {"p_stop": [put.end for put in puts]}),
              bars("When each node of the answer was put in", "node", "step (0: given)", {"step": when}, answer))
    said = "right" if right else f"wrong: the way is {' '.join(doc.truth)}"
    asked = f"From {doc.truth[0]} to {doc.truth[-1]}"
    return Close(tab, f"{asked} its answer is {' '.join(answer) or 'empty'}: {said}.", charts, facts)
