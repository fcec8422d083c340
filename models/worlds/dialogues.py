"""Streams of records on expression trees (models/worlds/trees.py): written as documents, and read back as a graph.

    @node #3 proposer @edge #2 #3 refine @edge #0 #3 use b: 3 * 9 = 7
    @node #4 critic @edge #3 #4 critique 3 * 9 = 7 fine @status #3 validated

A record is a node with an id, a role and edges from older nodes, so there are no circles. A proposition holds while its
latest @status says validated; refuted, it stays as it is, and its refinement is a new node. @node, @edge and @status
are those of later revisions of Diagram of Thought (arXiv 2409.10038); one token for each part, and that a critic
calculates for itself and names the fault before its verdict, are ours. A graph has nothing that its text does not say,
and the checker is not part of it.
"""
from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from models.worlds import trees
from models.worlds.trees import ANSWER, NUMBERS, SIGNS, SIZE, Reduction, Tree, apply, tree, written
from models.worlds.world import END, SPECIALS, Doc

NODE, PROBLEM = "@node", "problem"
ROLES = PROPOSER, CRITIC, SUMMARIZER = "proposer", "critic", "summarizer"
KINDS = USE, CRITIQUE, REFINE = "use", "critique", "refine"
MARKS = VALIDATED, INVALIDATED = "validated", "invalidated"
FINE, FAULTS = "fine", ("left", "right", "ones", "tens", "both")  # words of criticism
IDS = tuple(f"#{number}" for number in range(20))
VOCABULARY = (*trees.WORDS, *IDS[1:], "@edge", "@status", *ROLES, *KINDS, *MARKS, FINE, *FAULTS)
WRONG, MOST_WRONG = 0.5, 3  # of the propositions; in a document
OPERAND = 1 / 3  # of the wrong ones have a wrong operand, the others a wrong result
EDGE = re.compile(r"@edge #(\d+) #(\d+) (\w+)")
RECORD = re.compile(rf"{NODE} #(\d+) ({'|'.join(ROLES)})((?: @edge #\d+ #\d+ (?:{'|'.join(KINDS)}))*)((?: [^@#\s]+)+)"
                    rf"(?: @status #(\d+) ({'|'.join(MARKS)}))?")
STATEMENT = re.compile(r"([a-z]): (\d+) [-+*] (\d+) = (\d+)")


# --- written ---------------------------------------------------------------------------------------------------------

def slips(left: int, sign: str, right: int) -> list[int]:
    """Wrong results: one digit off, or what another sign makes."""
    result = apply(left, sign, right)
    made = [*((result + off) % SIZE for off in (1, -1, 10)), *(apply(left, one, right) for one in SIGNS.values())]
    return [one for one in made if one != result]


def spoilt(right: Reduction, others: Sequence[int], rng: np.random.Generator) -> Reduction:
    """A reduction with another number that stands there as an operand, or a wrong result."""
    left, sign, second, result = right
    if rng.random() < OPERAND:
        at, other = int(rng.integers(2)), others[int(rng.integers(len(others)))]
        left, second = (other, second) if at == 0 else (left, other)
        found = left, sign, second, apply(left, sign, second)
    else:
        made = slips(left, sign, second)
        found = left, sign, second, made[int(rng.integers(len(made)))]
    return found if found != right else spoilt(right, range(SIZE), rng)


def criticism(said: Reduction, right: Reduction) -> str:
    """What is wrong with a reduction: an operand, or digits of the result; FINE."""
    for word, at in (("left", 0), ("right", 2)):
        if said[at] != right[at]:
            return word
    tens, ones = said[3] // 10 != right[3] // 10, said[3] % 10 != right[3] % 10
    return "both" if tens and ones else "tens" if tens else "ones" if ones else FINE


