"""The claim of DMT-JEPA: whether targets of likest neighbours tell things apart, and what the encoder gains.

Bars were set on 2026-11-30, before anything was measured. Scenes are drawn anew; pairs are patches of things, and the
background is none. Things are compact, so a context row counts pairs of patches side by side alone.
"""
from __future__ import annotations

from functools import partial

import numpy as np
import torch

from models.backbones.pictures import normalise
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.encoder_lab import EncoderExam, PhotoEncoder, least, metric, power
from models.claims.harness import Budget, Claim, Metric, Row, as_good, better, conclude, context, more_than_chance
from models.claims.probe import in_batches
from models.engine.statistics import effective_rank
from models.loops.attend.features import told_apart
from models.papers.dmt_jepa.network import JepaForPreTraining, encoded
from models.worlds import scenes

DMT, JEPA, START = "DMT-JEPA", "I-JEPA", "start"
SOURCE = {DMT: "photo-dmt-1", JEPA: "photo-jepa-1", START: "photo-mae-2"}
STEPS, PARTS = Budget(350, "steps behind photo-mae-2"), ("linear", "objects", "context", "rank")


def measure(lab: Lab) -> Claim:
    """Cosines of targets within and between things; then linear, object, shape and rank parts of the encoder exam."""
    models = {name: load(checkpoint).model for name, checkpoint in SOURCE.items()}
    pixels, shown = drawn(lab.size(1000, 40))
    targets = {name: in_batches(models[name].targets, pixels).float().numpy() for name in (DMT, JEPA)}
    apart = Metric("cosine of targets, within a thing minus between things", "cosine", floor=0.0, ceiling=2.0)
    told = apart.arms({name: told_apart(one, shown) for name, one in targets.items()}, SOURCE, STEPS)
    found = EncoderExam(lab).take(encoders(models), PARTS)
    nothing = {part: found[part].pop("untrained") for part in PARTS}
    probes = {part: metric(part, nothing[part]).arms(found[part], SOURCE, STEPS) for part in PARTS[:3]}
    linear, at_patches, context_part = probes.values()
    return conclude(
        "dmt-jepa",
        paper="DMT-JEPA (arXiv 2405.17995): a network that predicts the mean of a patch's likest neighbours tells "
              "things apart better: it names photos, outlines and finds things better (ImageNet, ADE20K, COCO; its "
              "abstract gives no numbers).",
        here="On fresh drawn scenes its targets tell patches of one thing from patches of two by a cosine gap at least "
             "10 % larger than I-JEPA's; two probes of single patches gain at least 2 points, and more than another "
             "seed would; a linear probe of photos loses no more than that.",
        arms=(*told.values(), *(arm for arms in probes.values() for arm in arms.values())), trainings=1, seeds=(2,),
        controls=[more_than_chance(linear[START], nothing["linear"], name="linear probe: the start over no training"),
                  more_than_chance(told[JEPA], 0.0)],
        expect=[better(told[DMT], told[JEPA], 10, by="percent"),
                better(at_patches[DMT], at_patches[JEPA], max(2.0, least("objects"))),
                better(context_part[DMT], context_part[JEPA], max(2.0, least("context"))),
                as_good(linear[DMT], linear[JEPA], max(0.5, least("linear")))],
        context=[*looked_at(models[DMT], targets, pixels, shown),
                 *(context(f"effective rank of a photo's tokens, {name}", one, "dimensions", "more is not better")
                   for name, one in (found["rank"] | {"untrained": nothing["rank"]}).items()),
                 *map(power, PARTS[:3])],
        would_take="the spec's 40,000 steps of 256 pictures and three seeds of each arm")


def drawn(count: int) -> tuple[torch.Tensor, np.ndarray]:
    """Scenes of two or more things that no arm has learned from: pixels [K, 3, 64, 64], things by patch [K, N]."""
    made = [things for things in scenes.several(2 * count, 4151) if len(things) > 1][:count]
    pictures = scenes.pictures(made)
    return normalise(pictures), np.stack([scenes.numbered_patches(scenes.numbered(one)) for one in pictures])


def encoders(models: dict) -> dict[str, PhotoEncoder]:
    """Who sits the exam; the start is asked without its class token, as the arms began."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        asked = models | {"untrained": JepaForPreTraining(models[JEPA].config).eval()}
    return {name: PhotoEncoder(partial(encoded, one.vit)) for name, one in asked.items()}


def looked_at(dmt, targets: dict, pixels: torch.Tensor, shown: np.ndarray) -> list[Row]:
    """What the first bar leaves open: without the picture's mean, side by side, before the head, and how many
    directions targets have."""
    own, name = in_batches(dmt.features, pixels).float().numpy(), "cosine within minus between things"
    ways = {"without each picture's mean": lambda one: told_apart(one - one.mean(1, keepdims=True), shown),
            "patches side by side": lambda one: told_apart(one, shown, near=True)}
    rows = [context(f"{name}, {way}, DMT-JEPA minus I-JEPA", counted(ask(targets[DMT]) - ask(targets[JEPA])), "cosine",
                    "shown beside the bar") for way, ask in ways.items()]
    rows.append(context(f"{name}, DMT-JEPA's own latents, before the head", told_apart(own, shown), "cosine",
                        "what its head begins with"))
    return rows + [context(f"effective rank of a scene's targets, {arm}", effective_rank(one), "dimensions",
                           "a collapsed pair has a low error and a low rank") for arm, one in targets.items()]


def counted(values: np.ndarray) -> np.ndarray:
    """Scenes that have such pairs."""
    return values[np.isfinite(values)]
