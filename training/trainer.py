"""The one trainer: loop, optimisers, schedule, moving average, resume and log lines. It knows no paper."""
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

from training.optimisers import optimisers, schedule
from training.polite import Polite


class Recipe:
    """What one checkpoint adds to the trainer: a network, batches, a loss and figures.

    `batch` must depend on (seed, step, progress) alone, so that a resumed run continues bit for bit.
    `progress` runs from 0 to 1 over the budget, whether the budget is minutes or steps.
    """

    name = ""
    minutes = 10.0
    steps = 0  # the budget in steps instead, where nothing else is said
    lr = 0.02  # Muon, for the 2-D matrices inside the blocks
    lr_adam = 3e-3  # AdamW, for embeddings, norms and heads
    weight_decay = 0.05
    warmup = 0.02  # fractions of the budget
    decay = 0.6
    ema = 0.0  # 0 = off
    clip = 1.0
    compile = True
    autocast = True  # bf16
    look = 120.0  # seconds between looks at the validation figures (each also saves the state)
    pack = 0  # bits of a shipped weight (6 for what is new, 4 for controls); 0: half precision
    continues = False  # it always goes on from `start`, as with --warm
    start = ""  # the shipped checkpoint that --warm goes on from; "" is this one (version 2 goes on from version 1)
    replaces = ""  # the checkpoint that goes when this one comes; its name then opens this one
    weights_licence = "Apache-2.0"
    architecture = trained_on = data_licence = weak_at = budget_fraction = ""  # for the card

    def __init__(self, seed: int = 0):
        self.seed = seed

    def prepare(self, folder) -> None:
        """Reads data; `folder` is where derived files may be kept."""

    def build(self) -> torch.nn.Module:
        raise NotImplementedError

    def batch(self, step: int, progress: float) -> dict:
        raise NotImplementedError

    def loss(self, model, batch: dict, progress: float):
        """Scalar loss and a dict of scalars worth logging."""
        raise NotImplementedError

    def fresh(self, step: int) -> bool:
        """Whether the optimisers forget before this step what they have seen."""
        return False

    def after_step(self, model, step: int, progress: float) -> None:
        """Called after each update (teachers, snapshots)."""

    def state(self) -> dict:
        """Extra tensors to store when the run is saved."""
        return {}

    def load_state(self, state: dict) -> None:
        pass

    def quick(self, model) -> dict:
        """Cheap validation figures for the log, about every two minutes."""
        return {}

    def stop(self) -> bool:
        """Asked after each look: True ends the run early."""
        return False

    def place(self, device) -> None:
        """Moves what the recipe keeps beside the network."""

    def rate(self, name: str) -> float:
        """Factor on the learning rate of one parameter: below 1 where a network goes on from another's weights."""
        return 1.0

    warmed = False  # the run went on from the shipped weights
    warm_lr = 0.25  # of both rates then: at the full rate scene-mgm-1 unlearned more in 22 minutes than it learned

    def warm(self, model) -> None:
        """Puts the shipped weights into the network, for a run that goes on where the last one ended."""
        self.fill(model, self.shipped().state_dict())
        self.warmed = True
        self.lr, self.lr_adam = self.lr * self.warm_lr, self.lr_adam * self.warm_lr

    def fill(self, model, state: dict) -> None:
        """Puts another network's weights into this one."""
        model.load_state_dict(state)

    def shipped(self) -> torch.nn.Module:
        """The network that --warm goes on from, as it is shipped."""
        from training.export import read_shipped

        return read_shipped(self.start or self.name)

    def final(self, model) -> torch.nn.Module:
        """The network to ship."""
        return model

    def evaluate(self, model) -> dict:
        """{"metrics": {name: figure}, "trivial_baseline": {name: figure}} of the final weights; "headline" and
        "headline_beside" name those that the README shows, where they are not the first."""
        raise NotImplementedError

    def save(self, model, folder) -> None:
        """Writes config and weights (already half precision) in the standard layout of the library; here our own
        networks'."""
        from training.export import save_hub

        save_hub(model, folder)

    def compact(self, folder) -> str:
        """Makes what `save` wrote smaller; returns how the weights lie there now, "" for half precision."""
        from models.backbones import packing

        for path in folder.rglob("model.safetensors"):
            if self.pack and not packing.kind(path):
                packing.pack_file(path, self.pack)
        return f"{self.pack} bits a weight in groups of {packing.GROUP}" if self.pack else ""

    def read(self, folder) -> torch.nn.Module:
        """What `save` wrote, in float32: the figures are measured on it."""
        from models.checkpoints.registry import read

        return read(folder)

    def beside(self, folder) -> None:
        """Writes what stands beside the weights and is known only once they are measured."""


