"""photo-align-1 and its control photo-align-rebuilt-1, and two arms of which only what they score is kept: what a
frozen photo-vit-1 makes of the patches that a student sees, or of those that it does not (arXiv 2211.08887).
All go on from photo-mae-2 on the photos of photo-mae-2-more.
"""
import json
from pathlib import Path

import numpy as np
import torch
from transformers import ViTMAEForPreTraining

from models.backbones.vit_mae import set_positions
from models.claims import Lab
from models.claims.encoder_lab import EncoderExam, mae_encoder
from models.loops.mask.photos import masked_count
from models.papers.maskalign import network as net
from training import data
from training.export import SHIPPED, mean_figure, read_shipped
from training.pretraining import PretrainingArm
from training.trunks.photo_mae import PhotoMAE

TEACHER, KEPT, HEADS = "photo-vit-1", 64 - masked_count(64, net.RATIO), ("feature_head", "heads.levels")


class FeatureDecoder(ViTMAEForPreTraining):
    """photo-mae, whose decoder says the teacher's features of every patch: the A top levels one behind another."""

    def __init__(self, config):
        super().__init__(config)
        self.decoder.decoder_pred = torch.nn.Identity()
        self.feature_head = torch.nn.Linear(config.decoder_hidden_size, net.LEVELS * config.hidden_size)
        self.post_init()

    def features(self, pixels, order, kept: int):
        """[A, B, L - K, D] of the patches behind the first `kept` of `order` [B, L], which are seen."""
        latents = self.vit.layernorm(net.blocks(self, pixels, order[:, :kept])[-1])
        told = self.decoder(latents, order.argsort(1)).logits[None]  # [1, B, L, width of the decoder]
        return torch.stack(self.feature_head(net.at(told, order[:, kept:])[0]).chunk(net.LEVELS, -1))


class PhotoAlignRebuilt(PretrainingArm, PhotoMAE):
    name, start, control, warm_lr = "photo-align-rebuilt-1", "photo-mae-2", "photo-mae-2-more", 0.5
    steps, new, left = 222, ("feature_head",), ("decoder.decoder_pred",)
    compile = False  # so few steps: compiling on a busy machine takes longer than it saves
    differs = {"steps": "a step costs more: 222 of photo-align-1 take the multiply-adds of 350 of plain MAE"}
    architecture = "The encoder of a ViTMAE, 6 x 192, whose decoder said the teacher's features and is dropped"
    weak_at = "The control of photo-align-1: features of hidden patches are said, not those of seen ones matched."
    budget_fraction = "about 0.6 % of the plan's 20,000 steps of 256 photos, behind photo-mae-2"

    def prepare(self, folder):
        super().prepare(folder)
        self.teacher = read_shipped(TEACHER).eval().requires_grad_(False)

    def place(self, device):
        self.teacher.to(device)

    def build(self):
        return set_positions(FeatureDecoder(self.config()))

    def warm(self, model):
        super().warm(model)
        for name, weight in model.named_parameters():
            if name.startswith(HEADS):  # they begin at zero: at random they shook what the student knew
                weight.data.zero_()

    def rate(self, name):
        return 4.0 if name.startswith(self.new) else 1.0  # these begin untrained

    def seen(self, made):
        """The batch with what the teacher makes of the whole photos, and the order in which patches are drawn."""
        device = next(self.teacher.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, self.autocast):
            sight = net.whole(self.teacher, made["pixels"].to(device))
        return made | {"targets": sight.targets(), "order": net.drawn(self.importance(sight), made["noise"])}

    def importance(self, sight):
        return sight.importance

    def batch(self, step, progress):
        return self.seen(super().batch(step, progress))

    def errors(self, model, batch):
        """Of every photo [B]: of the hidden patches, all levels alike."""
        order = batch["order"]
        told = model.features(batch["pixels"], order, KEPT)
        return net.token_errors(told, net.at(batch["targets"], order[:, KEPT:] + 1)).mean((0, 2))

    def loss(self, model, batch, progress):
        return self.errors(model, batch).mean(), {}

    def held(self, count):
        """A batch of held-out photos, always with the same draws."""
        pixels = self.val[:count]
        noise = torch.from_numpy(np.random.default_rng(2024).random((len(pixels), 64)))
        return self.seen({"pixels": pixels, "noise": noise})

    def quick(self, model):
        return {"loss": round(float(self.errors(model, self.held(128)).mean()), 4)}

    def save(self, model, folder):
        """The encoder alone."""
        model.config.levels = 0
        encoder = net.MaskAlignForPreTraining(model.config).to(model.dtype)
        encoder.vit.load_state_dict(model.vit.state_dict())
        super().save(encoder, folder)

    def evaluate(self, model):
        exam = EncoderExam(Lab(data=data.data_dir()))
        mine, before = (exam.sit(mae_encoder(one), ("linear",))["linear"] for one in (model, read_shipped(self.start)))
        self.right, unit = mine, "% of photos, 50 classes, ridge on mean tokens"
        return {"metrics": {"linear probe": mean_figure(mine, unit)},
                "trivial_baseline": {f"linear probe of {self.start}": mean_figure(before, unit)}}


class PhotoAlign(PhotoAlignRebuilt):
    name, control = "photo-align-1", PhotoAlignRebuilt.name
    new, left, differs = ("heads.",), ("decoder.",), {}
    architecture = "MaskAlignForPreTraining: the encoder of a ViTMAE, 6 x 192, W of 6 x 6 and 5 heads; no decoder"
    weak_at = "222 steps, one seed, taught by a classifier of the same 50 classes: what it knows is the teacher's."

    def build(self):
        return net.MaskAlignForPreTraining(self.config())

    def errors(self, model, batch):
        """Of every photo [B]: of [CLS] and the kept patches, all levels alike."""
        order = batch["order"]
        s = model.heads(net.blocks(model, batch["pixels"], order[:, :KEPT]))
        return net.token_errors(s, net.at(batch["targets"], net.seen(order, KEPT))).mean((0, 2))

    save = PretrainingArm.save

    def evaluate(self, model):
        figures, batch = super().evaluate(model), self.held(len(self.val))
        blank = net.token_errors(torch.zeros(()), batch["targets"]).mean((0, 2))
        unit = "2 smooth-L1 of whitened features, [CLS] and kept patches"
        figures["metrics"]["alignment error"] = mean_figure(self.errors(model, batch).numpy(), unit)
        figures["trivial_baseline"]["alignment error of zeros"] = mean_figure(blank.numpy(), unit)
        return figures


class Scored(PhotoAlign):
    """An arm whose weights are not shipped: what it answered and its curve are kept beside photo-align-1."""

    def beside(self, folder):
        kept = {"steps": self.steps, "seed": self.seed, "curve": self.curve, "linear": self.right.astype(int).tolist()}
        Path(SHIPPED / PhotoAlign.name / f"{self.name}.json").write_text(json.dumps(kept) + "\n")


class PhotoAlignUniform(Scored):
    name, control = "photo-align-uniform-1", PhotoAlign.name
    differs = {"order": "every patch is as likely to be kept"}

    def importance(self, sight):
        return torch.ones_like(sight.importance)


class PhotoAlignFixed(Scored):
    name, control = "photo-align-fixed-1", PhotoAlign.name

    def build(self):
        model = super().build()
        model.heads.mix.data = torch.eye(self.config().num_hidden_layers).flatten()
        model.heads.mix.requires_grad_(False)
        return model
