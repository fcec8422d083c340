"""MixedAE's claim, small: are siblings found by looking, and what does mixing do to features?

One training of each arm, equal steps on the same photos. Items of the first metric are mixed pictures of held-out
photos that no rate was chosen on.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.encoder_lab import EncoderExam, mae_encoder, metric, power, untrained
from models.claims.harness import Budget, Claim, Metric, as_good, at_least, at_most, better, conclude, context
from models.claims.probe import held_out
from models.papers.mixedae import mixtures as net
from models.papers.mixedae.record import CHANCE

FULL, NAIVE, MORE = "photo-mixed-1", "photo-mixed-naive-1", "photo-mae-2-more"
SEEN = 200  # the first held-out photos were looked at while training


def measure(lab: Lab) -> Claim:
    """Siblings by final tokens, by kept keys and by colour alone; linear and object probes of whole photos."""
    full, naive, more = (load(name).model for name in (FULL, NAIVE, MORE))
    seen_before = lab.size(SEEN, 0)
    pixels = held_out(lab, seen_before + lab.size(2000, 96))[0][seen_before:]
    found = {"MixedAE": net.exam(full, pixels)[1], "naive mixing": net.exam(naive, pixels)[1],
             "with segment vectors": net.exam(full, pixels, told=True)[1]}
    source, seen = {"MixedAE": FULL, "naive mixing": NAIVE, "with segment vectors": FULL}, Budget(net.KEPT, "patches")
    alike, kept = (Metric(f"siblings among {which}", "%", floor=CHANCE, ceiling=100.0) for which in (
        "the 15 others whose final tokens are likest", "the other kept keys, last third of the layers"))
    ends = {name: one[-1].numpy() for name, one in found.items()}
    likest = alike.arms({**ends, "colours": colours(pixels)}, source, seen)
    keys = kept.arms({name: net.late(one).numpy() for name, one in found.items()}, source, seen)
    part, objects = probes(lab, {"MixedAE": full, "naive mixing": naive, "MAE": more})
    why = "the paper's 0.3 points are less than the exam can show: not testable here"
    return conclude(
        "mixedae",
        paper="MixedAE (arXiv 2303.17152): with ViT-B 0.3 points over MAE on ImageNet, 1.7 mIoU on ADE20K, 0.9 AP on "
              "COCO; naive mixing makes features worse.",
        here="Four 64 x 64 photos in one picture, no segment vectors: siblings are at least 60 % of the 15 patches "
             "whose final tokens are likest, at most 40 % under naive mixing, more than by colour alone; at least 60 % "
             "of the keys kept late; a linear probe finds naive mixing no better than MAE, within 2 points.",
        arms=(*likest.values(), *keys.values(), *part.values()), trainings=1, seeds=(3,),
        controls=[better(likest["with segment vectors"], likest["naive mixing"])],
        expect=[at_least(likest["MixedAE"], 60), at_most(likest["naive mixing"], 40),
                better(likest["MixedAE"], likest["colours"]), at_least(keys["MixedAE"], 60),
                as_good(part["MAE"], part["naive mixing"], within=2)],
        context=[context("siblings among kept keys, MixedAE minus naive mixing",
                         keys["MixedAE"].scores - keys["naive mixing"].scores, "points", "the paper states no number"),
                 context("linear probe, MixedAE minus MAE", part["MixedAE"].scores - part["MAE"].scores, "points", why),
                 *(context(f"patches of the object told from others, {name} minus MAE", objects[name] - objects["MAE"],
                           "points", "close to what an untrained network's patches tell")
                   for name in ("MixedAE", "naive mixing")), power("linear"), power("objects")],
        would_take="several trainings of 30,000 steps of 256 photos for each arm")


def colours(pixels: Tensor) -> np.ndarray:
    """% of siblings [G] among the patches of nearest mean colour, in the same mixtures."""
    cells = pixels.unfold(2, 8, 8).unfold(3, 8, 8).mean((-1, -2)).flatten(2).transpose(1, 2)  # [G R, L, 3]
    m = net.mixing(len(cells) // net.SOURCES, cells.shape[1], torch.Generator().manual_seed(3))
    mean = net.mix(cells, m)
    return net.siblings_kept((-torch.cdist(mean, mean)).topk(net.KEPT, -1).indices[:, None], m).mean(1).numpy()


def probes(lab: Lab, models: dict) -> tuple[dict, dict[str, np.ndarray]]:
    """Arms of a linear probe of whole photos, nothing hidden and nothing mixed, and each one's score for objects."""
    named = {**models, "untrained": untrained(models["MAE"])}
    found = EncoderExam(lab).take({name: mae_encoder(model) for name, model in named.items()}, ("linear", "objects"))
    floor = found["linear"].pop("untrained")
    return metric("linear", floor).arms(found["linear"], dict(zip(models, (FULL, NAIVE, MORE))),
                                        Budget(350, "steps behind photo-mae-2")), found["objects"]
