"""What four classifiers make of a photo into which another one creeps: cell by cell, and what each answer hangs on."""
from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.backbones.pictures import cut
from models.baselines.mae.method import EXAMPLES
from models.checkpoints import registry
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, line
from models.loops.attend import loop as attention
from models.papers.patch_mixing import exam, lens
from models.papers.patch_mixing.mixing import CELL, scattered
from models.papers.patch_mixing.network import answers, features
from models.trace import Chart, Cost, Edges, Fact, Field, Step, states
from models.trace.percent import percent
from models.trace.subject import from_example

VIT, VIT_MIXING, PLAIN, MIXING = ("photo-vit-plain-1", "photo-vit-mixing-1", "photo-conv-plain-1",
                                  "photo-conv-mixing-1")
TITLES = {VIT: "ViT", VIT_MIXING: "ViT + Patch Mixing", PLAIN: "CNN", MIXING: "CNN + Patch Mixing"}
OTHERS, SPARE = {one.title: one for one in EXAMPLES}, EXAMPLES[:2]
SPEAKS = {"weight": Field("Part of what decides the answer", "%", 0.0),
          "importance": Field("Speaks for this photo's class (above 0)", "points of probability", diverging=True)}
PATH = "plain torch (no statistics)"
LINKS = 6  # of a network that are drawn


@dataclass(frozen=True, eq=False)
class Contest:
    """Two photos and who looks at them. models: title -> network, the run's own last. own, foreign: the class that the
    networks together find likeliest in the visitor's whole photo, and the likeliest other one in the second.
    shown [S, S, 3], pixels [1, 3, S, S]: the visitor's photo; other_shown, other: the second. masks: M of every share
    [T, S, S], each inside the next, the last of what is asked for."""

    models: Mapping[str, torch.nn.Module]
    labels: Mapping[int, str]
    own: int
    foreign: int
    pixels: Tensor
    shown: np.ndarray
    other: Tensor
    other_shown: np.ndarray
    masks: Tensor
    attack: str

    @property
    def names(self) -> tuple[str, str]:
        return self.labels[self.own], self.labels[self.foreign]

    def area(self, step: int) -> np.ndarray:
        """How foreign every cell is [N], 0..1."""
        side = self.masks.shape[-1] // CELL
        return array(self.masks[step].float()).reshape(side, CELL, side, CELL).mean((1, 3)).ravel()

    def state(self, step: int) -> np.ndarray:
        return states(*np.where(self.area(step) >= 0.5, "merged", "visible"))

    def attacked(self, step: int, pixels: Tensor, other: Tensor) -> Tensor:
        return exam.attack(self.attack, pixels, other, self.masks[step : step + 1].to(pixels.device),
                           np.random.default_rng(exam.SEED))

    def picture(self, step: int) -> np.ndarray:
        """uint8 [S, S, 3]."""
        one, two = (torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() for image in
                    (self.shown, self.other_shown if self.attack != "black" else np.zeros_like(self.shown)))
        kind = "foreign" if self.attack == "black" else self.attack
        made = exam.attack(kind, one, two, self.masks[step : step + 1], np.random.default_rng(exam.SEED))
        return array(made[0].permute(1, 2, 0), np.uint8)


def shares(job: Job) -> tuple[float, ...]:
    """From nothing to what is asked for."""
    return exam.SHARES[: 1 + int(np.abs(np.array(exam.SHARES) - job.params.share).argmin())]


def growing(job: Job, side: int) -> Tensor:
    """M bool [T, S, S] of every share: cells are added in one random order."""
    rng = np.random.default_rng(job.seed)
    state = rng.bit_generator.state
    made = []
    for share in shares(job):
        rng.bit_generator.state = state  # the same order of cells for every share
        made.append(scattered(np.array([share]), rng, side=side, **exam.GRIDS.get(job.params.attack, {})))
    return torch.cat(made)


def contestants(job: Job) -> dict[str, torch.nn.Module]:
    """The run's own network, behind those beside it; the control, which stands beside them already, is shown alone."""
    beside = {TITLES[name]: job.companion(name).model for name in TITLES
              if job.method.control is not None and name != job.bundle.name}
    return beside | {TITLES[job.bundle.name]: job.model}


