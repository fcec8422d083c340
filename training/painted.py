"""How painted scenes are judged, for every recipe whose network paints them: by the exact parser."""
import numpy as np

from models.worlds import scenes
from training.export import figure


def asked(count: int, seed: int) -> list[list[scenes.Thing]]:
    """Scenes as they are drawn; their captions are what is asked."""
    rng = np.random.default_rng(seed)
    return [scenes.sample(rng) for _ in range(count)]


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
    first, second = asked(pairs, 5), asked(pairs, 6)
    other = judged(first, np.stack([scenes.draw(things) for things in second]))["scores"]
    return {"a perfect scene for another caption": figure(np.mean(other), "0-1", pairs, other),
            "ceiling of the tokenizer": figure(judged(wanted, rebuilt)["score"], "0-1", len(wanted))}
