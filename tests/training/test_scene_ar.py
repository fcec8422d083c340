"""Scenes with light and the recipes on them: what is lit is still read the same."""

import numpy as np
import pytest
import torch

from models.backbones.pictures import from_uint8, to_uint8
from models.worlds import light, scenes
from training.export import SHIPPED, read_shipped
from training.trunks import scene_ar
from training.trunks.scene_light import lit_scenes

pytestmark = pytest.mark.skipif(not (SHIPPED / "scene-vq-2" / "config.json").is_file(), reason="needs scene-vq-2")


@pytest.fixture(scope="module")
def world():
    return scene_ar.CodeWorld(read_shipped("scene-vq-2"))


def test_light_is_read_as_background_and_leaves_half_in_the_dark():
    glow = light.patches(np.random.default_rng(0), 40, 16)
    assert glow.min() == 0 and 0.8 * light.BRIGHTEST < glow.max() <= light.BRIGHTEST
    assert 0.3 < (glow.max(-1) == 0).mean() < 0.7
    asked = [scenes.sample(np.random.default_rng(i)) for i in range(20)]
    pictures = lit_scenes(np.random.default_rng(1), asked)
    assert all(scenes.score(a, scenes.parse(p)) == 1 for a, p in zip(asked, pictures, strict=True))
    brighter = np.clip(pictures.astype(int) + 30, 0, 255).astype(np.uint8)  # wrong: any light will do
    assert np.mean([scenes.score(a, scenes.parse(p)) for a, p in zip(asked, brighter, strict=True)]) < 0.5


def test_clouds_are_smooth_and_as_wide_as_said():
    field = light.clouds(np.random.default_rng(2), 2000, 16)
    assert abs(field.std() - 1) < 0.05
    near, far = (np.corrcoef(field[:, 5, 5], field[:, 5, x])[0, 1] for x in (6, 14))
    assert near > 0.7 and abs(far) < 0.2


def test_scenes_of_codes_are_the_drawn_ones(world):
    rng = np.random.default_rng(3)
    asked = [scenes.sample(rng) for _ in range(20)]
    codes = np.stack([world.codes(rng, a, False) for a in asked])
    drawn = world.tokenizer.encode(from_uint8(np.stack([scenes.draw(a) for a in asked])))
    assert torch.equal(torch.from_numpy(codes), drawn)
    lit = torch.from_numpy(np.stack([world.codes(rng, a, True) for a in asked]))
    pictures = to_uint8(world.tokenizer.decode(lit))
    assert np.mean([scenes.score(a, scenes.parse(p)) for a, p in zip(asked, pictures, strict=True)]) > 0.99
    assert len(lit.unique()) > 200 > len(drawn.unique())


def test_batches_depend_on_the_step_alone_and_say_what_is_lit(world):
    one, two = (world.batch(np.random.default_rng((0, 7)), 8, 0.1, 0.5) for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    said = (one["cond"][:, -1] == scene_ar.LIGHT) | (one["cond"] == 0).all(1)
    assert torch.equal(said[one["lit"]], torch.ones_like(said[one["lit"]]))
    small = world.batch(np.random.default_rng(0), 3, 0.0, 0.5, side=2, most=3)
    assert small["ids"].shape == (3, 64)
