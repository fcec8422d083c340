"""Trainings: two classifiers of partly masked stories, one to guide and one, of other stories, to judge; and the policy
over block sizes at two prices of a call."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from models.loops.unmask.blocks import by_blocks, texts
from models.papers.ctrldiff.network import GROUPS, BlockPolicy, StoryClassifier
from models.papers.ctrldiff.rule import block_costs, by_policy, returns, word_nats
from models.worlds.tales.forms import one
from models.worlds.tales.headings import ABOUT, LENGTH, MOODS, WORLD, heading
from models.worlds.world import END, MASK, Doc, drawn, exam
from training import text
from training.export import mean_figure, read_shipped, save_hub
from training.preferences import reinforce
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


class Sizes(Recipe):
    """The policy over block sizes, by REINFORCE on texts that the frozen block diffusion writes with it. A call costs
    `penalty` nats."""

    name, penalty = "tale-sizes-1", 0.5
    minutes, lr, lr_adam, decay, look, rows, warmup = 3.0, 0.0, 4e-3, 0.5, 60.0, 32, 0.0
    compile = autocast = False
    architecture = "BlockPolicy, two layers on 192 + 16 numbers; 5 block sizes, and a value beside them"
    trained_on = "what tale-blocks-1 writes under the headings of short stories, judged by tale-ar-2"
    data_licence = "none: made by program"
    weak_at = "Knows one base, one judge and the table of passes that it was trained with."
    budget_fraction = "3 minutes of one thread and about 1,500 texts; the spec has 3,000 to 5,000"

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.rho, self.curve = None, []

    def prepare(self, folder):
        self.tok = WORLD.tokenizer()
        self.base, self.judge = (read_shipped(name).requires_grad_(False) for name in ("tale-blocks-1", "tale-ar-2"))

    def build(self):
        return BlockPolicy(self.base.model.config.hidden_size)

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        docs = [drawn(WORLD, rng).truth for _ in range(self.rows)]
        return {"moods": torch.tensor([MOODS.index(doc["mood"]) for doc in docs]),
                "topics": torch.tensor([ABOUT.index(doc["topics"][0]) for doc in docs]), "step": torch.tensor(step)}

    def loss(self, model, batch, progress):
        dice = torch.Generator().manual_seed(self.seed * 1_000_003 + int(batch["step"]))
        prompts = [self.prompt(MOODS[mood], ABOUT[topic]) for mood, topic in zip(*map(
            torch.Tensor.tolist, (batch["moods"], batch["topics"])))]
        seen: list = []
        costs = self.costs(prompts, by_policy(model, dice, seen), dice)
        nats, calls, words = (float(one) for one in np.concatenate(costs).sum(0))
        price = (nats + self.penalty * calls) / words
        self.rho = price if self.rho is None else 0.8 * self.rho + 0.2 * price
        self.curve.append([round(nats / words, 3), round(calls / words, 3)])
        seen.sort(key=lambda one: one[0])  # text by text, and in a text block by block
        state, entropy, size = map(torch.stack, zip(*(one[1:] for one in seen), strict=True))
        gains = torch.tensor(np.concatenate([returns(one, self.penalty, self.rho) for one in costs])).float()
        gains = gains / gains.std()
        spread, value = torch.distributions.Categorical(logits=model(state, entropy)), model.value(state, entropy)
        loss = reinforce(spread.log_prob(size), (gains - value).detach()) - 0.01 * spread.entropy().mean()
        return loss + 0.5 * (gains - value).square().mean(), {"nats": nats / words, "calls": calls / words,
                                                              "entropy": spread.entropy().mean().detach()}

    def prompt(self, mood: str, topic: str) -> list[int]:
        return [END, *self.tok.encode(heading(mood, topic)).ids]

    def costs(self, prompts, choose, dice) -> list[np.ndarray]:
        made = texts(by_blocks(self.base, prompts, choose, dice, LENGTH), len(prompts))
        return list(map(block_costs, made, word_nats(self.judge, prompts, made)))

    def state(self):
        return {"rho": torch.tensor(self.rho), "curve": torch.tensor(self.curve)}

    def load_state(self, state):
        self.rho, self.curve = float(state["rho"]), state["curve"].tolist()

    def judged(self, model, n: int) -> dict[str, np.ndarray]:
        """Nats and calls per word of n texts under held-out headings, in the likeliest sizes and in drawn ones."""
        docs, found = exam(WORLD, 41, n), {}
        prompts = [self.prompt(doc.truth["mood"], doc.truth["topics"][0]) for doc in docs]
        for name, drawn_ in (("likeliest", None), ("drawn", torch.Generator().manual_seed(1))):
            sums = np.stack([one.sum(0) for one in self.costs(prompts, by_policy(model, drawn_),
                                                              torch.Generator().manual_seed(2))])
            found |= {f"{what}, {name} sizes": sums[:, at] / sums[:, 2] for at, what in enumerate(("nats", "calls"))}
        return found

    def quick(self, model):
        return {name: round(float(rows.mean()), 3) for name, rows in self.judged(model, 32).items()}

    def evaluate(self, model):
        usual = np.stack([one.sum(0) for one in self.costs(
            [self.prompt(doc.truth["mood"], doc.truth["topics"][0]) for doc in exam(WORLD, 41, 100)],
            lambda ahead, rows: [4] * len(rows), torch.Generator().manual_seed(2))])
        return {"metrics": {name: mean_figure(rows, "per word") for name, rows in self.judged(model, 100).items()},
                "trivial_baseline": {f"{what}, blocks of 4": mean_figure(usual[:, at] / usual[:, 2], "per word")
                                     for at, what in enumerate(("nats", "calls"))},
                "curve": self.curve}


class CheapSizes(Sizes):
    name, penalty = "tale-sizes-cheap-1", 2.0
