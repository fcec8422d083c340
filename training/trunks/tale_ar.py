"""tale-ar-1: the shared causal language model of the tales (models/worlds/tales), one token per word."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.claims.tale_lab import written
from models.worlds import tales
from models.worlds.world import END, Doc, World, drawn, exam
from training.export import figure
from training.language import MEDIUM, WorldLM
from training.trainer import rng_of

OPEN = ("lists", "stories", "keywords")  # drawn at temperature 1 to their end; the others answer one question, greedily
ASKED = ("?", "Result:")  # how a text ends that has one right answer


class TaleAR(WorldLM):
    name = "tale-ar-1"
    world, shape, rows, length, places = tales.WORLD, MEDIUM, 16, 256, 512
    minutes, lr, lr_adam, decay, look, pack = 29.0, 0.02, 3e-3, 0.6, 300.0, 6
    asked = 200  # held-out documents of each grammar
    answers_count = 3.0  # the weight of an answer's words in the loss: they are few among many that nobody can know
    architecture = "LlamaForCausalLM, 6 layers, width 192, 4 heads, tied embeddings, one token per word (1,024)"
    trained_on = "little stories, facts, lists, notes and programs, made by program (models/worlds/tales)"
    weak_at = "Knows 1,024 words and eight kinds of text; never read of the planted universe or of groups A and B."
    budget_fraction = "29 minutes of one busy thread, begun on a schedule of 37; the plan has 35 of two idle cores"

    def batch(self, step, progress):
        """Documents one behind the other, <|endoftext|> between them, cut into rows."""
        rng, ids, weight = rng_of(self.seed, step), [END], [0.0]
        wanted = self.rows * self.length + 1
        while len(ids) < wanted:
            words, weights = self.weighed(self.next_document(rng))
            ids, weight = ids + words, weight + weights
        rows = torch.tensor(ids[:wanted]).unfold(0, self.length + 1, self.length)  # [rows, length + 1]
        return {"ids": rows, "weight": torch.tensor(weight[:wanted]).unfold(0, self.length + 1, self.length)}

    def next_document(self, rng) -> Doc:
        return drawn(self.world, rng)

    def weighed(self, doc: Doc) -> tuple[list[int], list[float]]:
        """Ids of a document and its end, and what each counts in the loss."""
        ids, weight = [], []
        for before, piece in zip(("", *doc.pieces), doc.pieces):
            words = self.encode(piece)
            ids += words
            weight += [self.answers_count if before.endswith(ASKED) else 1.0] * len(words)
        return [*ids, END], [*weight, 1.0]

    def loss(self, model, batch, progress):
        logits = model(batch["ids"][:, :-1], use_cache=False).logits
        losses = cross_entropy(logits.flatten(0, 1).float(), batch["ids"][:, 1:].flatten(), reduction="none")
        weight = batch["weight"][:, 1:].flatten()
        return (losses * weight).sum() / weight.sum(), {"nats": losses.detach().mean()}

    def quick(self, model):
        return {name: round(float(right.mean()), 2) for name, right in self.judged(model, 40).items()}

    def judged(self, model, n: int) -> dict[str, np.ndarray]:
        """grammar -> whether each of n held-out documents was continued right; belief stories by order too."""
        found = {}
        for name, world in tales.GRAMMARS.items():
            asked = questioned(name, n)
            found[name] = right = self.continued_right(model, world, [prompt for prompt, _, _ in asked], name in OPEN)
            if name == "beliefs":
                order = np.array([tales.beliefs.ORDER[doc.truth["kind"]] for _, _, doc in asked])
                found |= {f"beliefs, order {at}": right[order == at] for at in range(3)}
        return found

    def continued_right(self, model, world: World, prompts: list[str], free: bool) -> np.ndarray:
        how = {"longest": 180, "temperature": 1.0} if free else {"longest": 12, "until": "."}
        said = written(model, self.tok, prompts, **how)
        return np.array([world.check(f"{prompt} {text}") for prompt, text in zip(prompts, said, strict=True)], float)

    def evaluate(self, model):
        judged = self.judged(model, self.asked)
        metrics = {f"right, {name}": figure(right.mean(), "share", len(right), right) for name, right in judged.items()}
        whole = np.concatenate([judged[name] for name in tales.GRAMMARS])
        return {"metrics": {"right, all grammars": figure(whole.mean(), "share", len(whole), whole), **metrics},
                "trivial_baseline": {f"another document's answer, {name}": figure(np.mean(right), "share", len(right))
                                     for name, right in swapped(self.asked).items()}}


class TaleARSecond(TaleAR):
    name, start, minutes = "tale-ar-2", "tale-ar-1", 40.0
    warm_lr = 0.6  # its first run was short
    budget_fraction = "40 minutes of one thread beside other work, on top of tale-ar-1"


def questioned(name: str, n: int) -> list[tuple[str, str, Doc]]:
    """(prompt, what follows, document) of held-out ones: the heading in free grammars, else all up to a question."""
    world, found = tales.GRAMMARS[name], []
    for doc in exam(world, 11, 4 * n):
        at = 1 if name in OPEN else doc.learned.index(True) if True in doc.learned else 0
        if at and (name in OPEN or doc.pieces[at - 1].endswith(ASKED)):
            found.append((" ".join(doc.pieces[:at]), doc.pieces[at], doc))
    return found[:n]


def swapped(n: int) -> dict[str, list[bool]]:
    """grammar -> whether what follows in the document before would be right here: what knowing the form is worth."""
    found = {}
    for name, world in tales.GRAMMARS.items():
        asked = questioned(name, n)
        found[name] = [world.check(f"{prompt} {asked[i - 1][1]}") for i, (prompt, _, _) in enumerate(asked)]
    return found