def second_photo(job: Job) -> np.ndarray:
    """The chosen one; another where that is the visitor's photo itself."""
    asked = OTHERS[job.params.other]
    return from_example(asked if asked.id != job.subject.name else SPARE[int(asked.id == SPARE[0].id)], "photo").image


@torch.inference_mode()
def contest(job: Job) -> Contest:
    """Which class is whose is asked of all four networks, so that the control is asked for the same."""
    every = {name: job.model if name == job.bundle.name else job.companion(name).model for name in TITLES}
    (shown, pixels), (other_shown, other) = (cut(image, job.model) for image in
                                               (job.subject.image, second_photo(job)))
    both = sum(answers(model, torch.cat([pixels, other])).float().softmax(-1) for model in every.values())
    own = int(both[0].argmax())
    both[1, own] = -1.0  # the two classes differ
    foreign, labels = int(both[1].argmax()), every[VIT].config.id2label
    return Contest(contestants(job), labels, own, foreign, pixels, shown, other, other_shown,
                   growing(job, pixels.shape[-1]), job.params.attack)


@torch.inference_mode()
def creeping(found: Contest) -> Iterator[Event]:
    """Mask: the photo with more and more foreign cells, and what every network says of it."""
    began, count = time.perf_counter(), len(found.masks)
    seen = torch.cat([found.attacked(step, found.pixels, found.other) for step in range(count)])
    told = {name: array(answers(model, seen).float().softmax(-1)) for name, model in found.models.items()}  # [T, C]
    ms = 1000 * (time.perf_counter() - began) / count
    yield Open("mask", attention.grid_layout((seen.shape[-1] // CELL,) * 2, found.shown).canvas, {}, count)
    for step, share in enumerate(exam.SHARES[:count]):
        yield Emit("mask", Step(f"{percent(share)} of the patches attacked", found.state(step),
                                note=said(found, told, step), picture=found.picture(step),
                                cost=Cost(len(told), ms=ms)))
    yield summed(found, told)


def said(found: Contest, told: Mapping[str, np.ndarray], step: int) -> str:
    """Who says what."""
    says: dict[str, list[str]] = {}
    for name, one in told.items():
        says.setdefault(found.labels[int(one[step].argmax())], []).append(name)
    return "; ".join(f"{label}: {', '.join(names)}" for label, names in says.items())


def summed(found: Contest, told: dict[str, np.ndarray]) -> Close:
    """Who still sees the photo's class, and both probabilities over the share."""
    (own, foreign), share = found.names, percent(exam.SHARES[len(found.masks) - 1])
    charts = [line(f"Probability of {label}, {whose}", "%", {name: 100 * one[:, kind] for name, one in told.items()},
                   x="step", caption=f"{way} is better. One step more: 10 % more of the patches.")
              for label, whose, kind, way in ((own, "this photo's class", found.own, "Higher"),
                                              (foreign, "the other photo's class", found.foreign, "Lower"))]
    facts = {"own": Fact(f"Probability of {own}, {share} attacked", 100 * float(last(told)[-1, found.own]), "%",
                         "higher")}
    facts |= {f"of {name}": Fact(f"The same of {name}", 100 * float(one[-1, found.own]), "%", "higher")
              for name, one in list(told.items())[:-1]}
    still = [name for name, one in told.items() if one[-1].argmax() == found.own]
    lost = [f"{name} says {found.labels[int(one[-1].argmax())]}" for name, one in told.items()
            if name not in still]
    verdict = f"still say {own}: {', '.join(still)}" if still else f"none says {own} any more"
    return Close("mask", f"With {share} of the patches attacked, {verdict}" + "".join(f"; {one}" for one in lost) + ".",
                 (*charts, *shipped_curves(found.attack)), facts, path=PATH)


def last(of: Mapping[str, Any]) -> Any:
    """What is the run's own."""
    return of[next(reversed(of))]


def shipped_curves(attack: str) -> tuple[Chart, ...]:
    """Accuracy on held-out photos under a growing attack, as it was measured when the weights were shipped."""
    paths = {title: registry.SHIPPED / name / "attacks.json" for name, title in TITLES.items()}
    paths["CNN + CutMix"] = registry.SHIPPED / MIXING / "photo-conv-cutmix-1.json"
    kind = "black" if attack == "black" else "foreign"
    found = {title: json.loads(path.read_text("utf-8"))[kind] for title, path in paths.items() if path.is_file()}
    what = "black patches" if kind == "black" else "patches of another class"
    return (line(f"Right on held-out photos, {what}", "% of 500 photos", {k: np.array(v) for k, v in found.items()},
                 x="patches attacked in %", by_step=False, reference=2.0,
                 caption="Higher is better. Dashed: chance among 50 classes."),) if found else ()


@torch.inference_mode()
def attributed(job: Job, found: Contest) -> Iterator[Event]:
    """Attend: on the same mixed picture, what the answer of every network hangs on, and how far its cells hear."""
    step, area = len(found.masks) - 1, found.area(-1)
    seen, picture = found.attacked(step, found.pixels, found.other), found.picture(step)
    masks = lens.masks(job.params.masks, seen.shape[-1], job.generator())
    yield Open("attend", attention.grid_layout((int(len(area) ** 0.5),) * 2, picture).canvas, SPEAKS, len(found.models))
    parts, moves, heard, own = {}, {}, {}, area < 0.5
    for name, model in found.models.items():
        began = time.perf_counter()
        row = array(lens.hearing(lambda x, m=model: features(m, x), seen).cpu())  # [N, N]
        behind = (lens.through(lambda x, m=model: answers(m, x).softmax(-1), seen, masks), masks, found.own,
                  found.foreign)
        s, moves[name] = array(lens.importance(*behind)), 100 * lens.moves(*behind, area)
        parts[name], heard[name] = 100 * lens.on_foreign(s, area), 100 * float((row[own] @ area).mean())
        told = answers(model, seen).float().softmax(-1)[0]
        note = (f"says {found.labels[int(told.argmax())]} ({percent(float(told.max()))}); of the importance "
                f"{percent(parts[name] / 100)} (± {moves[name]:.0f} points, by the masks) on attacked patches, "
                f"{percent(area.mean())} of the picture")
        cost = Cost(len(masks) + len(area) + 1, ms=1000 * (time.perf_counter() - began))
        fields = {"importance": s, "weight": 100 * abs(s) / max(abs(s).sum(), 1e-9)}
        yield Emit("attend", Step(name, found.state(step), "layer", fields=fields, picture=picture, note=note,
                                  cost=cost, edges={"hears": intruders(row, area)}))
    yield weighed(parts, moves, heard, float(100 * area.mean()))


def intruders(rows: np.ndarray, area: np.ndarray) -> Edges:
    """The strongest links from own cells to attacked ones that they hear."""
    between = np.where((area < 0.5)[:, None] & (area >= 0.5), rows, 0.0)
    query, key = np.unravel_index(np.argsort(-between, axis=None)[:LINKS], between.shape)
    return Edges(query.astype(np.int32), key.astype(np.int32), between[query, key].astype(np.float32))


def weighed(parts: dict[str, float], moves: dict[str, float], heard: dict[str, float], area: float) -> Close:
    """What lies on the attacked patches, in % by network; nobody is called the best by less than the masks decide."""
    names = tuple(parts)
    charts = (bars("What lies on the attacked patches", "network", "%", {
        "importance for the answer": [parts[name] for name in names],
        "what moves the other patches' features": [heard[name] for name in names]}, names, reference=area,
        caption="Lower: more selective. Dashed: their share of the picture; few masks pull towards it."),)
    facts = {"own": Fact("Importance on attacked patches", last(parts), "%")}
    facts |= {f"of {name}": Fact(f"The same of {name}", parts[name], "%") for name in names[:-1]}
    facts["area"] = Fact("Their share of the picture", area, "%")
    story = (f"{percent(last(parts) / 100)} of what decides the answer of {names[-1]} lies on the attacked patches "
             f"(± {last(moves):.0f} points, by the masks); they are {percent(area / 100)} of the picture.")
    return Close("attend", story + first(parts, moves), charts, facts, path=PATH)


def first(parts: Mapping[str, float], moves: Mapping[str, float]) -> str:
    """Who is the most selective, where other masks would say so, too; nothing of one network alone."""
    if len(parts) == 1:
        return ""
    least, second = sorted(parts, key=parts.__getitem__)[:2]
    if parts[second] - parts[least] > 2 * np.hypot(moves[least], moves[second]):
        return f" It is least for {least} ({percent(parts[least] / 100)})."
    return " The networks are too close to tell apart with so few masks."
