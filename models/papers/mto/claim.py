"""MTO's claim, small: is SimMIM's final probe reached in fewer steps, and do the losses do what they are for?

One training of each arm on the same batches and masks. The probe at every look of the training was kept photo by photo.
"""
from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.encoder_lab import POWER, EncoderExam, least, mae_encoder, metric, power
from models.claims.harness import Budget, Claim, Metric, Quantity, as_good, at_most, better, conclude, context
from models.claims.probe import held_out
from models.loops.attend.classifiers import curve
from models.loops.mask.photos import Photo, hidden_mean, noise_of
from models.papers.mto import losses, record

HIDDEN, NEVER = 39, 1.1  # of 64 patches; of SimMIM's steps, where its end is not reached in as many
ARMS = {"SimMIM": record.BASE, "MTO": record.NAME}


def measure(lab: Lab) -> Claim:
    """Steps to SimMIM's final probe, the exam's linear probe, and what 200 masked photos look like to both networks."""
    models = {name: load(at).model for name, at in ARMS.items()}
    named = {**models, "photo-mae-2": load(record.MAE).model}
    found = EncoderExam(lab).take({name: mae_encoder(model) for name, model in named.items()}, ("linear",))["linear"]
    floor = json.loads(POWER.read_text("utf-8"))["parts"]["linear"]["untrained"]  # of an untrained one on these photos
    part = metric("linear", floor).arms(found, {**ARMS, "photo-mae-2": record.MAE}, Budget(64, "patches"))
    (share, plain, l1), (_, mto, l1_mto) = (looks(at) for at in ARMS.values())
    rows, painted = np.stack([*mto[1:], plain[-1]], 1), np.array([[*l1_mto[1:], l1[-1]]])
    late = Quantity("SimMIM's probe, gained in the last fifth of its steps", plain[-1] - plain[-3], "points", None,
                    -100.0, 100.0)
    seen = {name: [np.stack(one) for one in zip(*masked(lab, model))] for name, model in models.items()}
    wasted, apart, alike = (
        kind.arms({of: rows[at] for of, rows in seen.items()}, ARMS, Budget(64 - HIDDEN, "seen patches"))
        for at, kind in enumerate((
            Metric("attention of seen patches to mask tokens, first layers", "%", "lower", 100 * HIDDEN / 65, 0.0),
            Metric("heterogeneity at the input", "bits", "higher", 0.0, 1.0),
            Metric("cosine of the mask vector with patches, where above 0", "cosine", "lower", 1.0, 0.0))))
    return conclude(
        "mto",
        paper="MTO (arXiv 2404.08330, abstract): pretraining is as good as it gets in about half of the epochs.",
        here="Losses of our own, SimMIM from photo-mae-2's encoder, 500 steps of 64 photos: SimMIM's final linear "
             "probe in at most 0.7 of its steps, if SimMIM raised it and has levelled off; no worse at the end. "
             "In the first layers seen patches give less attention to mask tokens, which differ more from seen ones at "
             "the input and whose vector is less like any patch.",
        arms=(*part.values(), *wasted.values(), *apart.values(), *alike.values()), trainings=1, seeds=(2,),
        controls=[better(part["SimMIM"], part["photo-mae-2"], least=least("linear")),
                  at_most(late, 2 * least("linear"), bar="ours")],
        expect=[as_good(part["MTO"], part["SimMIM"], within=least("linear")),
                better(wasted["MTO"], wasted["SimMIM"]), better(apart["MTO"], apart["SimMIM"]),
                better(alike["MTO"], alike["SimMIM"])],
        context=[*(context(f"{what}, {name}", rows[at], unit) for name, rows in seen.items() for at, (what, unit) in (
                     (3, ("L1 of hidden pixels", "normalised pixels")), (4, ("L_r: rises of heterogeneity", "bits")),
                     (5, ("heterogeneity after the last layer", "bits")))),
                 context("steps in which MTO reaches SimMIM's final probe", reached(share, rows), "of SimMIM's",
                         "paper: about 0.5, ours 0.7; it tells nothing where SimMIM ends below its start"),
                 context("SimMIM's probe on these photos, end minus start", plain[-1] - plain[0], "points"),
                 context("steps in which MTO reaches SimMIM's final L1", reached(share, -painted), "of SimMIM's",
                         f"{NEVER} where it is not reached in as many"), power("linear")],
        would_take="three trainings of 20,000 steps of 256 photos for each arm")


def looks(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the looks of a training: shares of its steps [T - 1] but the first, hits in percent [T, K], L1 [T]."""
    points = curve(name)
    bits = [np.unpackbits(np.frombuffer(bytes.fromhex(point["hits"]), np.uint8))[: record.PROBED] for point in points]
    steps = np.array([point["step"] for point in points[1:]])
    return steps / steps[-1], 100.0 * np.stack(bits), np.array([point["masked l1"] for point in points])


def reached(shares: np.ndarray, rows: np.ndarray) -> float:
    """The first of `shares` at which the mean is that of the last column; rows [K, T + 1]. NEVER if none."""
    *mine, other = rows.mean(0)
    return next((float(share) for share, one in zip(shares, mine) if one >= other), NEVER)


def masked(lab: Lab, model) -> Iterator[tuple]:
    """Of every photo, under one mask for both networks: see `measure`; at last L_r and heterogeneity at the end."""
    pixels, dice = held_out(lab, lab.size(200, 20))[0], np.random.default_rng(11)
    for one in pixels.split(1):
        hidden = noise_of(dice.permutation(64)[:HIDDEN], 64) > 0
        view = Photo(np.zeros((64, 64, 3), np.uint8), one, model.patchify(one), (8, 8))
        found, k = record.glance(model, view, hidden), losses.early(model.config.num_hidden_layers)
        rises = np.maximum(np.diff(found.h[k:]), 0).sum()
        l1 = hidden_mean((found.made.patches - view.target).abs().mean(-1), hidden.float())
        alike = np.maximum(found.cosine, 0).mean()
        yield 100 * record.wasted(found), found.h[0], alike, float(l1), rises, found.h[-1]
