"""photo-illama-1 and its failing twin: LLaMA's layers as an image classifier (arXiv 2404.06773), arms 3 and 1.

Same photos, start and budget as photo-vit-1 (arm 0). Arm 3: class token behind the patches, soft mask over the first
sixth of training. Arm 1: class token in front, causal from the first step.
"""
import copy
import json

import torch

from training.export import save_hub
from training.trunks.photo_vit import LABELS, PhotoViT, start

SNAPSHOTS = (0.5, 0.0)  # values of a at which the weights are kept


class PhotoIllama(PhotoViT):
    name = "photo-illama-1"
    architecture = ("IllamaForImageClassification: 6 LLaMA layers of width 192 with 3 heads, causal, mask after the "
                    "softmax, class token last")
    cls_first = False

    def build(self):
        from models.papers.illama.network import IllamaForImageClassification

        self.snapshots = {}
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

        return {"a": torch.tensor(softness_at(progress))}

    def batch(self, step, progress):
        return super().batch(step, progress) | self.moment(progress)

    def logits(self, model, pixels, batch):
        return model(pixels, batch["a"])

    @torch.no_grad()
    def after_step(self, model, step, progress):
        super().after_step(model, step, progress)
        kept = len(self.snapshots)
        if kept < len(SNAPSHOTS) and float(self.moment(progress)["a"]) <= SNAPSHOTS[kept]:
            self.snapshots[f"a-{100 * SNAPSHOTS[kept]:.0f}-percent"] = {
                "a": SNAPSHOTS[kept], "progress": progress, "step": step, "weights": copy.deepcopy(model.state_dict())}

    def state(self):
        return super().state() | {"snapshots": self.snapshots}

    def load_state(self, state):
        super().load_state(state)
        self.snapshots = state["snapshots"]

    def save(self, model, folder):
        from models.backbones.packing import save_packed

        save_hub(model, folder)
        self.save_curve(folder)
        for name, snapshot in self.snapshots.items():
            (folder / name).mkdir(exist_ok=True)
            save_packed(snapshot["weights"], folder / name / "model.safetensors", 4)
            (folder / name / "config.json").write_text((folder / "config.json").read_text())
            note = {key: snapshot[key] for key in ("a", "progress", "step")}
            (folder / name / "snapshot.json").write_text(json.dumps(note) + "\n")


class PhotoIllamaFirst(PhotoIllama):
    name = "photo-illama-first-1"
    minutes, pack = 3.0, 4
    architecture = "IllamaForImageClassification as photo-illama-1, class token first: the arm that collapses"
    weak_at = ("Nearly everything: it is the paper's failure. Its class token attends to itself alone and knows the "
               "photo by its softmax denominators only.")
    cls_first = True

    def moment(self, progress):
        return {"a": torch.tensor(0.0)}

    def after_step(self, model, step, progress):
        PhotoViT.after_step(self, model, step, progress)