class Writer:
    """A document of records as it grows. shuffled: the critic tells of another proposition than it has read."""

    def __init__(self, rng: np.random.Generator, shuffled: bool = False):
        self.rng, self.shuffled, self.asked = rng, shuffled, tree(rng)
        self.pieces: list[tuple[str, bool]] = []
        self.nodes = self.refuted = 0
        self.known: dict[str, int] = {}
        self.proved: dict[str, int] = {}  # letter -> id of the node that holds

    def record(self, role: str, edges: Mapping[int, str]) -> int:
        self.nodes += 1
        drawn = (f"@edge #{source} #{self.nodes} {kind}" for source, kind in edges.items())
        self.say(" ".join((f"{NODE} #{self.nodes} {role}", *drawn)))
        return self.nodes

    def say(self, words: str, learned: bool = True) -> None:
        self.pieces.append((words, learned))

    def attempt(self, right: Reduction) -> Reduction:
        """A reduction as it is proposed: sometimes with a slip."""
        if self.refuted == MOST_WRONG or self.rng.random() >= WRONG:
            return right
        numbers = [int(word) for one in self.asked.operations.values() for word in one if word in NUMBERS]
        return spoilt(right, [*numbers, *self.known.values()], self.rng)

    def prove(self, name: str) -> None:
        """Propositions of one operation, each criticised, until one holds."""
        right, critique, needs = self.asked.reduction(name, self.known), 0, self.asked.needs(name)
        premises = {**({0: USE} if len(needs) < 2 else {}), **{self.proved[one]: USE for one in needs}}
        while name not in self.known:
            made = self.record(PROPOSER, {**({critique: REFINE} if critique else {}), **premises})
            said = self.attempt(right)
            self.say(written(name, said), said == right)  # nobody shall learn to slip
            word = criticism(self.attempt(right) if self.shuffled else said, right)
            critique = self.record(CRITIC, {made: CRITIQUE})
            again = written(name, right).partition(": ")[2]  # a critic calculates for itself, then compares
            self.say(f"{again} {word} @status #{made} {MARKS[word != FINE]}")
            if word == FINE:
                self.known[name], self.proved[name] = said[3], made
            self.refuted += word != FINE

    def document(self) -> Doc:
        while ready := self.asked.ready(self.known):
            self.prove(ready[int(self.rng.integers(len(ready)))])
        self.record(SUMMARIZER, dict.fromkeys(sorted(self.proved.values()), USE))
        self.say(f"{ANSWER} {self.known[[*self.asked.operations][-1]]}")
        texts, learned = zip(*self.pieces)
        return Doc((self.asked.prompt, *texts), (False, *learned), self.asked)


def dialogue(rng: np.random.Generator, shuffled: bool = False) -> Doc:
    """A tree and a stream that solves it."""
    return Writer(rng, shuffled).document()


# --- read ------------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Node:
    """One record. edges: (older node, kind); status: (which node, mark), of a critic; words: its place in the stream.
    """

    id: int
    role: str
    said: str = ""
    edges: tuple[tuple[int, str], ...] = ()
    status: tuple[int, str] | None = None
    words: range = range(0)

    @property
    def letter(self) -> str:
        """Of the operation that a proposition is about."""
        found = STATEMENT.fullmatch(self.said)
        return found[1] if found else ""

    def parents(self, *kinds: str) -> list[int]:
        return [source for source, kind in self.edges if not kinds or kind in kinds]


