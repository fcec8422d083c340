"""Hard Patches Mining: an EMA teacher predicts which patches will be rebuilt badly, and those are hidden first.

Paper: Bootstrap Masked Visual Modeling via Hard Patches Mining (arXiv 2312.13714; CVPR 2023 as "Hard Patches Mining for
Masked Image Modeling"), read with its reference code. At inference, as in training: the teacher sees the FULL picture,
its second decoder scores every patch, the n_hard highest are hidden and the rest of the mask is random. The true error
of a patch never decides what is hidden; it is only drawn beside the prediction. The losses stand in network.py.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import numpy as np
import torch

from models.baselines.mae.method import EXAMPLES, budget
from models.checkpoints.store import like, snapshots
from models.engine.method import Card, Emit, Job, Method, Turn
from models.engine.recording import bars
from models.engine.statistics import said, spearman
from models.loops.attend import loop as attention
from models.loops.attend.groups import looked_at
from models.loops.attend.model_adapters import middle
from models.loops.mask import loop
from models.loops.mask.photos import encode_whole, errors, masked_count, photo
from models.trace import Chart, Cost, Fact, Field, Step, states
from models.trace.params import Choice, Span

MASKS = 16  # random masks behind the true difficulty
FIELDS = {"score": Field("Predicted difficulty", "score"),
          "difficulty": Field("True difficulty", "", 0.0)}


@dataclass(frozen=True)
class Params:
    mask_ratio: Annotated[float, Span(0.25, 0.9, 0.05, "Mask ratio", "How much of the picture is hidden.",
                                      unit="of patches")] = 0.75
    progress: Annotated[int, Span(0, 100, 5, "Training progress", "Which snapshot of the teacher scores the picture, "
                                  "and how far the schedule is.", unit="%")] = 100
    share: Annotated[str, Choice(("schedule", "own"), "Hard share of the mask", "The paper's schedule grows from 0 to "
                                 "one half over training.", titles=("by the schedule", "my own"))] = "schedule"
    alpha: Annotated[float, Span(0.0, 1.0, 0.05, "My hard share", "Used when the share is your own; 1 hides only the "
                                 "patches predicted hardest.", unit="of the mask")] = 0.5
    target: Annotated[str, Choice(("raw", "normalised"), "Difficulty counted in", "The network was trained on raw "
                                  "pixels. Divided by each patch's own variance, flat patches look hard.",
                                  titles=("pixels", "patch variances"))] = "raw"


def hard_ratio(progress: float) -> float:
    """alpha_t: share of the mask that is hard, 0 -> 0.5 linearly over training (progress 0..1)."""
    return 0.5 * progress


def hard_mask(scores, alpha: float, mask_ratio: float = 0.75, generator=None):
    """Which patches to hide: the hardest first, the rest at random.

    scores [B, L] of the teacher. n_mask = L - int(L (1 - mask_ratio)), n_hard = int(n_mask alpha): the n_hard highest
    scores, plus n_mask - n_hard drawn uniformly without replacement from all other patches, per picture.
    Returns noise [B, L] (the n_mask largest are hidden: pass it to the network) and hard [B, L] (bool).
    """
    n_hard = int(masked_count(scores.shape[1], mask_ratio) * alpha)
    noise = torch.rand(scores.shape, generator=generator, device=generator.device if generator else scores.device)
    hard = torch.zeros_like(scores, dtype=torch.bool)
    hard.scatter_(1, scores.topk(n_hard, dim=1).indices, True)
    return noise.to(scores.device) + hard, hard  # hard patches exceed every random draw


def hard_share(params) -> float:
    """alpha: the paper's at this point of training, or the visitor's own."""
    return params.alpha if params.share == "own" else hard_ratio(params.progress / 100)


def choose(scores, alpha: float, mask_ratio: float, generator):
    """The mask of one picture from the teacher's scores [1, L]: masked-hard and masked-random patches."""
    noise, hard = hard_mask(scores.float().cpu(), alpha, mask_ratio, generator)
    ids = np.sort(noise[0].topk(masked_count(scores.shape[1], mask_ratio)).indices.numpy())
    return loop.Hidden(ids, tuple("masked-hard" if hard[0, patch] else "masked-random" for patch in ids))


