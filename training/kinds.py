"""Kinds of recipes: what many checkpoints share, so that a recipe is a batch, a loss and the words of its card.

    FineTune   a shipped trunk, trained on: all of it, its head, or low-rank changes; shipped whole or as a difference
    Rounded    a fine-tune that learns in the few bits in which it is shipped
    Taught     a network that learns from the moving average of itself, which is shipped
    Moments    earlier moments of the training are shipped with it
    Beside     a small network beside a shipped trunk, which stays as it is
    Bits       which weights of a shipped trunk stay: a mask, shipped at one bit per weight
    PhotoArm   anything that looks at the photos: reading, cropping, batches, card

Language models have kinds of their own (training/language.py), and so have the arms of one pretraining, which differ in
one thing (training/pretraining.py).
"""
from __future__ import annotations

import copy
import json
import math
import shutil

import numpy as np
import torch
from torch.func import functional_call

from models.backbones import delta, lora, weight_masks
from models.backbones.packing import rounded, save_packed
from models.checkpoints import registry
from training import data
from training.export import SHIPPED, read_shipped
from training.photos import crop, normalise, preprocessor
from training.trainer import Recipe


class FineTune(Recipe):
    """A shipped trunk, trained on. Stands before another kind: class MeAP(Tuned, TextAR).

    tune: "all", "head", or "lora:16" for low-rank changes of every linear layer, merged at the end.
    ship: "" ships it whole (packed where `pack` says so), "delta4" as 4 bits of difference per weight ("delta3:64":
    one scale for 64), "rank:16" as a product of that rank ("rank:16:6": 6 bits for each of its numbers); all are
    refused on another revision of the trunk.
    """

    trunk, tune, ship = "", "all", ""

    def build(self):
        model, (how, _, number) = read_shipped(self.trunk), self.tune.partition(":")
        if how == "lora":
            return lora.adapt(model, int(number), 2.0 * int(number))
        if how == "head":
            model.requires_grad_(False).get_output_embeddings().requires_grad_(True)
        elif how != "all":
            raise ValueError(f"tune is 'all', 'head' or 'lora:RANK', not '{self.tune}'")
        return model

    def final(self, model):
        return lora.merge(model) if self.tune.startswith("lora") else model

    def compact(self, folder):
        if not self.ship:
            return super().compact(folder)
        from safetensors.torch import load_file
        path, options, trunk = folder / "model.safetensors", packed_as(self.ship), registry.trunk(self.trunk)
        delta.save_difference(load_file(str(path)), trunk, path, **options)
        much = f"{options['bits']} bits a weight" if options["bits"] else "half precision"
        much += f", in a product of rank {options['rank']}," if "rank" in options else ""
        return f"{much} of difference to {trunk.name} at {trunk.revision}"


def packed_as(ship: str) -> dict[str, int]:
    """What a recipe's `ship` asks of delta.save_difference."""
    how, *numbers = ship.split(":")
    if how == "rank":
        return dict(zip(("rank", "bits"), map(int, (*numbers, 0))))  # half precision where it says no bits
    return {"bits": int(how.removeprefix("delta")), **dict(zip(("group",), map(int, numbers)))}


class Rounded(Recipe):
    """Differences of 2 bits: each forward pass rounds them as the file will, the gradient goes past the rounding (the
    straight-through estimator, arXiv 1308.3432), and the word table stays the trunk's. Stands before a FineTune that
    goes on from another (`start`): class MeAPSecond(Rounded, MeAP)."""

    ship, bits = "delta2", 2

    def warm(self, model):
        super().warm(model)
        self.base = read_shipped(self.trunk).state_dict()
        table = model.get_input_embeddings().requires_grad_(False)
        table.load_state_dict(read_shipped(self.trunk).get_input_embeddings().state_dict())

    def rounded(self, model) -> dict[str, torch.Tensor]:
        """The matrices that learn, as they will be shipped."""
        return {name: (base := self.base[name]) + rounded(weight - base, self.bits)
                for name, weight in model.named_parameters() if weight.requires_grad and weight.dim() > 1}

    def loss(self, model, batch, progress):
        seen = {name: weight + (shipped - weight).detach() for (name, shipped), weight in
                ((one, model.get_parameter(one[0])) for one in self.rounded(model).items())}
        return super().loss(lambda *ids, **options: functional_call(model, seen, ids, options), batch, progress)

    def quick(self, model):
        model = copy.deepcopy(model)
        model.load_state_dict(self.rounded(model), strict=False)
        return super().quick(model)


