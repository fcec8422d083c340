"""Sparsifiner (arXiv 2303.13755): connectivity predictors on the frozen photo-vit-1, then the trunk under their masks.

Phase 1, photo-sparsifiner-predictor-1: predictors learn photo-vit-1's own attention; tokens flow densely, so student
and teacher are one network. Phase 2, photo-sparsifiner-1: predictors frozen, the trunk trains under the sparse masks;
photo-sparsifiner-dense-1 is its control, the same lessons and steps without a mask.
"""
import json
from functools import partial

import torch
from torch.nn import functional as F

from models.claims.probe import hits
from models.papers.sparsifiner import network as net
from models.trace.percent import percent
from training.export import mean_figure, read_shipped
from training.kinds import Beside, FineTune
from training.trainer import Recipe
from training.trunks.photo_vit import PhotoViT

TRUNK, KEEP, EXAM = "photo-vit-1", 0.25, 512
RATES = (0.05, 0.1, 0.25, 0.5, 0.75)


class PhotoPredictor(Beside, PhotoViT):
    name, trunk, network = "photo-sparsifiner-predictor-1", TRUNK, net.ConnectivityPredictors
    compile = True
    minutes, decay, warmup = 4.0, 0.6, 0.02
    lr, lr_adam = 0.0, 3e-3  # AdamW alone: the maps are no matrices inside a block; 8e-3 keeps less mass
    architecture = "ConnectivityPredictors: two maps d -> d/2, W_down and W_up [65, 10] per layer of photo-vit-1"
    trained_on = f"{TRUNK}'s attention on 24,584 photos of 50 classes, 64x64 (photos64_train), random crops and flips"
    weak_at = "Serves 64 patches and a class token only; ten maps in a layer cannot hold every neighbourhood."
    budget_fraction = "phase 1 of two: minutes where the plan has 2,000-3,000 steps"

    def after_step(self, model, step, progress):
        """No curve: see `quick`."""

    @torch.no_grad()
    def seen(self, pixels) -> list:
        """What the trunk looks with."""
        return net.dense_heads(self.base, pixels)

    def loss(self, model, batch, progress):
        return model.reconstruction(self.seen(batch["pixels"])) / len(batch["pixels"]), {}

    @torch.no_grad()
    def mass(self, scores: dict, pixels) -> dict:
        """Share [photos] of the dense attention of patches that the kept keys hold, mean over layers and heads."""
        found = {name: 0.0 for name in scores}
        for layer, (q, k) in enumerate(seen := self.seen(pixels)):
            for name, score in scores.items():
                found[name] = found[name] + net.kept_mass(q, k, net.chosen(score, KEEP)(layer, q, k)) / len(seen)
        return found

    def quick(self, model):
        device = next(self.base.parameters()).device
        found = self.mass({"learned": model.learned()}, self.val[:128].to(device))["learned"]
        return {"mass kept": round(float(found.mean()), 4)}

    def evaluate(self, model):
        self.base.cpu()
        scores = {kind: net.score_of(kind, model, torch.Generator().manual_seed(0)) for kind in net.KINDS}
        parts = [self.mass(scores, part) for part in self.val[:EXAM].split(128)]
        share = {name: torch.cat([part[name] for part in parts]).numpy() for name in scores}
        unit = f"of the dense attention, {percent(KEEP)} of the keys"
        made = {name: mean_figure(values, unit) for name, values in share.items()}
        return {"metrics": {"mass kept": made["learned"]},
                "trivial_baseline": {name: made[name] for name in ("random", "window", "oracle")}}


class PhotoSparsifiner(FineTune, PhotoViT):
    trunk, ship = TRUNK, "delta4"  # with its control it differs little from photo-vit-1
    name = "photo-sparsifiner-1"
    minutes, decay, warmup = 6.0, 0.8, 0.05
    lr, lr_adam = PhotoViT.lr * Recipe.warm_lr, PhotoViT.lr_adam * Recipe.warm_lr  # it goes on from a trained trunk
    architecture = "ViTForImageClassification as photo-vit-1, for the masks of photo-sparsifiner-predictor-1"
    trained_on = ("24,584 photos of 50 classes, 64x64 (photos64_train), random resized crops and flips, on from "
                  "photo-vit-1, which is also its teacher; every patch keeps 25 % of its keys")
    budget_fraction = "phase 2 of two: a few hundred steps of the plan's 10,000"
    keep = KEEP

    def prepare(self, folder):
        from models.checkpoints.store import load

        super().prepare(folder)
        self.teacher = read_shipped(TRUNK).requires_grad_(False)
        if self.keep < 1:
            self.predictors = load(PhotoPredictor.name, device="cpu", dtype="float32").model
            self.keys = net.chosen(self.predictors.learned(), self.keep)

    def place(self, device):
        self.teacher.to(device)
        if self.keep < 1:
            self.predictors.to(device)
        if device.type == "cpu":  # the fused kernel's backward pass with a mask takes as long as all the rest
            torch.backends.cuda.enable_flash_sdp(False)

    def evaluate(self, model):
        self.place(torch.device("cpu"))
        self.swept = self.sweep(model) if self.keep < 1 else {}
        return super().evaluate(model)

    @torch.no_grad()
    def sweep(self, model) -> dict:
        """Accuracy on the first EXAM held-out photos by kind of mask and share of kept keys: kind -> [[keep, hits]]."""
        def right(kind, keep):
            keys = net.chosen(net.score_of(kind, self.predictors, torch.Generator().manual_seed(0)), keep)
            found = hits(partial(net.logits, model, keys=keys), self.val[:EXAM], self.truth[:EXAM].numpy())
            return round(float(found.mean()), 4)

        return {kind: [[keep, right(kind, keep)] for keep in RATES] for kind in net.KINDS}

    def beside(self, folder):
        if self.swept:
            (folder / "sweep.json").write_text(json.dumps(self.swept) + "\n")

    def both(self, model, pixels):
        """Logits [B, C] and normed tokens [B, N, D] of the student, under its masks."""
        last = model.vit.layernorm(net.states(model, pixels, self.keys)[-1])
        return model.classifier(last[:, 0]), last

    def logits(self, model, pixels, batch):
        return self.both(model, pixels)[0]

    def loss(self, model, batch, progress):
        """Cross-entropy + 0.5 KL from the teacher's answers + 0.5 mean square from its last patch tokens."""
        with torch.no_grad():
            told = self.teacher(batch["pixels"], output_hidden_states=True)
            told_tokens = self.teacher.vit.layernorm(told.hidden_states[-1])
        logits, tokens = self.both(model, batch["pixels"])
        log, told_log = (one.float().log_softmax(-1) for one in (logits, told.logits))
        right = F.cross_entropy(logits.float(), batch["labels"])
        like = F.kl_div(log, told_log, reduction="batchmean", log_target=True)
        near = F.mse_loss(tokens[:, 1:].float(), told_tokens[:, 1:].float())
        return right + 0.5 * like + 0.5 * near, {"ce": right.detach(), "kl": like.detach(), "mse": near.detach()}


class PhotoSparsifinerDense(PhotoSparsifiner):
    name = "photo-sparsifiner-dense-1"
    architecture = "ViTForImageClassification as photo-vit-1: photo-sparsifiner-1's control, trained densely"
    trained_on = ("24,584 photos of 50 classes, 64x64 (photos64_train), random resized crops and flips, on from "
                  "photo-vit-1, which is also its teacher; no mask")
    keep, keys = 1.0, None