def true_difficulty(model, pixels, mask_ratio: float, generator, *, normalised: bool = False, masks: int = MASKS):
    """Error [K, L] of every patch of K photos, mean over the random masks that hide it (NaN: none did), and every
    photo's error [K] under all of these masks. Never asked before a mask is chosen: it is drawn and measured only."""
    noise = torch.rand(masks, len(pixels), model.patches, generator=generator)
    n_mask = masked_count(model.patches, mask_ratio)
    found = [errors(model, one.expand(masks, -1, -1, -1), dice, n_mask, normalised)
             for one, dice in zip(pixels.split(1), noise.unbind(1))]
    error, mask = (torch.stack(part) for part in zip(*found))  # [K, R, L] each
    total, times = (error * mask).sum(1), mask.sum(1)
    return torch.where(times > 0, total / times, torch.nan), total.sum(1) / times.sum(1)


def snapshot(job: Job):
    """The teacher nearest to this training progress, of the final one and the shipped snapshots (subfolders that say
    their progress). Returns its bundle and its own progress in percent."""
    saved = [(note["progress"], folder) for note, folder in snapshots(job.bundle)]
    progress, folder = min([(1.0, None), *saved], key=lambda one: abs(one[0] - job.params.progress / 100))
    return (like(job.bundle, folder) if folder else job.bundle), round(100 * progress)


def run(job: Job):
    """Score the full picture, hide hard patches first, rebuild; then the true difficulty; then both arms' attention."""
    bundle, progress = snapshot(job)
    view = photo(job.subject.image, bundle.model)
    scores, alpha = bundle.model.difficulty(view.pixels), hard_share(job.params)
    hidden = loop.hidden_by(job, view, lambda: choose(scores, alpha, job.params.mask_ratio, job.generator()))
    exam = loop.sit(replace(job, bundle=bundle), view, hidden)
    score = scores[0].float().cpu().numpy()
    unit = "patch variances" if job.params.target == "normalised" else loop.UNIT
    steps = [Step("predicted difficulty of every patch", states(*["visible"] * view.count), fields={"score": score},
                  picture=view.shown, cost=scoring_cost(bundle.model, view)), *loop.exam_steps(job.model, view, exam)]
    yield loop.opening(view, len(steps) + 1, {**FIELDS, "difficulty": replace(FIELDS["difficulty"], unit=unit)})
    for step in steps:  # drawn while the true difficulty is measured
        yield Emit("mask", step)
    found = true_difficulty(bundle.model, view.pixels, job.params.mask_ratio, job.generator(1),
                            normalised=job.params.target == "normalised")
    true, random = found[0][0].numpy(), float(found[1])
    yield Emit("mask", Step(f"true difficulty, mean of {MASKS} random masks", hidden.states(view.count),
                            fields={"score": score, "difficulty": true}, picture=view.shown))
    facts = measure(exam, score, true, random, unit)
    yield loop.closing(job, exam, say(job, exam, facts, progress), facts, charts(exam, score, true, facts))
    yield from attend(job, bundle, view)


def measure(exam, score, true, random: float, unit: str) -> dict[str, Fact]:
    """How hard this exam is beside random ones, and how well difficulty was predicted beside the trivial baseline."""
    error = exam.mean("loss_normalised" if unit != loop.UNIT else "loss")
    return {"error": Fact("How hard this mask is: error of the hidden patches", error, unit, "higher"),
            "random": Fact(f"Same network, {MASKS} random masks", random, unit),
            "harder": Fact("Harder than random by", 100 * (error / random - 1), "%", "higher"),
            "rho": Fact("Predicted against true difficulty", spearman(score, true), "rank correlation", "higher"),
            "rho_variance": Fact("Patch variance against true difficulty", spearman(exam.errors["variance"], true),
                                 "rank correlation")}


