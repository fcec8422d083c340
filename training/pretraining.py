"""The recipe kind of several arms of one pretraining: they start alike, see the same and differ in one thing."""
from __future__ import annotations

import json

import torch

from training.catalog import recipe
from training.kinds import FineTune
from training.trainer import Recipe


class PretrainingArm(FineTune):
    """One arm of a pretraining of which there are two or more: all go on from `start` with the same steps on the same
    batches and differ in one thing. Stands before another kind: class PhotoLUT(PretrainingArm, PhotoMAE). It goes on
    from its start without being told (--warm), and all arms get the same --seed, one that the start has not seen.

    control: the arm without that thing; "" is the control itself, which others name. An arm that differs from it in a
    setting of ALIKE, or in anything that the control's batch holds (its own batch may hold more), is refused; `differs`
    names what of these is the thing or goes with it, and why. new, left: how the names begin of what this network has
    and the start has not, and of what it does not take over.
    """

    ALIKE = ("start", "steps", "batch_size", "lr", "lr_adam", "weight_decay", "warmup", "decay", "clip", "ema",
             "warm_lr", "autocast")
    continues, ship = True, "delta3:64"
    steps, looks = 350, 10  # looks: points of the curve, which is kept instead of snapshots
    control, differs = "", {}
    new = left = ()

    def __init__(self, seed: int = 0):
        super().__init__(seed)
        self.curve = []

    trunk = property(lambda self: self.start)

    def build(self):
        """The network of the kind behind it, with what is fixed there fixed; its weights come with `warm`."""
        return super(FineTune, self).build()

    def fill(self, model, state):
        missing, over = model.load_state_dict(state, strict=False)
        stray = [name for names, known in ((missing, self.new), (over, self.left)) for name in names
                 if not name.startswith(tuple(known))]
        if stray:
            raise ValueError(f"{self.name} and {self.start} do not share {stray[0]}: name it in `new` or `left`")

    def warm(self, model):
        if self.control:
            self.differs_in_one_thing(recipe(self.control))
        super().warm(model)

    def differs_in_one_thing(self, kind: type[Recipe]) -> None:
        """ValueError where this arm and its control are not trained alike."""
        unlike = [name for name in self.ALIKE if getattr(self, name, None) != getattr(kind, name, None)]
        other = kind(self.seed)
        other.__dict__ |= {name: one for name, one in self.__dict__.items() if name not in other.__dict__}  # the data
        mine, theirs = self.batch(0, 0.0), other.batch(0, 0.0)
        unlike += [name for name in theirs if name not in mine or not torch.equal(mine[name], theirs[name])]
        for name in unlike:
            if name not in self.differs:
                raise ValueError(f"{self.name} and {kind.name} differ in {name}: take that back, or say why in "
                                 "`differs`")

    def point(self, model) -> dict[str, float]:
        """What the curve keeps of a moment."""
        return self.quick(model)

    @torch.no_grad()
    def after_step(self, model, step, progress):
        super().after_step(model, step, progress)
        if progress >= len(self.curve) / self.looks:
            with torch.autocast(next(model.parameters()).device.type, torch.bfloat16, self.autocast):
                self.curve.append({"step": step, **self.point(model.eval())})
            model.train()

    def state(self):
        return {**super().state(), "curve": self.curve}

    def load_state(self, state):
        super().load_state(state)
        self.curve = state["curve"]

    def save(self, model, folder):
        super().save(model, folder)
        (folder / "curve.json").write_text(json.dumps(self.curve) + "\n")