class Trainer:
    """Trains one recipe within a budget of minutes or steps, and can be stopped and resumed at any time."""

    def __init__(self, recipe: Recipe, minutes=None, steps=None, device="cpu", folder="runs", say=print, warm=False,
                 threads=None):
        self.recipe, self.device, self.say = recipe, torch.device(device), say
        self.steps = steps or (0 if minutes else recipe.steps)
        self.minutes, self.threads = minutes or recipe.minutes, threads
        self.path = Path(folder) / f"{recipe.name}-seed{recipe.seed}.pt"
        torch.manual_seed(recipe.seed)
        self.model = recipe.build()
        self.before = self.go_on() if warm or recipe.continues else {}
        self.model.to(self.device)
        recipe.place(self.device)
        self.ema = {k: v.detach().clone() for k, v in self.model.state_dict().items()} if recipe.ema else None
        self.optimisers = optimisers(self.model, recipe)
        self.step, self.elapsed, self.examples = 0, 0.0, 0
        if self.path.exists():
            self.load()

    def go_on(self) -> dict:
        """Starts from the shipped weights; returns what their card counted, for the next card."""
        from training.export import SHIPPED

        self.recipe.warm(self.model)
        card = json.loads((SHIPPED / (self.recipe.start or self.recipe.name) / "card.json").read_text())
        return {key: card[key] for key in ("recipe", "steps", "examples_seen", "minutes")}

    def progress(self) -> float:
        done = self.step / self.steps if self.steps else self.elapsed / (60 * self.minutes)
        return min(1.0, done)

    def budget(self) -> str:
        """The budget as it was given on the command line."""
        if not self.step:  # what needs no training is only written
            return "--export-only"
        return f"--steps {self.steps}" if self.steps else f"--minutes {self.minutes:g}"

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        state = {"model": self.model.state_dict(), "ema": self.ema, "extra": self.recipe.state(),
                 "optimisers": [o.state_dict() for o in self.optimisers],
                 "step": self.step, "elapsed": self.elapsed, "examples": self.examples, "before": self.before}
        torch.save(state, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)  # a kill never leaves half a file

    def load(self) -> None:
        state = torch.load(self.path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        for opt, saved in zip(self.optimisers, state["optimisers"], strict=True):
            opt.load_state_dict(saved)
        self.ema = state["ema"]
        self.recipe.load_state(state["extra"])
        self.step, self.elapsed, self.examples = state["step"], state["elapsed"], state["examples"]
        self.before = state.get("before", {})
        self.recipe.warmed = bool(self.before)

    def update(self, loss_fn) -> dict:
        """One optimiser step; returns the scalars of the loss."""
        recipe, progress = self.recipe, self.progress()
        if recipe.fresh(self.step):
            self.optimisers = optimisers(self.model, recipe)
        torch.manual_seed(recipe.seed * 1_000_003 + self.step)  # masks drawn in the loss resume bit for bit too
        batch = {k: v.to(self.device) for k, v in recipe.batch(self.step, progress).items()}
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=recipe.autocast):
            loss, logs = loss_fn(self.model, batch, progress)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip)
        factor = schedule(progress, recipe.warmup, recipe.decay)
        for opt in self.optimisers:
            for group in opt.param_groups:
                group["lr"] = group["peak"] * factor
            opt.step()
            opt.zero_grad(set_to_none=True)
        self.average()
        self.examples += len(next(iter(batch.values())))
        recipe.after_step(self.model, self.step, progress)
        return {"loss": float(loss.detach()), "norm": float(norm), **{k: float(v) for k, v in logs.items()}}

    @torch.no_grad()
    def average(self) -> None:
        if self.ema is None:
            return
        rate = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for key, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.ema[key].lerp_(value, 1 - rate)
            else:
                self.ema[key].copy_(value)

    def final(self) -> torch.nn.Module:
        """The network to ship: averaged weights if the recipe keeps an average."""
        if self.ema is not None:
            self.model.load_state_dict(self.ema)
        return self.recipe.final(self.model).eval()

    def run(self) -> torch.nn.Module:
        polite = Polite(self.threads)
        loss_fn = torch.compile(self.recipe.loss, dynamic=False) if self.recipe.compile else self.recipe.loss
        self.model.train()
        said = saved = time.time()
        since, sums = self.step, {}
        while self.progress() < 1:
            begin = time.time()
            polite.adjust()
            logs = self.update(loss_fn)
            # the first steps contain compilation: they do not count against the budget
            self.elapsed += min(time.time() - begin, 20.0)
            self.step += 1
            if not math.isfinite(logs["loss"]):
                raise ValueError(f"loss is {logs['loss']} at step {self.step}: lower the learning rate")
            sums = {k: sums.get(k, 0.0) + v for k, v in logs.items()}
            if time.time() - said > 20:
                self.report(sums, self.step - since, time.time() - said)
                said, since, sums = time.time(), self.step, {}
            if time.time() - saved > self.recipe.look:
                self.save()
                self.say(json.dumps({"step": self.step, "quick": self.quick()}))
                if self.recipe.stop():
                    break
                said = saved = time.time()
        self.save()
        return self.final()

    def quick(self) -> dict:
        self.model.eval()
        with torch.no_grad(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.recipe.autocast):
            figures = self.recipe.quick(self.model)
        self.model.train()
        return figures

    def report(self, sums: dict, count: int, seconds: float) -> None:
        mean = {k: round(v / count, 4) for k, v in sums.items()}
        line = {"step": self.step, "progress": round(self.progress(), 3), "min": round(self.elapsed / 60, 1),
                "ms": round(1000 * seconds / count), **mean}
        self.say(json.dumps(line))


def rng_of(seed: int, step: int) -> np.random.Generator:
    """The generator of one step's batch."""
    return np.random.default_rng((seed, step))
