"""photo-mae-1 and photo-mae-2: masked autoencoder of 64x64 photos (ViTMAE, arXiv 2111.06377), raw pixel targets."""
import numpy as np
import torch

from training.export import figure
from training.kinds import PhotoArm
from training.trainer import rng_of


class PhotoMAE(PhotoArm):
    name = "photo-mae-1"
    minutes = 15.0
    lr, lr_adam, weight_decay, decay, ema = 0.02, 2e-3, 0.02, 0.6, 0.999
    architecture = "ViTMAEForPreTraining, 64x64, patch 8, encoder 6 x 192, decoder 2 x 128, raw pixel targets"
    weak_at = "Rebuilds colour and coarse shape; fine texture comes back blurred, as squared error asks."
    budget_fraction = "1.7 % of hpm's (30,000 steps of 256 pictures)"

    def config(self):
        from transformers import ViTMAEConfig

        return ViTMAEConfig(
            image_size=64, patch_size=8, hidden_size=192, num_hidden_layers=6, num_attention_heads=4,
            intermediate_size=768, decoder_hidden_size=128, decoder_num_hidden_layers=2, decoder_num_attention_heads=4,
            decoder_intermediate_size=512, mask_ratio=0.75, norm_pix_loss=False)

    def build(self):
        from transformers import ViTMAEForPreTraining

        from models.backbones.vit_mae import set_positions

        model = ViTMAEForPreTraining(self.config())
        set_positions(model)
        return model

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        return {"pixels": self.some(rng)[0], "noise": torch.from_numpy(rng.random((self.batch_size, 64)))}

    def loss(self, model, batch, progress):
        return model(batch["pixels"], noise=batch["noise"]).loss, {}

    hidden = 48  # of the 64 patches, for the card's figures

    def answer(self, model, pixels, mask):
        """What the network paints [B, L, P]; mask [B, 64], 1 = hidden."""
        return model(pixels, noise=mask).logits

    def error(self, model, pixels, mask):
        """Masked-patch error [B]."""
        from models.loops.mask.photos import hidden_mean, patch_error

        return hidden_mean(patch_error(self.answer(model, pixels, mask), model.patchify(pixels)), mask)

    def masks(self, n: int) -> torch.Tensor:
        """The evaluation masks [n, 64]: the same for every network and fill."""
        noise = torch.from_numpy(np.random.default_rng(2024).random((n, 64)))
        return (noise.argsort(1).argsort(1) >= 64 - self.hidden).float()

    def quick(self, model):
        return {"masked mse": round(float(self.error(model, self.val[:512], self.masks(512)).mean()), 4)}

    @torch.no_grad()
    def evaluate(self, model):
        from models.loops.mask.photos import beside_fills

        parts = zip(self.val.split(256), self.masks(len(self.val)).split(256), strict=True)
        found = [beside_fills(model, pixels, self.answer(model, pixels, mask), mask) for pixels, mask in parts]
        own, smooth, flat = torch.cat(found, 1).numpy()
        n, paired = len(own), smooth - own
        unit = f"mean squared error of masked patches ({self.hidden} of 64 hidden), ImageNet-normalised pixels"
        gain = lambda other: figure(1 - own.mean() / other.mean(), "share below", n, 1 - own / other.mean())  # noqa: E731
        return {"metrics": {"masked-patch error": figure(own.mean(), unit, n, own),
                            "below the mean colour of visible patches": gain(flat),
                            "below bilinear inpainting": gain(smooth),
                            "paired gain over bilinear inpainting": figure(paired.mean(), unit, n, paired)},
                "trivial_baseline": {"mean colour of visible patches": figure(flat.mean(), unit, n, flat),
                                     "bilinear inpainting of visible patches": figure(smooth.mean(), unit, n, smooth)}}


class PhotoMAESecond(PhotoMAE):
    """Trained on from photo-mae-1 with a schedule of its own: where the arms that learn from hidden patches start."""

    name, start = "photo-mae-2", "photo-mae-1"
    minutes, warm_lr, pack = 30.0, 0.5, 6
    budget_fraction = "about 5 % of hpm's (30,000 steps of 256 pictures), photo-mae-1's steps included"
