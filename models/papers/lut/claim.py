"""LUT's claim, small: do visible tokens that are asked for the whole picture make better features, and wider attention?

One training of each arm, equal steps on the same photos; the sceptic's arm is told of the very view that it sees.
"""
from __future__ import annotations

import numpy as np
import torch

from models.backbones.photo_views import second_view
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.arms import Arm, points
from models.claims.encoder_lab import PARTS as EXAM
from models.claims.encoder_lab import EncoderExam, least, mae_encoder, metric, power, untrained
from models.claims.harness import Budget, Claim, better, conclude, context
from models.claims.probe import held_out, in_batches
from models.loops.attend.distance import last_third
from models.loops.mask import loop, photos
from models.papers.lut import context as net
from models.papers.lut import record

NAMES = {"LUT": "photo-lut-1", "one view": "photo-lut-same-1", "MAE": "photo-mae-2-more", "start": "photo-mae-2"}
PARTS = "linear", "distance", "rank"
HIDDEN, SEEN = 48, 512  # patches; the first photos were looked at while training


def measure(lab: Lab) -> Claim:
    """Linear probe, attention distance of the last third of the layers and effective rank, each on whole photos."""
    models = {name: load(checkpoint).model for name, checkpoint in NAMES.items()}
    encoders = {name: mae_encoder(model) for name, model in (models | {"floor": untrained(models["start"])}).items()}
    found = EncoderExam(lab).take(encoders, PARTS)
    found["distance"] = {name: last_third(one, 1).mean(1) for name, one in found["distance"].items()}
    floors = {part: found[part].pop("floor") for part in PARTS}
    arms = {part: metric(part, floors[part] if part == "linear" else None).arms(
        found[part], NAMES, Budget(64, "patches")) for part in PARTS}
    probe, wide, rank = (arms[part] for part in PARTS)
    return conclude(
        "lut",
        paper="LUT (arXiv 2310.13593): ViT-B fine-tunes to 84.2 % on ImageNet, 0.6 points above MAE; attention reaches "
              "further and the spectrum of the features falls more slowly.",
        here="350 steps behind the same MAE on the same photos, LUT against plain MAE: a linear probe gains at least "
             "1.5 points, attention in the last third of the layers reaches at least 5 % further, and the effective "
             "rank of the patch tokens is at least 5 % higher; each also by more than another seed may change.",
        arms=tuple(one for part in arms.values() for one in part.values()), trainings=1, seeds=(2,),
        controls=[better(probe["LUT"], probe["start"], least=least("linear"))],
        expect=[better(probe["LUT"], probe["MAE"], least=max(1.5, least("linear"))),
                *(better(part["LUT"], part["MAE"], least=bar(name, part["MAE"]), by="percent")
                  for name, part in (("distance", wide), ("rank", rank)))],
        context=[*sceptic(arms), *losses(lab, models), *map(power, PARTS),
                 *(context(f"an untrained network's {name}", floors[name], EXAM[name].unit, "more is not better in "
                           "itself") for name in PARTS[1:]),
                 context("multiply-adds of a training step, LUT over MAE", work_ratio(models["LUT"], 2), "times",
                         "a count: two sparse views, and the teacher reads both complete; with one view "
                         f"{work_ratio(models['LUT'], 1):.1f} times")],
        would_take="several trainings of 10,000 steps for each arm, and arms of equal multiply-adds")


def bar(part: str, control: Arm) -> float:
    """5 % of the control's mean, or what another seed may change, in % of it."""
    return max(5.0, 100 * least(part) / float(control.scores.mean()))


def sceptic(arms: dict) -> list:
    """What is left of each gain without the second view, and what of it the second view brings."""
    why = "the sceptic's arm: both views are one photo in its own colours; still disjoint patches, still a teacher"
    return [context(f"{one['LUT'].metric.name}: {mine} minus {other}", one[mine].scores - one[other].scores,
                    points(one["LUT"].metric.unit), why)
            for one in arms.values() for mine, other in (("one view", "MAE"), ("LUT", "one view"))]


def passes(model, views: int) -> tuple[int, int]:
    """Multiply-adds of one photo's forward pass in training: the student's, and the teacher's over so many whole views.
    """
    student = loop.work(model, 64 - HIDDEN, 64)[1] + loop.encoder_work(model, 64 - HIDDEN, 64)[1]
    return student + record.heads(model, 4), views * record.whole(model, 64).macs


def work_ratio(model, views: int) -> float:
    """Of a step, over one of plain MAE. Going back costs twice the way there; the teacher does not go back."""
    student, teacher = passes(model, views)
    return (3 * student + teacher) / (3 * loop.work(model, 64 - HIDDEN, 64)[1])


def losses(lab: Lab, models: dict) -> list:
    """Error of hidden patches, and whether a quarter of view 1 finds its photo's complete view 2 among all others."""
    pixels = held_out(lab, lab.size(SEEN, 0) + lab.size(1000, 24))[0][lab.size(SEEN, 0) :]
    dice = torch.Generator().manual_seed(7)
    noise, v = torch.rand(len(pixels), 64, generator=dice), second_view(pixels, dice)
    error = {name: photos.hidden_mean(*photos.errors(model, pixels, noise, HIDDEN)).numpy()
             for name, model in models.items()}
    rows = [context(f"error of the hidden patches, {name} minus MAE", error[name] - error["MAE"], loop.UNIT,
                    "the paper gives no number; lower is better") for name in ("LUT", "one view")]
    how = {"LUT": "guess and whole view", "MAE": "mean tokens"}
    return rows + [context(f"complete view 2 found among {len(pixels):,}, {name}", own(models[name], pixels, v, noise),
                           "% of photos", f"nearest by {what}, from a quarter of view 1") for name, what in how.items()]


def own(model, u: torch.Tensor, v: torch.Tensor, noise: torch.Tensor) -> np.ndarray:
    """100 [K] where the nearest complete view is the photo's own. Cosines of what is left without the common mean."""
    pairs = zip(u.split(100), noise.split(100))
    q = torch.cat([net.guess(model, photos.encode(model, *pair, HIDDEN)[0]).detach() for pair in pairs])
    q, y = (torch.nn.functional.normalize(one - one.mean(0), dim=1)
            for one in (q, in_batches(lambda part: net.told(model, part), v)))
    return 100.0 * ((q @ y.T).argmax(1) == torch.arange(len(q))).numpy()