@dataclass
class Diagram:
    """The graph of a stream about a tree; errors: sentences of what could not be read."""

    asked: Tree
    nodes: dict[int, Node] = field(default_factory=lambda: {0: Node(0, PROBLEM)})
    errors: list[str] = field(default_factory=list)

    def add(self, text: str, words: range = range(0)) -> None:
        """The node of one more record; what is not one, and what does not come from an older node, is an error."""
        found = RECORD.fullmatch(text)
        if not found or not max(self.nodes) < int(found[1]) < len(IDS):
            self.errors.append("a record of another form")
            return
        edges = [(int(source), int(target), kind) for source, target, kind in EDGE.findall(found[3])]
        drawn = [(source, kind) for source, target, kind in edges if source in self.nodes and target == int(found[1])]
        if len(drawn) < len(edges):
            self.errors.append("an edge that does not lead from an older node to this one")
        status = (int(found[5]), found[6]) if found[5] else None
        if (found[2] == CRITIC) != bool(status) or status and status[0] not in {one.id for one in self.propositions}:
            self.errors.append("a verdict that is missing, or about no proposition")
            status = None
        self.nodes[int(found[1])] = Node(int(found[1]), found[2], found[4].strip(), tuple(dict.fromkeys(drawn)), status,
                                         words)

    def wait(self, text: str) -> None:
        """A critic's node whose verdict is still to come, of the record begun so far."""
        (source, id, kind), *_ = EDGE.findall(text)
        self.nodes[int(id)] = Node(int(id), CRITIC, edges=((int(source), kind),))

    @property
    def propositions(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.role == PROPOSER]

    @property
    def verdicts(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.status]

    @property
    def summary(self) -> Node | None:
        return next((node for node in self.nodes.values() if node.role == SUMMARIZER), None)

    @property
    def answer(self) -> int | None:
        found = re.fullmatch(rf"{ANSWER} (\d+)", self.summary.said) if self.summary else None
        return int(found[1]) if found else None

    def holds(self, id: int) -> bool:
        """Whether the critic's latest verdict on a proposition is that it does."""
        return [node.status[1] for node in self.verdicts if node.status[0] == id][-1:] == [VALIDATED]

    @property
    def unsound(self) -> list[int]:
        """Nodes that the summary uses though no verdict holds them up."""
        return [one for one in self.summary.parents() if not self.holds(one)] if self.summary else []

    def true(self, node: Node) -> bool:
        """The exact checker's word on a proposition whose premises are what its parents say."""
        parents = [self.nodes[one] for one in node.parents(USE)]
        return self.asked.true(node.said, {one.letter: int(one.said.split()[-1]) for one in parents if one.letter})

    def strays(self, node: Node) -> bool:
        """Whether no result could make a proposition right, because it works on other numbers than its parents say."""
        said = node.said.rpartition(" ")[0]
        return not any(self.true(replace(node, said=f"{said} {number}")) for number in NUMBERS)

    def right(self, verdict: Node) -> bool:
        """Whether a critic says what the checker says."""
        return (verdict.status[1] == VALIDATED) == self.true(self.nodes[verdict.status[0]])


def read(asked: Tree, words: Sequence[str], waits: bool = False) -> Diagram:
    """The graph of a stream; reductions without records are a chain. waits: its last record lacks a verdict."""
    begins = [at for at, word in enumerate(words) if word == NODE]
    if not begins:
        return chained(asked, words)
    made = Diagram(asked, errors=["words before the first record"] * bool(begins[0]))
    for begin, end in zip(begins, [*begins[1:], len(words)]):
        said = [word for word in words[begin:end] if word != SPECIALS[END]]
        if waits and end == len(words):
            made.wait(" ".join(said))
        else:
            made.add(" ".join(said), range(begin, begin + len(said)))
    return made


def chained(asked: Tree, words: Sequence[str]) -> Diagram:
    """The graph of reductions whose text says no premises: they are those that the problem names."""
    made, text = Diagram(asked), " ".join(words)
    for found in (*STATEMENT.finditer(text), *re.finditer(rf"{ANSWER} \d+", text)):
        said, begin = bool(found.lastindex), len(text[: found.start()].split())
        needed = asked.needs(found[1]) if said and found[1] in asked.operations else []
        latest = {one.letter: one.id for one in made.propositions}
        edges = [(latest[one], USE) for one in needed if one in latest] or [(0 if said else max(made.nodes), USE)]
        id, place = len(made.nodes), range(begin, begin + len(found[0].split()))
        made.nodes[id] = Node(id, PROPOSER if said else SUMMARIZER, found[0], tuple(edges), None, place)
    return made


def positions(diagram: Diagram) -> np.ndarray:
    """Where the nodes lie [N, 2]: below what they come from, each operation in a column of its own."""
    spots: dict[int, tuple[float, float]] = {}
    middle = (len(trees.LETTERS) - 1) / 2
    for node in diagram.nodes.values():
        about = node.letter or "".join(diagram.nodes[one].letter for one in node.parents(CRITIQUE))
        across = float(trees.LETTERS.index(about)) if about and about in trees.LETTERS else middle
        above = [one for one in spots if one in node.parents() or diagram.nodes[one].role == CRITIC and set(
            diagram.nodes[one].parents()) & set(node.parents())]  # verdicts stand above what comes of a proposition
        down = 1 + max((spots[one][1] for one in above), default=-1.0)
        while (across, down) in spots.values():
            down += 1
        spots[node.id] = across, down
    return np.array([*spots.values()], np.float32)
