"""Networks that draw scenes coarse to fine, as pyramids of scene-mvq-1: their lessons and their losses."""
import numpy as np
import torch
from torch.nn import functional as F

from models.checkpoints.store import load
from training.export import figure
from training.painted import ScenePainter, told
from training.trainer import rng_of
from training.trunks.scene_mvq import drawn

TOKENIZER, ENOUGH = "scene-mvq-1", 0.95  # ENOUGH: parser score of its reconstructions


class PyramidPainter(ScenePainter):
    """size: pictures of a batch that are read in whole; more: those read up to the map of `coarse` only: nobody looks
    ahead, so a part is exact, and there the picture is decided by few tokens."""

    size, more, coarse = 12, 64, 4
    compile = False

    def prepare(self, folder):
        shipped = load(TOKENIZER, device="cpu", dtype="float32")
        reached, self.tokenizer = shipped.card["metrics"]["parser score of reconstructions"]["value"], shipped.model
        if reached < ENOUGH:
            raise ValueError(f"{TOKENIZER} reaches {reached} on its own pictures: train it to {ENOUGH} first")

    def place(self, device):
        if device.type == "cpu":  # the fused kernel's backward pass with a mask takes as long as all the rest
            torch.backends.cuda.enable_flash_sdp(False)

    def batch(self, step, progress):
        return self.lesson(rng_of(self.seed, step), self.size + self.more, self.dropout)

    @torch.no_grad()
    def lesson(self, rng, size: int, dropout: float = 0.0) -> dict:
        """ids [B, L], the features [B, L - 1, F] that teacher forcing reads, and words [B, C] in any order."""
        things, images = drawn(rng, size)
        found = self.tokenizer.quantise(self.tokenizer.features(images))
        cond = torch.from_numpy(told(things, rng, dropout))
        return {"ids": found.ids, "features": self.tokenizer.inputs(found.sums), "cond": cond}

    def losses(self, model, batch, whole: int | None = None) -> list:
        """Cross-entropy of every scale, nats per token; only the first `whole` pictures are read in full."""
        whole = len(batch["ids"]) if whole is None else whole
        short = model.place(self.coarse - 1).stop
        parts = [(slice(0, whole), model.length), (slice(whole, None), short)]
        sums, counts = torch.zeros(model.length), torch.zeros(model.length)
        for rows, tokens in parts:
            ids = batch["ids"][rows, :tokens]
            if len(ids):
                logits = model(batch["features"][rows, : tokens - 1], batch["cond"][rows]).float()
                each = F.cross_entropy(logits.transpose(1, 2), ids, reduction="none").sum(0)  # [tokens]
                sums = sums + F.pad(each, (0, model.length - tokens))
                counts[:tokens] += len(ids)
        return [(sums / counts)[model.place(scale)].mean() for scale in range(len(model.scales))]

    def loss(self, model, batch, progress):
        """A scale counts with its side p, not with its p * p tokens: the few coarse ones decide, and time is short."""
        found = self.losses(model, batch, self.size)
        total = sum(side * one for side, one in zip(model.scales, found, strict=True)) / sum(model.scales)
        return total, {f"ce{side}": one.detach() for side, one in zip(model.scales, found, strict=True)}

    @torch.no_grad()
    def evaluate(self, model, n: int = 96):
        found, batch = super().evaluate(model, n), self.lesson(np.random.default_rng(77), n)
        right = (model(batch["features"], batch["cond"]).argmax(-1) == batch["ids"]).float().mean(0)
        for scale, (side, nats) in enumerate(zip(model.scales, self.losses(model, batch), strict=True)):
            share, size = right[model.place(scale)].mean(), f"at {side} x {side}"
            found["metrics"] |= {f"cross-entropy {size}": figure(nats, "nats per token", n * side**2),
                                 f"accuracy {size}": figure(share, "share", n * side**2)}
        return found
