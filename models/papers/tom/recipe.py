"""The old, small network of the comparison: A, a GPT-2 taught belief stories alone, with 0 to 2 infills; and C, its
control, taught the same stories and questions with 0 to 8. The newer, larger B is the trunk of the tales, tale-ar-2."""
from __future__ import annotations

import numpy as np
import torch

from models.papers.tom.materials import answers, exam, right, unread
from models.worlds.tales import beliefs
from models.worlds.tales.forms import fill, some
from models.worlds.world import END, PAD, Doc, held_out
from training.export import figure
from training.trunks.tale_ar import TaleAR

LOOKED = 19  # seed of the exams that are looked at in training; the claim's are others
QUESTIONS = 8  # of a story: a network that must tell Anna from Ben cannot answer with one place


class TaleGPT(TaleAR):
    """A row is a story and up to eight questions about it, the same in every arm but for the infills."""

    name, minutes, infills, rows, length = "tale-gpt-1", 9.0, 2, 16, 180
    answers_count = 15.0
    look, asked, warmup = 120.0, 200, 0.05
    architecture = "GPT2LMHeadModel, 4 layers, width 160, 5 heads, learned positions, tied embeddings (1,024 words)"
    trained_on = "belief stories with 0 to 2 sentences that change nothing, made by program (models/worlds/tales)"
    weak_at = "Knows belief stories of one pattern, and their questions in one form each."
    budget_fraction = "700 steps, about 9 minutes of one busy thread; the plan has 6 minutes of two idle cores"

    def build(self):
        from transformers import GPT2Config, GPT2LMHeadModel

        return GPT2LMHeadModel(GPT2Config(
            vocab_size=self.tok.get_vocab_size(), n_embd=160, n_layer=4, n_head=5, n_positions=320, resid_pdrop=0.0,
            embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=END, eos_token_id=END))

    def batch(self, step, progress):
        ids, weight = np.full((self.rows, self.length + 1), PAD), np.zeros((self.rows, self.length + 1), np.float32)
        for row in range(self.rows):
            words, weights = self.weighed(lesson(np.random.default_rng((self.seed, step, row)), self.infills))
            size = min(len(words) + 1, self.length + 1)
            ids[row, :size], weight[row, :size] = [END, *words][:size], [0.0, *weights][:size]
        return {"ids": torch.from_numpy(ids), "weight": torch.from_numpy(weight)}

    def quick(self, model):
        return {name: round(float(share.mean()), 2) for name, share in self.judged(model, 60).items()}

    def judged(self, model, n: int) -> dict[str, np.ndarray]:
        """Whether each of n questions is answered right, by order and by how many infills stand in the story."""
        asked, found = exam(LOOKED, n), {}
        for level in (0, 8):
            for order in range(3):
                items = [one[order] for one in asked]
                logits = answers(model, self.tok, [item.prompt(unread(item, level, LOOKED)) for item in items])
                found[f"order {order}, {level} infills"] = right(self.tok, logits, items)
        return found

    def evaluate(self, model):
        judged = self.judged(model, self.asked)
        return {"metrics": {f"right, {name}": figure(hits.mean(), "share", len(hits), hits)
                            for name, hits in judged.items()},
                "trivial_baseline": {"where the thing really is, every order": figure(0.5, "share", self.asked)}}


def lesson(rng: np.random.Generator, infills: int) -> Doc:
    """A story with some infills, and questions about it of which the exams could ask none."""
    told = beliefs.story(rng, beliefs.TRAINED_NAMES, beliefs.TRAINED_OBJECTS, 0)
    minds, _ = beliefs.tracked(" ".join(told))
    asked = [(fill(beliefs.ASKED[kind], thing=minds.thing, who=who, whom=whom),
              fill(beliefs.ANSWER, where=minds.answer(kind, who, whom)))
             for kind, who, whom in some(rng, beliefs.askable(minds), QUESTIONS)]
    while True:
        text = " ".join(beliefs.filled(rng, told, int(rng.integers(infills + 1))))
        if not any(held_out(f"{text} {question}") for question, _ in asked):
            return Doc((text, *(piece for pair in asked for piece in pair)), (False, *(False, True) * len(asked)))


class TaleGPTFar(TaleGPT):
    name, infills, length = "tale-gpt-far-1", 8, 224
    trained_on = "the stories and questions of tale-gpt-1, in its order, with 0 to 8 sentences that change nothing"
    budget_fraction = "as many steps as tale-gpt-1"
