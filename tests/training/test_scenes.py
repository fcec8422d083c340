"""The scene world: drawn scenes read back exactly, anything else does not."""
import numpy as np
import pytest

from models.worlds import scenes
from models.worlds.scenes import Thing


def many(n: int = 100):
    rng = np.random.default_rng(0)
    return [scenes.sample(rng) for _ in range(n)]


def shuffled(picture, rng):
    """The same 4-pixel patches in another order."""
    tiles = picture.reshape(16, 4, 16, 4, 3).swapaxes(1, 2).reshape(256, 4, 4, 3)[rng.permutation(256)]
    return tiles.reshape(16, 16, 4, 4, 3).swapaxes(1, 2).reshape(64, 64, 3)


def mean_score(pictures, score=scenes.score):
    return np.mean([score(t, scenes.parse(p)) for t, p in zip(many(), pictures, strict=True)])


def test_drawn_scenes_score_one_shuffled_patches_near_zero_and_blanks_zero():
    rng = np.random.default_rng(1)
    drawn = [scenes.draw(t) for t in many()]
    assert mean_score(drawn) == 1
    assert mean_score([shuffled(p, rng) for p in drawn]) < 0.05
    assert mean_score([scenes.draw([])] * 100) == 0


def test_a_score_that_only_looks_at_what_was_asked_would_reward_a_full_canvas():
    def lenient(asked, found):  # mutant: forgets objects that nobody asked for
        kinds = {(f.colour, f.shape) for f in found if f.kind == "object"}
        return np.mean([(t.colour, t.shape) in kinds for t in asked])

    asked = [Thing("red", "circle", 0)]
    crowd = scenes.parse(scenes.draw(asked + [Thing("blue", "square", c) for c in range(1, 4)]))
    assert scenes.score(asked, crowd) == 0.25
    assert lenient(asked, crowd) == 1


def test_a_repeated_object_counts_once():
    found = scenes.parse(scenes.draw([Thing("red", "circle", 0), Thing("red", "circle", 5)]))
    assert scenes.score([Thing("red", "circle")], found) == 0.5


def test_half_of_two_objects_in_one_cell_is_a_chimera_and_half_of_one_a_fragment():
    red, blue = (scenes.draw([Thing(c, "circle", 0)]) for c in ("red", "blue"))
    mixed, cut = red.copy(), red.copy()
    mixed[:, 8:16], cut[:, 8:16] = blue[:, 8:16], scenes.BACKGROUND
    assert [f.kind for f in scenes.parse(mixed)] == ["chimera"]
    assert [f.kind for f in scenes.parse(cut)] == ["fragment"]
    assert scenes.score([Thing("red", "circle")], scenes.parse(mixed)) == 0


def test_captions_and_conditions_round_trip_without_places():
    for things in many(20):
        read = scenes.read_caption(scenes.caption(things))
        assert sorted((t.colour, t.shape) for t in read) == sorted((t.colour, t.shape) for t in things)
        words = scenes.condition(scenes.caption(things[::-1]))
        assert (words == scenes.condition(scenes.caption(things))).all()
        assert np.count_nonzero(words) == len(things)


def test_the_world_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="colour"):
        scenes.read_caption("purple circle")
    with pytest.raises(ValueError, match="share a cell"):
        scenes.draw([Thing("red", "circle", 3), Thing("blue", "ring", 3)])


def test_every_pixel_and_patch_of_a_thing_has_its_number():
    placed = [Thing("red", "ring", 5), Thing("blue", "cross", 6)]
    picture = scenes.draw(placed)
    numbers = scenes.numbered(picture)
    for number, one in enumerate(placed, 1):
        assert ((numbers == number) == (picture == scenes.COLOURS[one.colour]).all(-1)).all(), one
    assert np.flatnonzero(scenes.numbered_patches(numbers) == 1).tolist() == [18, 19, 26, 27]
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    assert not scenes.numbered(noise).any(), "a photo has no thing that is known"
