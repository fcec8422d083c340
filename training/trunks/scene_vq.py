"""scene-vq-1: FSQ patch tokenizer of the scene world, 64x64 pictures <-> 16x16 codes."""
import numpy as np
import torch

from models.backbones.pictures import from_uint8, to_uint8
from models.worlds import scenes
from training.export import figure
from training.painted import judged
from training.trainer import Recipe, rng_of


def distinct_patches(size: int = 4) -> np.ndarray:
    """Every patch that occurs in drawn scenes, float [K, size, size, 3] in 0..1, background first."""
    cells = [scenes.draw([scenes.Thing(c, s, 0)], side=1) for c in scenes.COLOURS for s in scenes.SHAPES]
    tiles = np.concatenate([_tiles(scenes.draw([], side=1), size)[:1]] + [_tiles(c, size) for c in cells])
    _, first = np.unique(tiles.reshape(len(tiles), -1), axis=0, return_index=True)
    return tiles[np.sort(first)].astype(np.float32) / 255


def _tiles(picture: np.ndarray, size: int) -> np.ndarray:
    n = picture.shape[0] // size
    return picture.reshape(n, size, n, size, 3).swapaxes(1, 2).reshape(n * n, size, size, 3)


class SceneVQ(Recipe):
    name = "scene-vq-1"
    minutes, lr, lr_adam, decay = 1.5, 0.0, 5e-3, 0.8
    autocast = compile = False
    levels = (2,) * 10  # measured: with fewer, finer channels the 241 patches share codes, and 8 5 5 5 scores 0.49
    architecture = "FsqTokenizer: patch MLP, FSQ with ten binary channels (1,024 codes), 4-pixel patches"
    trained_on = "patches of procedurally drawn scenes (models/worlds/scenes.py), each distinct patch equally often"
    data_licence = "none: made by program"
    weak_at = "Knows only the patches of this world: any other picture comes back in its six colours."
    budget_fraction = "1 (trained to its ceiling)"

    def build(self):
        from models.backbones.fsq import FsqTokenizer

        return FsqTokenizer(hidden_size=384, levels=self.levels)

    def prepare(self, folder):
        self.patches = distinct_patches()

    def batch(self, step, progress):
        """One mosaic with every distinct patch, the rest of its 256 places at random."""
        count = len(self.patches)
        extra = rng_of(self.seed, step).integers(count, size=256 - count)
        pick = np.concatenate([np.arange(count), extra]).reshape(16, 16)
        return {"images": torch.from_numpy(self.patches[pick].transpose(4, 0, 2, 1, 3).reshape(1, 3, 64, 64))}

    def loss(self, model, batch, progress):
        error = (model(batch["images"]) - batch["images"]).abs()
        return error.mean() + 4 * error.pow(2).mean(), {}

    def quick(self, model):
        return {k: v["value"] for k, v in self.evaluate(model)["metrics"].items()}

    @torch.no_grad()
    def evaluate(self, model, n: int = 512):
        rng = np.random.default_rng(12345)
        asked = scenes.several(n, rng)
        drawn = scenes.pictures(asked)
        codes = model.encode(from_uint8(drawn))
        rebuilt = to_uint8(model.decode(codes))
        shuffled = codes.flatten(1)[:, torch.from_numpy(rng.permutation(256))].reshape(codes.shape)
        mean = lambda pictures: judged(asked, pictures)["score"]  # noqa: E731
        blank = np.stack([scenes.draw([])] * n)
        return {"metrics": {
            "parser score of reconstructions": figure(mean(rebuilt), "0-1", n),
            "codes in use": figure(len(codes.unique()), "codes of 1024", n),
            "mean absolute error": figure(float(np.abs(rebuilt.astype(float) - drawn).mean()), "of 255", n),
            "parser score of drawn scenes": figure(mean(drawn), "0-1", n)},
            "trivial_baseline": {"parser score of shuffled codes": figure(
                                     mean(to_uint8(model.decode(shuffled))), "0-1", n),
                                 "parser score of blank scenes": figure(mean(blank), "0-1", n)}}
