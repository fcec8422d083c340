"""scene-vq-2: a codebook of 512 patches for scenes with light, where hundreds of codes paint the ground (k-means)."""
import numpy as np
import torch

from models.backbones.pictures import from_uint8, to_uint8
from models.worlds import light, scenes
from training.export import figure
from training.painted import judged
from training.trainer import Recipe, rng_of
from training.trunks.scene_vq import distinct_patches

CODES = 512


def ground() -> np.ndarray:
    """An empty, unlit patch, float32 [48] in 0..1."""
    return np.tile(np.array(scenes.BACKGROUND, np.float32) / 255, light.PATCH**2)


def lit_patches(rng, count: int) -> np.ndarray:
    """Patches of lit ground, float32 [K, 48] in 0..1; about half of a picture's patches are lit."""
    found = light.patches(rng, count, 16).reshape(-1, light.PATCH**2)
    return ground() + np.repeat(found[found.any(1)], 3, axis=1)


class SceneLight(Recipe):
    name = "scene-vq-2"
    minutes, lr, lr_adam, decay, warmup = 0.5, 0.0, 2e-3, 0.9, 0.0
    autocast = compile = False
    architecture = "PatchCodebook: 512 entries of 4 x 4 pixels, nearest entry wins"
    trained_on = "patches of procedurally drawn scenes and of their lit ground (models/worlds/light.py)"
    data_licence = "none: made by program"
    weak_at = "Knows only the patches of this world: any other picture comes back in its six colours."
    budget_fraction = "1 (trained until it no longer moves)"

    def prepare(self, folder):
        self.drawn = distinct_patches().reshape(-1, 48)  # 241, background first

    def build(self):
        from models.backbones.codebook import PatchCodebook

        made, rng = PatchCodebook(CODES, light.PATCH), np.random.default_rng(self.seed)
        lit = rng.permutation(lit_patches(rng, 8))[: CODES - len(self.drawn)]
        made.entries.data = torch.from_numpy(np.concatenate([self.drawn, lit]))
        return made

    def batch(self, step, progress):
        """Every drawn patch, and as much lit ground as sixteen pictures have."""
        return {"patches": torch.from_numpy(np.concatenate([self.drawn, lit_patches(rng_of(self.seed, step), 16)]))}

    def loss(self, model, batch, progress):
        return model(batch["patches"]).mean(), {}

    @torch.no_grad()
    def evaluate(self, model, n: int = 256):
        rng = np.random.default_rng(12345)
        asked = scenes.several(n, rng)
        drawn, lit = scenes.pictures(asked), lit_scenes(rng, asked)
        rebuilt, clean = (to_uint8(model.decode(model.encode(from_uint8(p)))) for p in (lit, drawn))
        codes = model.encode(from_uint8(lit)).unique()
        return {"metrics": {
            "parser score of lit scenes": figure(judged(asked, rebuilt)["score"], "0-1", n),
            "parser score of clean scenes": figure(judged(asked, clean)["score"], "0-1", n),
            "mean absolute error, lit scenes": figure(abs(rebuilt.astype(float) - lit).mean(), "of 255", n),
            "codes in use": figure(len(codes), f"codes of {CODES}", n)},
            "trivial_baseline": {
                "mean absolute error of unlit codes": figure(abs(drawn.astype(float) - lit).mean(), "of 255", n)}}


def lit_scenes(rng, asked) -> np.ndarray:
    """uint8 pictures [n, 64, 64, 3] of scenes with light on every patch that is all background."""
    pictures = scenes.pictures(asked)
    glow = light.patches(rng, len(asked), 16).reshape(-1, 16, 16, 4, 4).swapaxes(2, 3).reshape(-1, 64, 64, 1)
    empty = (pictures == np.array(scenes.BACKGROUND, np.uint8)).all(-1).reshape(-1, 16, 4, 16, 4).all((2, 4))
    return (pictures + 255 * glow * empty.repeat(4, 1).repeat(4, 2)[..., None]).round().astype(np.uint8)
