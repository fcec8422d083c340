"""MixedAE's claim, small: are siblings found by looking, and what does mixing do to features?

One training of each arm, equal steps on the same photos. Items of the first metric are mixed pictures of held-out
photos that no rate was chosen on.
"""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.encoder_lab import EncoderExam, least, mae_encoder, metric, power, untrained
from models.claims.harness import Budget, Claim, Metric, as_good, at_least, at_most, better, conclude, context
from models.claims.probe import TRAIN, fitted, held_out
from models.papers.mixedae import mixtures as net
from models.papers.mixedae.network import projection
from models.papers.mixedae.record import CHANCE

FULL, NAIVE, MORE = "photo-mixed-1", "photo-mixed-naive-1", "photo-mae-2-more"
SEEN = 200  # the first held-out photos were looked at while training
BY_COLOUR = "patches of nearest mean colour"
AFTER = "MixedAE, projection trained afterwards", "naive mixing, projection trained afterwards"


def measure(lab: Lab) -> Claim:
    """Siblings among kept keys, nearest tokens and by colour alone; a linear probe of whole photos."""
    full, naive, more = (load(name).model for name in (FULL, NAIVE, MORE))
    pixels = held_out(lab, lab.size(SEEN + 2000, 96))[0][lab.size(SEEN, 0) :]
    found = {name: net.read(model, net.exam(model, pixels, told)[1]) for name, model, told in (
        ("MixedAE", full, False), ("naive mixing", naive, False), ("with segment vectors", full, True))}
    keys, ends, projected = ({name: one[where].numpy() for name, one in found.items() if where in one}
                             for where in net.READ)
    projected |= {name: afterwards(lab, one, pixels) for name, one in zip(AFTER, (full, naive))}
    projected[BY_COLOUR] = colours(pixels)
    late, final, after = (Metric(f"siblings among the {where}", "%", floor=CHANCE, ceiling=100.0).arms(
        scores, {name: NAIVE if name.startswith("naive") else FULL for name in scores if name != BY_COLOUR},
        Budget(net.KEPT, "patches")) for where, scores in zip(net.READ, (keys, ends, projected)))
    probe = probes(lab, {"MixedAE": full, "naive mixing": naive, "MAE": more})
    return conclude(
        "mixedae",
        paper="MixedAE (arXiv 2303.17152), ViT-B: 0.3 points more photos of ImageNet named rightly than with MAE, 1.7 "
              "mIoU on ADE20K, 0.9 AP on COCO; mixing photos without its rules makes features worse.",
        here="Four 64 x 64 photos in one picture, no segment vectors. Siblings are at least 60 % of the keys kept late "
             "and of the nearest projected tokens; under naive mixing, which has no projection, at most 40 % of the "
             "keys and of the nearest final tokens. By a linear probe naive mixing is no better than MAE.",
        arms=(*late.values(), *final.values(), *after.values(), *probe.values()), trainings=1, seeds=(net.EXAM,),
        controls=[better(after["with segment vectors"], after["MixedAE"])],
        expect=[at_least(late["MixedAE"], 60), at_most(late["naive mixing"], 40), at_least(after["MixedAE"], 60),
                at_most(final["naive mixing"], 40), better(after["MixedAE"], after[BY_COLOUR]),
                as_good(probe["MAE"], probe["naive mixing"], within=least("linear"))],
        context=[context("siblings found by a projection trained afterwards, MixedAE minus naive mixing",
                         after[AFTER[0]].scores - after[AFTER[1]].scores, "points",
                         "added after it was seen on photos that are not scored"),
                 context("linear probe, MixedAE minus MAE", probe["MixedAE"].scores - probe["MAE"].scores, "points",
                         "the paper's 0.3 points are less than the exam can show: not testable here"), power("linear")],
        would_take="several trainings of 30,000 steps of 256 photos for each arm")


def afterwards(lab: Lab, model: torch.nn.Module, pixels: Tensor) -> np.ndarray:
    """% of siblings [G] by a projection that the contrastive loss trains on the final tokens of the network, which
    stays as it is: what can be read off them, whatever it was trained for."""
    (*_, learn, known), (*_, check, m) = (net.exam(model, photos, seed=seed) for photos, seed in (
        (held_out(lab, lab.size(2000, 24), TRAIN)[0], 11), (pixels, net.EXAM)))
    dice = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        head = projection(model.config)

    def seen(tokens: Tensor) -> Tensor:
        return F.normalize(head(F.layer_norm(tokens, tokens.shape[-1:])), dim=-1)

    def loss() -> Tensor:
        some = torch.randint(len(learn), (32,), generator=dice)
        return net.contrast(seen(learn[some]), known[some])

    fitted(list(head.parameters()), loss, lab.size(400, 2), 2e-3)
    return net.siblings_kept(net.nearest_tokens(seen(check).detach()), m).mean(1).numpy()


def colours(pixels: Tensor) -> np.ndarray:
    """% of siblings [G] among the patches of nearest mean colour, in the same mixtures."""
    cells = pixels.unfold(2, 8, 8).unfold(3, 8, 8).mean((-1, -2)).flatten(2).transpose(1, 2)  # [G R, L, 3]
    m = net.mixing(len(cells) // net.SOURCES, cells.shape[1], torch.Generator().manual_seed(net.EXAM))
    mean = net.mix(cells, m)
    return net.siblings_kept((-torch.cdist(mean, mean)).topk(net.KEPT, -1).indices[:, None], m).mean(1).numpy()


def probes(lab: Lab, models: dict) -> dict:
    """Arms of a linear probe of whole photos, nothing hidden and nothing mixed."""
    named = {**models, "untrained": untrained(models["MAE"])}
    found = EncoderExam(lab).take({name: mae_encoder(model) for name, model in named.items()}, ("linear",))["linear"]
    return metric("linear", found.pop("untrained")).arms(found, dict(zip(models, (FULL, NAIVE, MORE))),
                                                         Budget(350, "steps behind photo-mae-2"))
