"""Recipes whose networks paint scenes, on tiny stand-ins for their tokenizer and the trunk that they start from."""
import copy

import numpy as np

from training.catalog import recipe
from training.trunks import scene_mgm


def painter(name, tiny, monkeypatch, seed=0):
    """A recipe in fp32 with small batches: of masked codes, four pictures of 64."""
    cls = recipe(name)
    for module in {scene_mgm.__name__, cls.__module__}:
        monkeypatch.setattr(f"{module}.read_shipped", lambda name: copy.deepcopy(tiny.bundle(name).model))
    found = cls(seed)
    if name == "scene-var-1":
        found.tokenizer, found.size, found.more = tiny.fresh("scene-mvq-1"), 2, 5
    else:
        found.prepare("")  # its codes say nothing: an untrained tokenizer sees one patch everywhere
        codes = np.random.default_rng(0).integers(0, found.tokenizer.codebook_size, (len(found.blocks), 4, 4))
        found.blocks, found.stages = dict(zip(found.blocks, codes)), ((1.0, 2, 4, 3),)
    found.autocast = False
    return found
