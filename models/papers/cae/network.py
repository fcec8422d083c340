"""CAE's network (arXiv 2202.03026): the encoder represents, a regressor guesses, a decoder draws from guesses alone.

    Z_V = F(cls, visible patches);  Z*_M = F(cls, masked patches), same weights, no gradient
    Q = the mask token at every hole; a block of the regressor, with K = [Z_V; Q] and p = their positions:
        Q <- Q + g1 Attention(LN(Q + p_M), LN(K + p), LN(K));  Q <- LN(Q);  Q <- Q + g2 MLP(Q)
    Z^_M = LN(Q);  codes = head(LN(decoder(Z^_M + p_M)))

Z_V stays as it is in all blocks. Letters: B pictures, L = V + M patches, visible and hidden, D width, H heads, C codes.
"""
from __future__ import annotations

from copy import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTMAEConfig, ViTMAEForPreTraining
from transformers.models.vit_mae.modeling_vit_mae import ViTMAELayer, ViTMAEModel, ViTMAEPreTrainedModel

from models.backbones.stand_in import stirred
from models.backbones.vit_mae import set_positions
from models.loops.mask.photos import encode_places
from models.papers.cae.guesses import CODES, Guess

BLOCKS, SCALE = 2, 0.1  # of regressor and decoder each; first value of g1 and g2


class RegressorBlock(nn.Module):
    """Holes look at what is visible and at each other; only they change."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_k, self.norm_v, self.norm_mlp = (nn.LayerNorm(width, 1e-6) for _ in range(4))
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.gamma_attention, self.gamma_mlp = (nn.Parameter(torch.full((width,), SCALE)) for _ in range(2))

    def forward(self, holes: Tensor, seen: Tensor, at: Tensor, at_seen: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """holes Q [B, M, D], seen Z_V [B, V, D], their positions -> Q and (q, k)."""
        both, places = torch.cat([seen, holes], 1), torch.cat([at_seen, at], 1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (
            self.q(self.norm_q(holes + at)), self.k(self.norm_k(both + places)), self.v(self.norm_v(both))))
        heard = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        holes = self.norm_mlp(holes + self.gamma_attention * self.out(heard))
        return holes + self.gamma_mlp * self.mlp(holes), (q, k)


class CodesNetwork(ViTMAEPreTrainedModel):
    """What both arms share: the encoder, the mask token, and a decoder that ends in codes."""

    depth = 0
    patchify = ViTMAEForPreTraining.patchify

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        thin, width = copy(config), config.hidden_size
        thin.intermediate_size = 2 * width
        self.vit, self.mask_token = ViTMAEModel(config), nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.decoder = nn.ModuleList(ViTMAELayer(thin) for _ in range(self.depth))
        self.decoder_norm, self.head = nn.LayerNorm(width, 1e-6), nn.Linear(width, CODES)

    def positions(self, places: Tensor) -> Tensor:
        """[B, P, D] of patches [B, P]."""
        return self.vit.embeddings.position_embeddings[0, 1:][places]

    def encode(self, pixels: Tensor, places: Tensor) -> Tensor:
        """F(cls, these patches [B, P]) without cls: [B, P, D]. No other patch is there, and no mask token."""
        return encode_places(self.vit, pixels, places)[:, 1:]

    def through(self, hidden: Tensor) -> Tensor:
        """The decoder's blocks and the head: logits of tokens [B, N, D]."""
        for layer in self.decoder:
            hidden = layer(hidden, None)
        return self.head(self.decoder_norm(hidden))


class CaeForPreTraining(CodesNetwork):
    """Encoder, regressor, decoder."""

    depth = BLOCKS

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        width = config.hidden_size
        self.regressor = nn.ModuleList(RegressorBlock(width, config.num_attention_heads) for _ in range(BLOCKS))
        self.regressor_norm = nn.LayerNorm(width, 1e-6)
        self.register_buffer("centre", torch.zeros(width))  # mean of Z* over photos, for cosines
        self.post_init()

    @torch.no_grad()
    def target(self, pixels: Tensor, hidden: Tensor) -> Tensor:
        """Z*_M [B, M, D]: what the encoder of this moment says of the hidden patches alone."""
        return self.encode(pixels, hidden)

    def draw(self, latents: Tensor, hidden: Tensor) -> Tensor:
        """Logits [B, M, C] from features of the hidden patches and their places alone."""
        return self.through(latents + self.positions(hidden))

    def forward(self, pixels: Tensor, visible: Tensor, hidden: Tensor) -> Guess:
        """visible [B, V] and hidden [B, M]: numbers of patches."""
        seen, looks = self.encode(pixels, visible), []
        at, at_seen = self.positions(hidden), self.positions(visible)
        holes = self.mask_token.expand(*hidden.shape, -1)
        for block in self.regressor:
            holes, look = block(holes, seen, at, at_seen)
            looks.append(look)
        latents = self.regressor_norm(holes)
        return Guess(seen, latents, self.draw(latents, hidden), looks)


class CodesMaeForPreTraining(CodesNetwork):
    """The MAE-style arm: one decoder, of as many blocks, sees the visible tokens and mask tokens."""

    depth = 2 * BLOCKS

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.post_init()

    def forward(self, pixels: Tensor, visible: Tensor, hidden: Tensor) -> Guess:
        seen = self.encode(pixels, visible)
        both = torch.cat([seen + self.positions(visible), self.mask_token + self.positions(hidden)], 1)
        return Guess(seen, None, self.through(both)[:, visible.shape[1]:], [])


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

def _stand_in(config: ViTMAEConfig) -> CaeForPreTraining:
    made = stirred(CaeForPreTraining(config))
    made.vit.embeddings = set_positions(ViTMAEForPreTraining(config)).vit.embeddings
    return made


STAND_INS = {"photo-cae-1": lambda bundle: _stand_in(bundle("photo-mae-1").model.config)}