class Taught(Recipe):
    """A network that learns from the moving average of itself. Stands before another kind: class PhotoHPM(Taught,
    PhotoMAE). The average is what teaches and what is shipped, so the trainer keeps none of its own.

    `with_teacher(model)` goes round what `build` answers; `stays`: the share of the average that a step leaves.
    """

    ema = 0.0
    teacher = None

    def with_teacher(self, model):
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        return model

    def stays(self, step: int, progress: float) -> float:
        raise NotImplementedError

    def warm(self, model):
        super().warm(model)
        self.teacher.load_state_dict(model.state_dict())

    def place(self, device):
        super().place(device)
        self.teacher.to(device)

    @torch.no_grad()
    def after_step(self, model, step, progress):
        new = 1 - self.stays(step, progress)
        for mine, theirs in zip(self.teacher.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():  # what a norm of batches counts, too
                mine.lerp_(theirs, new)

    def state(self):
        return {**super().state(), "teacher": self.teacher.state_dict()}

    def load_state(self, state):
        super().load_state(state)
        self.teacher.load_state_dict(state["teacher"])

    def quick(self, model):
        return super().quick(self.teacher)

    def final(self, model):
        return self.teacher


class Moments(Recipe):
    """Earlier moments of its training are shipped beside its end, each in a folder of its own with what is said of it
    (snapshot.json). Stands before another kind, whose `save` calls `save_moments`."""

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.moments = {}

    def keep(self, name: str, model, **note) -> None:
        """From now on this moment is kept; note: what is said of it."""
        self.moments[name] = {"note": note, "weights": copy.deepcopy(model.state_dict())}

    def state(self):
        return {**super().state(), "moments": self.moments}

    def load_state(self, state):
        super().load_state(state)
        self.moments = state["moments"]

    def save_moments(self, folder, bits: int) -> None:
        """Packed, because they only have to be looked at."""
        for name, moment in self.moments.items():
            (folder / name).mkdir(exist_ok=True)
            save_packed(moment["weights"], folder / name / "model.safetensors", bits)
            (folder / name / "config.json").write_text((folder / "config.json").read_text())
            (folder / name / "snapshot.json").write_text(json.dumps(moment["note"]) + "\n")


class Beside(Recipe):
    """A small network that learns beside a shipped trunk: the trunk is frozen, and what is shipped names its revision.

    network: a class whose `beside(base, name, revision)` makes an untrained one. It stands before another kind, too.
    """

    trunk, network = "", None
    compile = False  # a layer or two: compiling takes longer than it saves

    def prepare(self, folder):
        super().prepare(folder)
        self.base = read_shipped(self.trunk).requires_grad_(False)
        self.revision = json.loads((SHIPPED / self.trunk / "card.json").read_text("utf-8"))["sha256"][:12]

    def build(self):
        return self.network.beside(self.base, self.trunk, self.revision)

    def place(self, device):
        self.base.to(device)

    save = Recipe.save  # our own layout, whatever kind stands behind


class Bits(Recipe):
    """A mask over a shipped trunk's weights, which stay as they are: one score per weight is trained, and the signs of
    the scores are shipped, refused on another revision of the trunk. Stands before another kind.

    The sigmoid's slope grows from 1 to e^slope over the budget; the run ends early once nearly every mask is decided.
    """

    trunk, slope, enough = "", 15.0, 0.01  # enough: undecided masks as a share of those that stay
    lr, lr_adam, warmup, decay, clip = 0.0, 1e-3, 0.0, 0.02, math.inf  # AdamW at one rate, as the authors
    compile = False
    beta = undecided = 1.0  # the slope of now, and the share of undecided masks when it was last asked for

    def prepare(self, folder):
        super().prepare(folder)
        self.base = read_shipped(self.trunk).requires_grad_(False)

    def build(self):
        return weight_masks.MaskScores(weight_masks.maskable(self.base))

    def place(self, device):
        self.base.to(device)

    def soft(self, model, progress: float) -> dict[str, torch.Tensor]:
        """The masks of this moment, by the names of their weights."""
        self.beta = math.exp(self.slope * progress)
        return dict(zip(model.names, model.soft(self.beta)))

    def quick(self, model):
        self.undecided = weight_masks.undecided(model.soft(self.beta))
        return {"undecided": round(self.undecided, 4), "kept": round(weight_masks.kept(model.hard()), 5)}

    def stop(self):
        return self.undecided < self.enough

    def state(self):
        return {**super().state(), "beta": torch.tensor(self.beta)}

    def load_state(self, state):
        super().load_state(state)
        self.beta = float(state["beta"])

    def final(self, model):
        self.undecided = weight_masks.undecided(model.soft(self.beta))
        return model

    def save(self, model, folder):
        for path in (SHIPPED / self.trunk).glob("*.json"):
            if path.name != "card.json":
                shutil.copy(path, folder / path.name)
        delta.save_masks(model.hard(), registry.trunk(self.trunk), folder / "model.safetensors")

    def compact(self, folder):
        trunk = registry.trunk(self.trunk)
        return f"1 bit a weight: which weights of {trunk.name} at {trunk.revision} stay"


class PhotoArm(Recipe):
    """Anything that is trained on the 64x64 photos: `some` draws a batch, cropped and flipped at random."""

    batch_size = 128
    trained_on = "24,584 photos of 50 classes, 64x64 (photos64_train), random resized crops and flips"
    data_licence = "not stated; pictures from ImageNet, whose own terms are non-commercial research"
    weights_licence = "Apache-2.0 for the weights; the pictures they were trained on are for non-commercial research"

    def prepare(self, folder):
        pixels, labels = data.photos("train")
        self.train = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
        self.labels = torch.from_numpy(labels.astype("int64"))
        pixels, labels = data.photos("val")
        self.val = normalise(torch.from_numpy(pixels).permute(0, 3, 1, 2))
        self.truth = torch.from_numpy(labels.astype("int64"))

    def some(self, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Photos [B, 3, 64, 64] and which of the training photos they are [B]."""
        chosen = torch.from_numpy(rng.integers(len(self.train), size=self.batch_size))
        return normalise(crop(self.train[chosen], rng)), chosen

    def save(self, model, folder):
        model.config.dtype = "float16"
        model.save_pretrained(folder)
        preprocessor(folder)
