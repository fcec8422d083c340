"""Trainings: two classifiers of partly masked stories, one to guide and one, of other stories, to judge."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.papers.ctrldiff.network import GROUPS, StoryClassifier
from models.worlds.tales.forms import one
from models.worlds.tales.headings import ABOUT, LENGTH, MOODS, WORLD, heading
from models.worlds.world import END, MASK, Doc, drawn, exam
from training import text
from training.export import mean_figure, save_hub
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
        return {f"{name}, {share:.0%} masked": round(float(found.mean()), 3) for share in (0.0, 0.5)
                for name, found in self.right(model, 200, share).items()}

    def evaluate(self, model):
        return {"metrics": {f"{name} told right, {share:.0%} of the words masked": mean_figure(found, "share")
                            for share in (0.5, 0.0) for name, found in self.right(model, 500, share).items()},
                "trivial_baseline": {f"{name} guessed": mean_figure(np.full(500, 1 / count), "share")
                                     for name, count in zip(("mood", "topic"), GROUPS)}}

    def save(self, model, folder):
        save_hub(model, folder)
        text.wrap(self.tok).save_pretrained(folder)


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
