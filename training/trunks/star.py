"""Ways through star graphs (models/worlds/stars.py): star-ar-1 from left to right, star-mdm-1 from masks."""
from __future__ import annotations

import numpy as np
import torch

from models.backbones.masked import MaskedTransformer
from models.claims.star_lab import CELLS, begun, from_left, from_masks
from models.loops.sample.cached_lm import nats
from models.loops.unmask.insertion import side_by_side
from models.worlds import stars
from models.worlds.world import END, MASK, SPECIALS, drawn, exam
from training import text
from training.export import figure, mean_figure, save_hub
from training.language import Shape, WorldLM
from training.trainer import Recipe, rng_of

SHAPE = Shape(128, 4, 4, 4, 384)
PROMPT = stars.LEADS[1] + stars.ARMS * stars.LENGTHS[1] + 5  # [CLS], edges, start ? goal |


def composed(model):
    """A network whose edges begin as their two names: that of where one ends turned by half a width. What each of 240
    edges joins would else have to be learned one by one."""
    words = dict(model.named_parameters())["model.embed_tokens.weight" if hasattr(model, "model") else
                                           "embed_tokens.weight"].data
    name = {word: words[len(SPECIALS) + i] for i, word in enumerate(stars.WORDS)}
    for edge in stars.EDGES:
        name[edge].copy_(name[edge[0]] + name[edge[2]].roll(words.shape[1] // 2))
    return model


class Ways(Recipe):
    """What is drawn and measured, whichever way a network writes."""

    minutes, lr, lr_adam, decay, look, pack = 6.0, 0.02, 3e-3, 0.5, 240.0, 4
    autocast, rows, length, most = False, 48, PROMPT + stars.LONGEST, stars.LONGEST
    trained_on, data_licence = "star graphs with 16 names (models/worlds/stars.py), made by program", "none"
    weak_at = "Knows star graphs of three arms only."
    budget_fraction = "as many steps of as many graphs as star-ilm-1; the spec asks for 10,000 and more of 128"

    def prepare(self, folder):
        self.tok = stars.WORLD.tokenizer()

    def pair(self, rng) -> tuple[list[int], list[int]]:
        """What is asked, <|endoftext|> before it, and the answer."""
        doc = drawn(stars.WORLD, rng)
        return begun(self.tok, doc).ids, self.tok.encode(doc.pieces[-1]).ids

    def texts(self, model, docs) -> list[str]:
        """Prompts with the ways that a network writes behind them."""
        raise NotImplementedError

    def quick(self, model):
        return {name: round(float(found.mean()), 3) for name, found in self.judged(model, 150).items()}

    def judged(self, model, n: int) -> dict[str, np.ndarray]:
        written = {kind: self.texts(model, exam(world, 31, n)) for kind, world in stars.KINDS.items()}
        return {f"right way, {kind} graphs": np.array(list(map(stars.check, found)), float)
                for kind, found in written.items()}

    def evaluate(self, model):
        return {"metrics": {name: mean_figure(found, "share") for name, found in self.judged(model, 500).items()},
                "trivial_baseline": {"one of the arms, at random": figure(1 / stars.ARMS, "share", 1)}}

    def save(self, model, folder):
        save_hub(model, folder)
        text.wrap(self.tok, unk_token="<|unk|>").save_pretrained(folder)


class StarMDM(Ways):
    """LLaDA's loss on the answers alone (arXiv 2502.09992), which are as long as the longest way and end in ends."""

    name, length = "star-mdm-1", PROMPT + CELLS
    architecture = "MaskedTransformer, 4 layers, width 128, 4 heads, tied embeddings; a token per node or edge"

    def build(self):
        return composed(MaskedTransformer(self.tok.get_vocab_size(), *SHAPE[:4], SHAPE.ff, positions="1d",
                                          mask_token_id=MASK))

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        pairs = [self.pair(rng) for _ in range(self.rows)]
        ids, cells, there = side_by_side([[*asked, *answer, *[END] * (CELLS - len(answer))] for asked, answer in pairs],
                                         [[False] * len(asked) + [True] * CELLS for asked, _ in pairs], self.length)
        t = ((rng.permutation(self.rows) + rng.random(self.rows)) / self.rows).clip(1e-3, 1)[:, None]
        hidden = cells & torch.from_numpy(rng.random(ids.shape) < t)
        return {"ids": ids, "there": there, "hidden": hidden, "weight": torch.from_numpy(1 / t).float()}

    def loss(self, model, batch, progress):
        ids, hidden = batch["ids"], batch["hidden"]
        logits = model.head(model.look(torch.where(hidden, MASK, ids), there=batch["there"]))
        return (nats(logits, ids) * hidden * batch["weight"]).sum() / (self.rows * CELLS), {}

    def texts(self, model, docs):
        return from_masks(model, self.tok, [begun(self.tok, doc) for doc in docs])


class StarAR(Ways, WorldLM):
    name, world, shape, length, places = "star-ar-1", stars.WORLD, SHAPE, PROMPT + stars.LONGEST + 1, 64
    architecture = "LlamaForCausalLM, 4 layers, width 128, 4 heads, tied embeddings; a token per node or edge"
    save = WorldLM.save

    def build(self):
        return composed(super().build())

    def texts(self, model, docs):
        return from_left(model, self.tok, docs)