def charts(exam, score, true, facts) -> tuple[Chart, ...]:
    hard = np.array(exam.hidden.why) == "masked-hard"
    groups = {"hidden as hard": exam.hidden.ids[hard], "hidden otherwise": exam.hidden.ids[~hard],
              "visible": np.setdiff1d(np.arange(len(score)), exam.hidden.ids)}
    dots = {name: np.stack([score[ids], true[ids]], 1) for name, ids in groups.items() if len(ids)}
    means, unit = [facts["error"].value, facts["random"].value], facts["error"].unit
    return (Chart("scatter", "Predicted and true difficulty", "predicted (score)", f"true ({unit})", dots,
                  caption="One dot per patch. Only the order matters: the loss trains pairs."),
            bars("The same network under this mask and under random masks", "mask", f"mean error ({unit})",
                 {"error": means}, ("this mask", f"{MASKS} random masks"), reference=means[1]))


def say(job: Job, exam, facts, progress: int) -> str:
    hard, harder = sum(why == "masked-hard" for why in exam.hidden.why), facts["harder"].value
    who = "Your mask" if job.choice is not None else (f"With {hard} of {len(exam.hidden.ids)} hidden patches predicted "
                                                      f"hard (teacher at {progress} % of training), this mask")
    return (f"{who} is {abs(harder):.0f} % {'harder' if harder >= 0 else 'easier'} than random masks for the same "
            f"network; predicted and true difficulty agree with rank correlation {said(facts['rho'].value)}, patch "
            f"variance alone {said(facts['rho_variance'].value)}.")


def attend(job: Job, bundle, view):
    """Last-layer attention on the full picture: trained with random masks, and with hard patches."""
    layout = attention.grid_layout(view.grid, view.shown, first=1, outside="[CLS]")
    models = job.companion("photo-mae-1").model, bundle.model
    found = [looked_at(model.vit, partial(encode_whole, model, view.pixels), layout, layers=[-1]) for model in models]
    both = attention.side_by_side(found, ("random masks (MAE), last layer", "hard patches (HPM), last layer"))
    (entropy, span), (entropy_hard, span_hard) = ([float(getattr(one.heads, name).astype(np.float32).mean())
                                                   for name in ("entropy", "span")] for one in found)
    sentence = (f"In its last layer the network trained with random masks looks {span:.1f} cells far on average "
                f"(entropy {entropy:.2f} nats), the one trained with hard patches {span_hard:.1f} "
                f"({entropy_hard:.2f} nats).")
    facts = {"entropy_hard": Fact("Entropy, hard patches", entropy_hard, "nats"),
             "entropy_random": Fact("Entropy, random masks", entropy, "nats")}
    yield from attention.record(layout, both, sentence=sentence, facts=facts,
                                costs=[scoring_cost(model, view) for model in models],
                                state=attention.marked(view.count, middle(view.grid)))


def scoring_cost(model, view) -> Cost:
    """One pass over the full picture."""
    rows, macs = loop.work(model, view.count, view.count)
    return Cost(1, rows, macs)


METHOD = Method(
    card=Card(
        id="hpm", title="Hard patches mining", tabs=("mask", "attend"), arxiv="2312.13714", year=2023, seed="A",
        summary="The model predicts which patches it will rebuild badly; a slowly moving copy of it hides those first.",
        flow="photo > *teacher predicts difficulty > *hard patches hidden > encoder on visible patches > "
             "decoder > error of every patch; error of every patch ~> *teacher predicts difficulty",
        look_at="The ticked patches were hidden because they were predicted hard. Is their error really higher?",
        not_covered="The video version, targets other than pixels, the ablation's absolute loss. Only the teacher is "
                    "shipped: it scores and it rebuilds. The loss predictor has a mask token, an input layer and a "
                    "plain scalar head of its own (the reference clones one mask token and averages a patch-sized "
                    "vector); the teacher's average is 0.95 to 0.99, not 0.999, because it has 1,000 steps.",
        unverified="The arXiv number is from memory."),
    params=Params, accepts="photo", checkpoints=("photo-hpm-1",), companions=("photo-mae-1",), run=run,
    examples=EXAMPLES, baseline="mae",
    baseline_params=lambda p: {"mask_ratio": p.mask_ratio, "rule": "random", "target": p.target},
    fixed={"attend": "Two networks stand side by side with their last layers: a head acts only behind its own layer."},
    turn=Turn("Hide the patches that you think are hardest to rebuild.", "error", budget))

