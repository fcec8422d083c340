"""byte-level's claim on a real public model: prompts cut inside a token, three ways of going on."""

from __future__ import annotations

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Claim, Quantity, at_most, better, conclude, context
from models.papers.byte_level.claim import PEEK, WAYS, at_cuts, invalid_mass, passages

PUBLIC = "smollm2"


def measure(lab: Lab) -> Claim:
    """Bits per character [K] behind cuts, paired by passage."""
    rng, bundle = np.random.default_rng(0), load(PUBLIC)
    texts, size = passages(rng), lab.size
    inside, anywhere, end = (at_cuts(bundle, texts[:count], rng, where) for where, count in (
        ("inside a token", size(120, 2)), ("anywhere", size(80, 2)), ("at a token's end", size(30, 2))))
    invalid = Quantity("mass on invalid encodings, left out", invalid_mass(bundle, texts[: size(20, 2)]), "of 1", None,
                       floor=0.0, ceiling=1.0)
    return conclude(
        "byte-level-smollm2",
        paper="About 18 % better fill-in-the-middle coding when prompts end inside a token, above token healing "
              "(abstract).",
        here="Behind a cut inside a token the true next character costs at least 0.1 bit less than with naive "
             "prompting, and less than with token healing.",
        arms=(*inside.values(), *anywhere.values()), trainings=0, seeds=(0,),
        expect=[better(inside["exact"], inside["naive"], least=0.1),
                better(inside["exact"], inside["healing"], bar="paper: abstract"),
                better(anywhere["exact"], anywhere["naive"]), at_most(invalid, 0.01)],
        controls=[better(inside["healing"], inside["naive"])],
        context=[context(f"{way} minus exact at a token's end", end[way].scores - end["exact"].scores, "bits", PEEK)
                 for way in WAYS[:2]])
