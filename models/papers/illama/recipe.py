"""photo-illama-1 and its failing twin: LLaMA's layers as an image classifier (arXiv 2404.06773), arms 3 and 1.

Same photos, start and budget as photo-vit-1 (arm 0). Arm 3: class token behind the patches, soft mask over the first
sixth of training. Arm 1: class token in front, causal from the first step. A third one is never masked.
"""
import torch

from training.export import save_hub
from training.kinds import Moments
from training.trunks.photo_vit import LABELS, PhotoViT, start

SNAPSHOTS = (0.5, 0.0)  # values of a at which the weights are kept


class PhotoIllama(Moments, PhotoViT):
    name = "photo-illama-1"
    architecture = ("IllamaForImageClassification: 6 LLaMA layers of width 192 with 3 heads, causal, mask after the "
                    "softmax, class token last")
    cls_first = False
    steady: float | None = None  # a throughout training; None: as the soft mask's schedule has it

    def build(self):
        from models.papers.illama.network import IllamaForImageClassification

        model = IllamaForImageClassification(labels=LABELS, cls_first=self.cls_first)
        places = torch.zeros_like(model.position_embeddings)
        start(model.patch_embeddings, places, [layer.self_attn for layer in model.layers])
        model.position_embeddings.data = places if self.cls_first else places.roll(-1, 1)
        return model

    def place(self, device):
        if device.type == "cpu":  # the fused kernel's backward pass with a mask takes as long as all the rest
            torch.backends.cuda.enable_flash_sdp(False)

    def moment(self, progress):
        from models.papers.illama.network import softness_at

        return {"a": torch.tensor(softness_at(progress) if self.steady is None else self.steady)}

    def batch(self, step, progress):
        return super().batch(step, progress) | self.moment(progress)

    def logits(self, model, pixels, batch):
        return model(pixels, batch["a"])

    @torch.no_grad()
    def after_step(self, model, step, progress):
        super().after_step(model, step, progress)
        kept = len(self.moments)
        if self.steady is None and kept < len(SNAPSHOTS) and float(self.moment(progress)["a"]) <= SNAPSHOTS[kept]:
            a = SNAPSHOTS[kept]
            self.keep(f"a-{100 * a:.0f}-percent", model, a=a, progress=progress, step=step)

    def save(self, model, folder):
        save_hub(model, folder)
        self.save_curve(folder)
        self.save_moments(folder, 4)


class PhotoIllamaFirst(PhotoIllama):
    """900 steps from scratch, as the others; version 1 had 200."""

    name, replaces, pack = "photo-illama-first-2", "photo-illama-first-1", 4
    architecture = "IllamaForImageClassification as photo-illama-1, class token first: the arm that collapses"
    weak_at = ("Nearly everything: it is the paper's failure. Its class token attends to itself alone and knows the "
               "photo by its softmax denominators only.")
    cls_first, steady = True, 0.0


class PhotoIllamaBidirectional(PhotoIllama):
    """No mask at any time: what the rank of maps is to be compared with. Not trained yet."""

    name, pack = "photo-illama-bidirectional-1", 4
    architecture = "IllamaForImageClassification as photo-illama-1 without a causal mask: the arm that sees everything"
    steady = 1.0
