"""maze-mlmu-1: the hidden cells of a path from those that are visible, whatever share that is."""
from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from models.papers.maze_mlmu.network import PlaceTransformer
from models.papers.maze_mlmu.walk import drawn_visible
from models.worlds.mazes import PREFIX
from models.worlds.world import PAD
from training import text
from training.export import save_hub
from training.trunks.maze import DEPTH, SHAPE, MazePaths, composed


class MazeMLMU(MazePaths):
    name = "maze-mlmu-1"
    architecture = ("PlaceTransformer, 6 encoder and 6 decoder layers, width 64, 4 heads, tied embeddings; a token per "
                    "cell or opening")

    def build(self):
        model = PlaceTransformer(self.tok.get_vocab_size(), SHAPE.width, DEPTH // 2, DEPTH // 2, SHAPE.heads, SHAPE.ff)
        return composed(model, model.embed_tokens.weight)

    def batch(self, step, progress):
        ids = super().batch(step, progress)["ids"]
        return {"ids": ids, "visible": drawn_visible(ids, torch.Generator().manual_seed(1000 * step + self.seed))}

    def loss(self, model, batch, progress):
        """The mean over all hidden cells of the batch, unweighted, as the reference's default."""
        ids, visible = batch["ids"], batch["visible"][:, PREFIX:]
        target = torch.where(visible | (ids[:, PREFIX:] == PAD), -100, ids[:, PREFIX:])
        return cross_entropy(model(ids, batch["visible"], PREFIX).flatten(0, 1), target.flatten()), {}

    def save(self, model, folder):
        save_hub(model, folder)
        text.wrap(self.tok, unk_token="<|unk|>").save_pretrained(folder)
