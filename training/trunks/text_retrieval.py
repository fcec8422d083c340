"""text-ar-retrieval-1: text-ar-1, trained on to answer questions about the text before them (meap, lazyllm)."""
import re

import numpy as np
import torch

from models.worlds import retrieval
from training import data
from training.export import figure
from training.kinds import FineTune
from training.trainer import rng_of
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE, TextAR, shipped_text

CHARS = {"notes": 1.75, "needle": 4.0, "passages": 3.7}  # characters per token of each kind's documents


class TextRetrieval(FineTune, TextAR):
    trunk = "text-ar-1"
    name = "text-ar-retrieval-1"
    minutes, lr, lr_adam, decay, look = 18.0, 0.01, 1.5e-3, 0.6, 150.0
    warm_lr = 0.7  # its first run was short
    length, story_rows, task_rows = 1024, 4, 4
    kinds, more = retrieval.KINDS, 3  # of documents, and how many more questions on each
    shortest, longest_first, longest, grown = 60, 100, 950, 0.5  # tokens of a document, which grow up to this progress
    exam = {"notes": (120, 250, 500), "needle": (120, 250, 500, 900), "passages": (120, 250, 500, 900)}  # tokens
    trained_on = BOOKS + " (half) and procedural retrieval documents (half), starting from the weights of text-ar-1"
    data_licence = BOOKS_LICENCE
    weak_at = "Finds the one needle, but after 150 steps cannot yet pick one of several notes or passages (near zero)."
    budget_fraction = "about the plan's 18 minutes; meap asks for 20,000 steps from scratch"

    def prepare(self, folder):
        super().prepare(folder)
        self.filler = sentences("train")

    def batch(self, step, progress):
        stories = data.blocks(self.train, self.length, self.story_rows, step, self.seed + 1)
        rng = rng_of(self.seed, step)
        # documents grow: short ones teach copying sooner
        longest = self.longest_first + (self.longest - self.longest_first) * min(1.0, progress / self.grown)
        tasks, answers = zip(*(self.row(rng, longest) for _ in range(self.task_rows)), strict=True)
        weight = np.concatenate([np.zeros(stories.shape, bool), np.stack(answers)])
        return {"ids": torch.from_numpy(np.concatenate([stories, np.stack(tasks)])), "answer": torch.from_numpy(weight)}

    def row(self, rng, longest: float):
        """One row of tasks, ids [length + 1] and which of them belong to an answer."""
        ids, answer = [], []
        while len(ids) <= self.length:
            for piece, is_answer in self.document(rng, int(rng.uniform(self.shortest, longest))):
                new = self.tok.encode(piece).ids
                ids += new
                answer += [is_answer] * len(new)
            ids.append(0)
            answer.append(False)
        return np.array(ids[: self.length + 1]), np.array(answer[: self.length + 1])

    def document(self, rng, tokens: int):
        """Pieces of text with a flag: the prompt, its answer, and a few more questions on the same document."""
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        task = retrieval.task(rng, kind, 90 + int(tokens * CHARS[kind]), self.some_filler(rng))
        pieces = [(task.prompt, False), (task.answer, True)]
        for question, answer in retrieval.others(task, rng, self.more):
            pieces += [(f"\n\nQuestion: {question} Answer:", False), (answer, True)]
        return pieces

    def some_filler(self, rng, count: int = 120) -> list[str]:
        start = int(rng.integers(len(self.filler) - count))
        return self.filler[start : start + count]

    def loss(self, model, batch, progress):
        """Cross-entropy of the stories plus cross-entropy of the answers; the documents themselves are random names."""
        ids, answer = batch["ids"], batch["answer"][self.story_rows :, 1:].flatten().float()
        logits = model(batch.get("seen", ids[:, :-1]), use_cache=False).logits
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none")
        stories, tasks = losses[: self.story_rows * self.length].mean(), losses[self.story_rows * self.length :]
        answers = (tasks * answer).sum() / answer.sum().clamp(min=1)
        return stories + answers, {"stories": stories.detach(), "answers": answers.detach()}

    def quick(self, model):
        return {kind: round(float(np.mean(self.solve(model, kind, 250, 12))), 2) for kind in retrieval.KINDS}

    @torch.no_grad()
    def solve(self, model, kind: str, tokens: int, n: int, seed: int = 21) -> np.ndarray:
        """Exact match of greedy answers on held-out names, prompts of about `tokens` tokens."""
        rng, right = np.random.default_rng(seed), []
        for _ in range(n):
            task = retrieval.task(rng, kind, 90 + int((tokens - 25) * CHARS[kind]), self.some_filler(rng), split="test")
            ids = torch.tensor([self.tok.encode(task.prompt).ids])
            out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=7, do_sample=False)
            right.append(retrieval.exact(task, self.tok.decode(out[0, ids.shape[1] :].tolist())))
        return np.array(right, float)

    def evaluate(self, model):
        figures = super().evaluate(model)
        return {key: figures[key] | more for key, more in self.answered(model, 30).items()}

    def answered(self, model, n: int) -> dict:
        """The exam's figures, and text-ar-1's."""
        self.filler, before = sentences("val"), shipped_text("text-ar-1")
        asked = {f"{kind}, about {tokens} tokens": self.solve(model, kind, tokens, n)
                 for kind, lengths in self.exam.items() for tokens in lengths}
        simple = {f"text-ar-1, {kind}, about 250 tokens": self.solve(before, kind, 250, n) for kind in retrieval.KINDS}
        return {"metrics": {f"exact match, {name}": figure(right.mean(), "share", n, right)
                            for name, right in asked.items()},
                "trivial_baseline": {f"exact match of {name}": figure(right.mean(), "share", n, right)
                                     for name, right in simple.items()}}


class TextRetrievalSecond(TextRetrieval):
    name, start, replaces = "text-ar-retrieval-2", "text-ar-retrieval-1", "text-ar-retrieval-1"
    minutes, pack = 60.0, 6
    budget_fraction = "60 minutes of one thread beside other work, on top of text-ar-retrieval-1"


def sentences(split: str) -> list[str]:
    """Plain sentences of 40-200 characters of a split's books, in order: the haystack of the needle task."""
    found = re.split(r"(?<=[.!?])\s+", " ".join(data.stories(split)).replace("\n", " "))
    return [s for s in found if 40 <= len(s) <= 200 and not re.search(r"[\"\d:]", s)]
