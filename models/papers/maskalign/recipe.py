"""photo-align-1 and its control photo-align-rebuilt-1, and two arms of which only what they answered is kept: what a
frozen photo-vit-1 makes of the patches that a student sees, or of those that it does not (arXiv 2211.08887).
"""
import json

import numpy as np
import torch
from transformers import ViTMAEForPreTraining

from models.backbones.vit_mae import set_positions
from models.claims import Lab
from models.claims.encoder_lab import EncoderExam, mae_encoder
from models.papers.maskalign import alignment as net
from models.papers.maskalign.alignment import KEPT
from models.papers.maskalign.network import MaskAlignForPreTraining
from training import data
from training.export import SHIPPED, mean_figure, read_shipped
from training.pretraining import PretrainingArm
from training.trunks.photo_mae import PhotoMAE


class FeatureDecoder(ViTMAEForPreTraining):
    """photo-mae, whose decoder says the teacher's features of hidden patches, one level behind another."""

    def __init__(self, config):
        super().__init__(config)
        self.decoder.decoder_pred = torch.nn.Identity()
        self.feature_head = torch.nn.Linear(config.decoder_hidden_size, net.LEVELS * config.hidden_size)
        self.post_init()

    def features(self, pixels, order):
        """[A, B, L - K, D] of the patches behind the first K of `order` [B, L], which are seen."""
        latents = self.vit.layernorm(net.blocks(self, pixels, order[:, :KEPT])[-1])
        told = self.decoder(latents, order.argsort(1)).logits[None]  # [1, B, L, width of the decoder]
        return torch.stack(self.feature_head(net.at(told, order[:, KEPT:])[0]).chunk(net.LEVELS, -1))


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
        self.teacher = read_shipped("photo-vit-1").eval().requires_grad_(False)

    def place(self, device):
        self.teacher.to(device)

    def build(self):
        return set_positions(FeatureDecoder(self.config()))

    def warm(self, model):
        super().warm(model)
        for name, weight in model.named_parameters():
            if name.startswith(("feature_head", "heads.levels")):  # at random they shook what the student knew
                weight.data.zero_()

    def rate(self, name):
        return 4.0 if name.startswith(self.new) else 1.0  # these begin untrained

    def batch(self, step, progress):
        return self.taught(super().batch(step, progress))

    def taught(self, made):
        """The batch with what the teacher makes of the whole photos, and the order in which patches are drawn."""
        device = next(self.teacher.parameters()).device
        with torch.autocast(device.type, torch.bfloat16, self.autocast):
            sight = net.whole(self.teacher, made["pixels"].to(device))
        return made | {"targets": sight.targets(), "order": net.drawn(self.importance(sight), made["noise"])}

    def importance(self, sight):
        return sight.importance

    def errors(self, model, batch):
        """[A, B, L - K] of the hidden patches."""
        order = batch["order"]
        return net.token_errors(model.features(batch["pixels"], order), net.at(batch["targets"], order[:, KEPT:] + 1))

    def loss(self, model, batch, progress):
        return self.errors(model, batch).mean(), {}

    def quick(self, model):
        noise = torch.from_numpy(np.random.default_rng(2024).random((128, 64)))
        batch = self.taught({"pixels": self.val[:128], "noise": noise[: len(self.val)]})
        return {"loss": round(float(self.errors(model, batch).mean()), 4)}

    def save(self, model, folder):
        """The encoder alone."""
        model.config.levels = 0
        encoder = MaskAlignForPreTraining(model.config).to(model.dtype)
        encoder.vit.load_state_dict(model.vit.state_dict())
        super().save(encoder, folder)

    def evaluate(self, model):
        exam, unit = EncoderExam(Lab(data=data.data_dir())), "% of photos, 50 classes, ridge on mean tokens"
        self.right, before = (exam.sit(mae_encoder(one), ("linear",))["linear"]
                              for one in (model, read_shipped(self.start)))
        return {"metrics": {"linear probe": mean_figure(self.right, unit)},
                "trivial_baseline": {f"linear probe of {self.start}": mean_figure(before, unit)}}


class PhotoAlign(PhotoAlignRebuilt):
    name, control = "photo-align-1", PhotoAlignRebuilt.name
    new, left, differs = ("heads.",), ("decoder.",), {}
    architecture = "MaskAlignForPreTraining: the encoder of a ViTMAE, 6 x 192, W of 6 x 6 and 5 heads; no decoder"
    weak_at = "222 steps, one seed, taught by a classifier of the same 50 classes: what it knows is the teacher's."
    save = PretrainingArm.save

    def build(self):
        return MaskAlignForPreTraining(self.config())

    def errors(self, model, batch):
        """[A, B, 1 + K] of the class token and of the patches that are seen."""
        order = batch["order"]
        s = model.heads(net.blocks(model, batch["pixels"], order[:, :KEPT]))
        return net.token_errors(s, net.at(batch["targets"], net.seen(order)))


class AnswersOnly(PhotoAlign):
    """An arm whose weights are not shipped: what it answered and its curve are kept beside photo-align-1."""

    def beside(self, folder):
        right = (self.right > 0).astype(int).tolist()
        kept = {"steps": self.steps, "seed": self.seed, "curve": self.curve, "linear": right}
        (SHIPPED / PhotoAlign.name / f"{self.name}.json").write_text(json.dumps(kept) + "\n")


class PhotoAlignUniform(AnswersOnly):
    name, control = "photo-align-uniform-1", PhotoAlign.name
    differs = {"order": "every patch is as likely to be kept"}

    def importance(self, sight):
        return torch.ones_like(sight.importance)


class PhotoAlignFixed(AnswersOnly):
    name, control = "photo-align-fixed-1", PhotoAlign.name

    def build(self):
        model = super().build()
        model.heads.mix = torch.nn.Parameter(torch.eye(model.config.num_hidden_layers).flatten(), requires_grad=False)
        return model
