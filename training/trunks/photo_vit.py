"""photo-vit-1: a vision transformer that classifies 64x64 photos into 50 classes; the trunk and control of others."""
import json

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from training.export import figure, read_shipped
from training.kinds import PhotoArm
from training.photos import normalise
from training.trainer import rng_of

START = "photo-mae-1"  # patch embedding, positions and attention matrices of all arms start from this one's
LOOKS, LOOK = 25, 256  # points of the training curve, and the held-out photos that each looks at
LABELS = (
    "goldfish", "koala", "king penguin", "lion", "Persian cat", "German shepherd", "African elephant", "red panda",
    "monarch butterfly", "ladybug", "jellyfish", "brown bear", "alligator", "tarantula", "camel", "snail", "orangutan",
    "fire salamander", "goose", "brain coral", "school bus", "sports car", "bullet train", "gondola", "teapot",
    "candle", "computer keyboard", "umbrella", "lighthouse", "suspension bridge", "mountain", "seashore", "fountain",
    "triumphal arch", "tractor", "hourglass", "pizza", "banana", "bell pepper", "mushroom", "dragonfly", "bee", "bison",
    "lobster", "guinea pig", "orange", "lemon", "ice cream", "espresso", "water tower")


class PhotoViT(PhotoArm):
    name = "photo-vit-1"
    minutes, batch_size = 7.0, 64  # the arms are compared at equal steps: --steps 900
    lr, lr_adam, weight_decay, decay = 0.02, 2e-3, 0.05, 0.6
    compile = False  # a few hundred seconds of training: compiling on a busy machine takes longer than it saves
    architecture = "ViTForImageClassification, 64x64, patch 8, 6 layers of width 192 with 3 heads, 50 classes"
    trained_on = f"{PhotoArm.trained_on}; patch embedding, positions and attention matrices start from {START}"
    weak_at = "A few passes over the photos, one seed: wrong more often than right."
    budget_fraction = "a few epochs of the 100 of illama's plan"

    def prepare(self, folder):
        super().prepare(folder)
        self.curve = []

    def build(self):
        from transformers import ViTConfig, ViTForImageClassification

        model = ViTForImageClassification(ViTConfig(
            image_size=64, patch_size=8, hidden_size=192, num_hidden_layers=6, num_attention_heads=3,
            intermediate_size=768, id2label=dict(enumerate(LABELS)), label2id={n: i for i, n in enumerate(LABELS)}))
        embeddings = model.vit.embeddings
        start(embeddings.patch_embeddings.projection, embeddings.position_embeddings,
              [layer.attention for layer in model.vit.layers])
        return model

    def batch(self, step, progress):
        pixels, chosen = self.some(rng_of(self.seed, step))
        return {"pixels": pixels, "labels": self.labels[chosen]}

    def logits(self, model, pixels, batch):
        """[B, C] as the arm is trained at this moment."""
        return model(pixels).logits

    def loss(self, model, batch, progress):
        return cross_entropy(self.logits(model, batch["pixels"], batch).float(), batch["labels"]), {}

    def moment(self, progress: float) -> dict:
        """What changes during training, as tensors of the batch."""
        return {}

    @torch.no_grad()
    def after_step(self, model, step, progress):
        """A point of the curve, on held-out photos, in the state the arm is trained in."""
        if progress < len(self.curve) / LOOKS:
            return
        moment, device = self.moment(progress), next(model.parameters()).device
        with torch.autocast(device.type, dtype=torch.bfloat16):
            found = self.logits(model.eval(), self.val[:LOOK].to(device), moment).float().cpu()
        model.train()
        point = {"progress": progress, "step": step, "loss": float(cross_entropy(found, self.truth[:LOOK])),
                 "accuracy": float((found.argmax(1) == self.truth[:LOOK]).float().mean())}
        self.curve.append({**{key: round(value, 4) for key, value in point.items()},
                           **{key: round(float(value), 4) for key, value in moment.items()}})

    def state(self):
        return {"curve": self.curve}

    def load_state(self, state):
        self.curve = state["curve"]

    def quick(self, model):
        return {"accuracy": self.curve[-1]["accuracy"], "loss": self.curve[-1]["loss"]} if self.curve else {}

    @torch.no_grad()
    def evaluate(self, model):
        found = torch.cat([self.logits(model, part, self.moment(1.0)).float() for part in self.val.split(256)])
        hit = (found.argmax(1) == self.truth).double().numpy()
        loss = cross_entropy(found, self.truth, reduction="none").numpy()
        return {"metrics": {"accuracy": figure(hit.mean(), "share", len(hit), hit),
                            "held-out loss": figure(loss.mean(), "nats", len(loss), loss)},
                "trivial_baseline": self.trivial()}

    def trivial(self) -> dict:
        """The commonest class, and the nearest class mean of the photo's colours (one mean per patch)."""
        small = lambda pixels: torch.nn.functional.avg_pool2d(pixels, 8).flatten(1)  # noqa: E731
        train = torch.cat([small(normalise(part)) for part in self.train.split(1024)])
        means = torch.stack([train[self.labels == kind].mean(0) for kind in range(len(LABELS))])  # [C, 192]
        hit = (torch.cdist(small(self.val), means).argmin(1) == self.truth).double().numpy()
        common = (self.truth == int(np.bincount(self.labels).argmax())).double().numpy()
        return {"nearest class mean of the patches' colours": figure(hit.mean(), "share", len(hit), hit),
                "always the commonest class": figure(common.mean(), "share", len(common), common)}

    def save(self, model, folder):
        super().save(model, folder)
        self.save_curve(folder)

    def save_curve(self, folder):
        (folder / "curve.json").write_text(json.dumps(self.curve) + "\n")


@torch.no_grad()
def start(patches: torch.nn.Conv2d, positions: torch.Tensor, attentions: list) -> None:
    """Copies what every arm shares from the masked autoencoder, in place. positions [1, 1 + L, D], the class token's
    first. The MLPs and norms start fresh in all arms, because LLaMA's differ from its."""
    vit = read_shipped(START).vit
    patches.load_state_dict(vit.embeddings.patch_embeddings.projection.state_dict())
    positions.copy_(vit.embeddings.position_embeddings)
    for mine, theirs in zip(attentions, vit.layers, strict=True):
        mine.load_state_dict(theirs.attention.state_dict())
