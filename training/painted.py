"""Networks that paint scenes from captions: what their recipes share, and how pictures are judged, by the exact parser.

    class SceneAR(ScenePainter):
        settings = {"of clean scenes": {}, "of lit scenes": {"lit": True}}   # what the card's figures are measured at
        def paint(self, model, cond, generator, lit=False): ...             # pictures for condition words
"""
import numpy as np
import torch

from models.backbones.pictures import from_uint8, to_uint8
from models.worlds import scenes
from training.export import figure
from training.trainer import Recipe


class ScenePainter(Recipe):
    """A network that paints scenes as their captions ask. settings: name of a card's figure -> arguments of `paint`;
    glances: those of them that the log shows."""

    data_licence = "none: made by program"
    budget_fraction = "starts from the layers of scene-mgm-1 (44 minutes); no paper's budget applies to this world"
    dropout = 0.1  # share of captions replaced by the null condition
    settings: dict[str, dict] = {}
    glances: tuple[str, ...] = ()

    def paint(self, model, cond, generator, **setting) -> torch.Tensor:
        """Pictures [n, 3, 64, 64] in 0..1 for condition words int64 [n, C]."""
        raise NotImplementedError

    def rebuilt(self, wanted) -> torch.Tensor:
        """The same for true pictures after the tokenizer: no painter can do better."""
        return self.tokenizer.decode(self.tokenizer.encode(from_uint8(scenes.pictures(wanted))))

    def measure(self, model, n: int, seed: int = 999, **setting) -> dict:
        """What the parser finds in pictures painted for n captions."""
        wanted = scenes.several(n, seed)
        cond, generator = torch.from_numpy(scenes.conditions(wanted)), torch.Generator().manual_seed(seed)
        return judged(wanted, to_uint8(self.paint(model, cond, generator, **setting)))

    def quick(self, model):
        return {f"score {name}": round(self.measure(model, 32, **self.settings[name])["score"], 3)
                for name in self.glances}

    @torch.no_grad()
    def evaluate(self, model, n: int = 96):
        metrics, wanted = {}, scenes.several(n, 5)
        for name, setting in self.settings.items():
            metrics |= figures(name, self.measure(model, n, **setting))
        return {"metrics": metrics, "trivial_baseline": trivial(wanted, to_uint8(self.rebuilt(wanted)))}


def told(asked: list[list[scenes.Thing]], rng, dropout: float) -> np.ndarray:
    """Condition words int64 [B, C] in any order, a share of them replaced by the null condition."""
    cond = np.stack([rng.permutation(words) for words in scenes.conditions(asked)])
    cond[rng.random(len(asked)) < dropout] = 0
    return cond


def judged(wanted: list[list[scenes.Thing]], pictures: np.ndarray) -> dict:
    """score: mean of `scores`, 0..1. broken: share of pictures with a chimera or a fragment. wrong count: share with an
    object too many or too few. pictures uint8 [n, 64, 64, 3]."""
    found = [scenes.parse(picture) for picture in pictures]
    scored = [scenes.score(a, f) for a, f in zip(wanted, found, strict=True)]
    return {"score": float(np.mean(scored)), "scores": scored,
            "broken": float(np.mean([any(f.kind != "object" for f in fs) for fs in found])),
            "wrong count": float(np.mean([len(a) != len(f) for a, f in zip(wanted, found, strict=True)]))}


def figures(name: str, got: dict) -> dict:
    """A card's two figures of what `judged` found; name says of which pictures."""
    n = len(got["scores"])
    return {f"score {name}": figure(got["score"], "0-1", n, got["scores"]),
            f"pictures with a broken object, {name}": figure(got["broken"], "share", n)}


def trivial(wanted: list[list[scenes.Thing]], rebuilt: np.ndarray, pairs: int = 2000) -> dict:
    """A card's comparisons: a perfect picture of something else, and true pictures after the tokenizer."""
    other = judged(scenes.several(pairs, 5), scenes.pictures(scenes.several(pairs, 6)))["scores"]
    return {"a perfect scene for another caption": figure(np.mean(other), "0-1", pairs, other),
            "ceiling of the tokenizer": figure(judged(wanted, rebuilt)["score"], "0-1", len(wanted))}
