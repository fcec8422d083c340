"""The graph as a record: one step for each record of the stream, laid out by the edges that it says."""
from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

import kernels
from models.engine.method import Close, Emit, Event
from models.engine.recording import Filling, numbers, table
from models.papers.diagram_of_thought.speech import Speech
from models.trace import YES, Canvas, Chart, Cost, Fact, Field
from models.worlds.dialogues import (
    CRITIC,
    FINE,
    NODE,
    PROPOSER,
    ROLES,
    SUMMARIZER,
    VALIDATED,
    Diagram,
    Node,
    positions,
)

FIELDS = {
    "role": Field("Chance of its role as its record began", "probability", 0.0, 1.0),
    "entropy": Field("Mean entropy of its words", "nats", 0.0),
    "fine": Field("Chance that the critic finds it fine", "probability", 0.0, 1.0),
    "true": Field("Right by the checker, which the network never hears", "1 yes, 0 no", 0.0, 1.0),
}


class Picture:
    """A graph and the stream that it was read from. ids: of the network's words."""

    def __init__(self, diagram: Diagram, speech: Speech, ids: Mapping[str, int]):
        self.diagram, self.speech, self.ids = diagram, speech, ids
        self.nodes, words = list(diagram.nodes.values()), {id: word for word, id in ids.items()}
        self.place = {node.id: at for at, node in enumerate(self.nodes)}
        links = [(self.place[one], self.place[node.id]) for node in self.nodes for one in node.parents()]
        canvas = Canvas("graph", tuple(map(self.label, self.nodes)), positions=positions(diagram),
                        ids=np.array([*map(self.spoken, self.nodes)], np.int32),
                        links=np.array(links, np.int32).reshape(-1, 2), directed=True)
        self.page = Filling("sample", canvas, FIELDS, words.__getitem__)
        self.scores = torch.stack(speech.scores)  # [T, V]

    def label(self, node: Node) -> str:
        if node.id == 0:
            return self.diagram.asked.infix().replace(" ", "")
        if node.role == CRITIC:
            word = (node.said.split() or "?")[-1]  # its calculation is in the step's words
            return word if word in (FINE, "?") else f"{word} wrong"  # a critic's "right" is the right number
        return node.said.replace(" ", "") if node.role == PROPOSER else node.said

    def spoken(self, node: Node) -> int:
        """The word that a node stands for: its role, or none where its verdict is still to come."""
        return self.ids[node.role] if node.said or node.id == 0 else -1

    def asked(self, node: Node) -> bool:
        """Whether a visitor shall judge this proposition: nothing gives it away."""
        return self.speech.waits and self.nodes[-1].parents() == [node.id]

    def steps(self) -> Iterator[Event]:
        """The problem, then record after record."""
        self.page.fill(0, [self.ids["problem"]], "context")
        yield self.page.open(len(self.nodes))
        self.weigh(0, "first word", 0)
        yield self.page.step("the problem", note=self.diagram.asked.prompt, cost=self.speech.costs[0])
        for node in self.nodes[1:]:
            yield self.added(node)

    def added(self, node: Node) -> Emit:
        at, first, said = self.place[node.id], node.words.start, self.speech.words[node.words.start : node.words.stop]
        self.page.fill(at, [self.spoken(node)])
        if said:
            self.page.note(at, entropy=kernels.vocab_stats(self.scores[first : first + len(said)]).entropy.mean())
        if node.role in said:
            self.page.note(at, role=self.weigh(at, "role", first + said.index(node.role)))
        if node.role == PROPOSER and "=" in said[:-1] and not self.asked(node):
            self.page.note(at, true=float(self.diagram.true(node)))
            self.weigh(at, "result", first + said.index("=") + 1)
        if node.role == SUMMARIZER and said:
            self.weigh(at, "answer", node.words.stop - 1)
        if node.status:
            about, word = self.place[node.status[0]], first + said.index(node.said.split()[-1])
            self.weigh(at, "criticism", word)
            self.page.note(about, fine=numbers(self.scores[word], [self.ids[FINE]])["confidence"])
            self.page.fill(about, state="accepted" if node.status[1] == VALIDATED else "refused")
        cost = sum(self.speech.costs[max(first, 1) : node.words.stop], Cost())
        return self.page.step(f"#{node.id}: {node.role}", note=f"{' '.join(said)} {self.checked(node)}", cost=cost)

    def weigh(self, at: int, name: str, word: int) -> np.ndarray:
        """Shows at a node what was likely at a word of the stream; the chance [1] of the one that stands there."""
        chosen = [self.ids[self.speech.words[word]]]
        self.page.guess([at], self.scores[word], chosen, name, measure=False)
        return numbers(self.scores[word], chosen)["confidence"]

    def checked(self, node: Node) -> str:
        """The checker's word, which stands beside the critic's and never in its place."""
        if node.status:
            return f"| By the checker this verdict is {called(self.diagram.right(node))}."
        if node.role != PROPOSER or self.asked(node):
            return ""
        planted = " Its result was planted." if any(at in node.words for at in self.speech.planted) else ""
        return f"| By the checker, which the network never hears, it is {called(self.diagram.true(node))}.{planted}"

    def close(self, choice: int | None) -> Close:
        """choice: how many verdicts were a visitor's, who is scored by them."""
        made, answer = self.diagram, self.diagram.answer
        judged = made.verdicts[:choice] if choice is not None else made.verdicts
        shared = 100 * float(np.mean([made.right(one) for one in judged])) if judged else 0.0
        right = answer == made.asked.answer
        refuted = sum(one.status[1] != VALIDATED for one in made.verdicts)
        facts = {"right": Fact("Right answer", float(right), YES, "higher"),
                 "verdicts": Fact("Verdicts that the checker shares", shared, f"% of {len(judged)}", "higher"),
                 "refuted": Fact("Refuted", refuted, "propositions"),
                 "tokens": Fact("Written", len(self.speech.words), "tokens"),
                 "errors": Fact("Records and edges that cannot be read", len(made.errors), "", "lower"),
                 "unsound": Fact("Nodes in the summary that no verdict holds up", len(made.unsound), "", "lower")}
        ends = "There is no answer yet." if answer is None else f"The answer {answer} is {called(right)}."
        return Close("sample", f"{len(made.propositions)} propositions, {refuted} of them refuted. {ends}",
                     self.roles(), facts)

    def roles(self) -> tuple[Chart, ...]:
        """The next-role distribution where every record begins; a chain has none."""
        begun = [node for node in self.nodes[1:] if node.words and self.speech.words[node.words.start] == NODE]
        if not begun:
            return ()
        scores = self.scores[[node.words.start + 2 for node in begun]]  # behind @node and its id
        found = [numbers(scores, [self.ids[role]] * len(begun))["confidence"] for role in ROLES]
        return (table("Which role comes next", "record", "role", found, [f"#{node.id}" for node in begun], ROLES,
                      unit="probability", caption="Before each record: the network's own next word."),)


def called(right: bool) -> str:
    return "right" if right else "wrong"
