"""HPM's network and loss (arXiv 2312.13714): an MAE that also predicts which patches it will rebuild badly.

The second decoder has the first one's shape and its own weights, and reads the same latents. Its head is a plain
scalar per patch; the reference averages a patch-sized vector to one number, which says the same.
"""
import torch
from torch import nn
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit_mae.modeling_vit_mae import ViTMAEDecoder

from models.backbones.vit_mae import set_positions
from models.loops.mask.photos import encode, masked_count


class HpmForPreTraining(ViTMAEForPreTraining):
    """ViTMAEForPreTraining plus `loss_predictor`, a second decoder with one score per patch."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.patches = self.vit.embeddings.patch_embeddings.num_patches
        self.loss_predictor = ViTMAEDecoder(config, num_patches=self.patches)
        self.loss_predictor.decoder_pred = nn.Linear(config.decoder_hidden_size, 1)
        self.post_init()

    def both(self, pixel_values, noise):
        """Student: the patches of lowest `noise` [B, L] stay visible.

        Returns reconstruction [B, L, P], scores [B, L] and mask [B, L] (1 = hidden). Latents are not detached: both
        losses reach the encoder.
        """
        seen = self.vit(pixel_values, noise=noise)
        pixels = self.decoder(seen.last_hidden_state, seen.ids_restore).logits
        scores = self.loss_predictor(seen.last_hidden_state, seen.ids_restore).logits[..., 0]
        return pixels, scores, seen.mask

    @torch.no_grad()
    def difficulty(self, pixel_values):
        """Teacher: predicted difficulty [B, L] of every patch of the FULL picture, nothing masked."""
        return self.scored(pixel_values, torch.zeros(len(pixel_values), self.patches), 0)

    @torch.no_grad()
    def scored(self, pixel_values, noise, n_mask: int | None = None):
        """Scores [B, L] where the n_mask patches of highest noise are hidden (None: at the config's mask ratio)."""
        n_mask = masked_count(self.patches, self.config.mask_ratio) if n_mask is None else n_mask
        latents, ids_restore, _ = encode(self, pixel_values, noise, n_mask)
        return self.loss_predictor(latents, ids_restore).logits[..., 0]


def relative_loss(scores, losses):
    """Pairwise loss on the order of difficulty, within each picture only.

    scores s [B, M] and losses ell [B, M] of the M masked patches; ell is a target without gradient. Over all ordered
    pairs with ell_i != ell_j: -log(sigmoid(s_i - s_j) + 1e-6) where i is harder, -log(1 - sigmoid(s_i - s_j) + 1e-6)
    where j is, divided by the number of those pairs.
    """
    losses = losses.detach()
    difference = losses[:, :, None] - losses[:, None, :]  # [B, M, M]
    p = torch.sigmoid((scores[:, :, None] - scores[:, None, :]).float())
    terms = torch.where(difference > 0, torch.log(p + 1e-6), torch.log(1 - p + 1e-6))
    valid = difference != 0
    return -(terms * valid).sum() / valid.sum().clamp(min=1)


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {"photo-hpm-1": lambda bundle: set_positions(HpmForPreTraining(bundle("photo-mae-1").model.config))}
