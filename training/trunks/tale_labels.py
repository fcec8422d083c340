"""Two classifiers of partly masked short stories (models/backbones/story_classifier.py), of different stories: one may
guide, the other judges."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.backbones.story_classifier import GROUPS, StoryClassifier
from models.loops.unmask.steering import agreement, orders
from models.trace.percent import percent
from models.worlds.tales.forms import one
from models.worlds.tales.headings import ABOUT, LENGTH, MOODS, WORLD, heading
from models.worlds.world import END, MASK, SPECIALS, Doc, drawn, exam
from training.export import mean_figure
from training.trainer import Recipe, rng_of


class Guides(Recipe):
    """It learns from every second story, whose number says which."""

    name, half, shape = "tale-guide-1", 0, (128, 2, 4, 256)
    minutes, lr, lr_adam, decay, look, rows, pack, compile = 2.0, 0.01, 2e-3, 0.6, 60.0, 48, 4, False
    architecture = "StoryClassifier, 2 layers, width 128, 4 heads; 3 moods and 8 topics, on text masked to any degree"
    trained_on = "half of the short stories (models/worlds/tales), any share of their words masked"
    data_licence = "none: made by program"
    weak_at = "Knows three endings and eight topics of one kind of story."
    budget_fraction = "250 steps, about 2 minutes of one thread, as the plan has it"

    def prepare(self, folder):
        self.tok = WORLD.tokenizer()

    def build(self):
        return StoryClassifier(self.tok.get_vocab_size(), *self.shape)

    def batch(self, step, progress):
        rng, docs = rng_of(self.seed + self.half, step), []
        while len(docs) < self.rows:
            if half_of(doc := drawn(WORLD, rng)) == self.half:
                docs.append(doc)
        return partly_masked(docs, self.tok, rng)

    def loss(self, model, batch, progress):
        moods, topics = model(batch["ids"]).float().split(GROUPS, 1)
        return cross_entropy(moods, batch["labels"][:, 0]) + cross_entropy(topics, batch["labels"][:, 1]), {}

    def right(self, model, n: int, share: float) -> dict[str, np.ndarray]:
        """Whether mood and topic of n held-out stories are told with a share of their words masked."""
        batch = partly_masked(exam(WORLD, 37, n), self.tok, np.random.default_rng(7), share)
        found = torch.stack([some.argmax(1) for some in model(batch["ids"]).split(GROUPS, 1)], 1) == batch["labels"]
        return dict(zip(("mood", "topic"), found.T.double().numpy()))

    def quick(self, model):
        return {f"{name}, {percent(share)} masked": round(float(found.mean()), 3) for share in (0.0, 0.5)
                for name, found in self.right(model, 200, share).items()}

    def orders(self, model, n: int) -> np.ndarray:
        """Of n places at which stories go on: how first order ranks 64 of the words, against exact scores."""
        rng, found = np.random.default_rng(9), []
        for doc in exam(WORLD, 43, n):
            ids, labels = (rows[0] for rows in partly_masked([doc], self.tok, rng, 0.0).values())
            first = len(self.tok.encode(heading()).ids) + 2
            ids[(at := int(rng.integers(first, 60))) :] = MASK
            label = int(labels[0]) if rng.random() < 0.5 else GROUPS[0] + int(labels[1])
            words = torch.from_numpy(rng.integers(len(SPECIALS), self.tok.get_vocab_size(), 64))
            found.append(agreement(*orders(model, ids, at, words, label)))
        return np.array(found)

    def evaluate(self, model):
        orders = mean_figure(self.orders(model, 60), "rank correlation")
        return {"metrics": {f"{name} told right, {percent(share)} of the words masked": mean_figure(found, "share")
                            for share in (0.5, 0.0) for name, found in self.right(model, 500, share).items()}
                | {"first order against exact scores of 64 words": orders},
                "trivial_baseline": {f"{name} guessed": mean_figure(np.full(500, 1 / count), "share")
                                     for name, count in zip(("mood", "topic"), GROUPS)}}


class Judges(Guides):
    name, half, shape = "tale-judge-1", 1, (96, 3, 4, 192)
    architecture = "StoryClassifier, 3 layers, width 96, 4 heads; 3 moods and 8 topics, on text masked to any degree"
    trained_on = "the other half of the short stories (models/worlds/tales), any share of their words masked"


def half_of(doc: Doc) -> int:
    """Which half of all stories one belongs to."""
    return sum(map(ord, doc.text)) // 10 % 2


def partly_masked(docs: list[Doc], tok, rng: np.random.Generator, share: float | None = None
                  ) -> dict[str, torch.Tensor]:
    """Stories under headings that say nothing, or anything, of which words are masked: any share of them, and half of
    the time all from some place on, as when they are written. share: this one, and no more."""
    ids, labels = torch.full((len(docs), LENGTH), END), torch.zeros(len(docs), 2, dtype=torch.long)
    for row, doc in enumerate(docs):
        first = tok.encode(heading(*(one(rng, (*some, "")) for some in (MOODS, ABOUT)))).ids
        whole = [END, *first, *tok.encode(doc.pieces[1]).ids][:LENGTH]
        ids[row, : len(whole)] = torch.tensor(whole)
        labels[row] = torch.tensor([MOODS.index(doc.truth["mood"]), ABOUT.index(doc.truth["topics"][0])])
        hidden = torch.from_numpy(rng.random(LENGTH) < (rng.random() if share is None else share))
        hidden[int(rng.integers(LENGTH)) if share is None and rng.random() < 0.5 else LENGTH :] = True
        hidden[: len(first) + 1] = False
        ids[row, hidden] = MASK
    return {"ids": ids, "labels": labels}
