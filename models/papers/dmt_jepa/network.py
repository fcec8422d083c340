"""DMT-JEPA's networks (arXiv 2405.17995): encoder, predictor and the head that makes a target of likest neighbours.

    h = LN(f~(x))                                    # no affine, whole photo                       [B, N, D]
    S_i = the k of i's 3 x 3 window (without i) with the largest cos(h_i, h_j)                     # selected [B, N, N]
    c = mean_j h_j;  twice: c <- c + MHA(LN[c; h_S])_c,  c <- c + MLP(LN c);  t_i = LN(c)          # local
    z = f(context);  twice: z <- z + MHA(LN[mean z; z])_mean,  z <- z + MLP(LN z);  LN             # around
    smooth-L1(g(z, positions of a target block), t)

I-JEPA is the same without the head: its target is h. The query of a photo is the mean of this photo (the released code
tiles queries across the batch), windows end at the border (there they wrap around), and the encoder is photo-mae's with
its class token left out, because the reference has none.

Letters: B photos, N patches, D width, n patches of the context, T of a block, H heads, k selected neighbours.
"""
from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ViTMAEConfig, ViTMAEModel, ViTMAEPreTrainedModel
from transformers.models.vit_mae.modeling_vit_mae import ViTMAELayer, build_2d_sinusoidal_position_embedding

from models.backbones.pictures import patchify, unpatchify
from models.backbones.stand_in import stirred
from models.papers.dmt_jepa.neighbours import NEIGHBOURS, SIDE, likest, picked


@cache
def positions(side: int, width: int) -> Tensor:
    """Fixed sine-cosine positions [N, width], columns before rows as in the published weights of MAE."""
    here = torch.device("cpu")  # files are read on a device without numbers, and this table is kept
    rows, columns = build_2d_sinusoidal_position_embedding(side, side, width, device=here).chunk(2, 1)
    return torch.cat([columns, rows], 1)


def placed(tokens: Tensor, ids: Tensor) -> Tensor:
    """Tokens with the positions of ids [..., T]."""
    return tokens + positions(SIDE, tokens.shape[-1]).to(tokens.device, tokens.dtype)[ids]


def encoded(vit: ViTMAEModel, pixels: Tensor, kept: Tensor | None = None) -> Tensor:
    """Latents [B, N, D], or [B, n, D] of the patches kept [B, n], of an encoder that has no class token to look at and
    never sees the other patches."""
    tokens = vit.embeddings.patch_embeddings(pixels) + vit.embeddings.position_embeddings[:, 1:]
    tokens = tokens if kept is None else picked(tokens, kept)
    for layer in vit.layers:
        tokens = layer(tokens, None)
    return vit.layernorm(tokens)


class LocalAggregator(nn.Module):
    """The head: cross-attention from one vector, twice."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__()
        self.layers = nn.ModuleList(ViTMAELayer(config) for _ in range(config.aggregates))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def local(self, h: Tensor, selected: Tensor, seen: list | None = None) -> Tensor:
        """Targets [B, N, D] of tokens h [B, N, D] and neighbours bool [B, N, N]. seen: takes every block's q, k and
        mask, the keys being every patch's own c, then all patches."""
        c = h.mean(1, keepdim=True).expand_as(h)
        own = torch.eye(h.shape[1], dtype=torch.bool, device=h.device).expand_as(selected)
        may = torch.cat([own, selected], 2)[:, None]  # [B, 1, N, 2 N]
        for layer in self.layers:
            c = mlp(layer, c + hear(layer, c, torch.cat([c, h], 1), may, seen))
        return self.norm(c)

    def around(self, z: Tensor) -> Tensor:
        """Context tokens [B, n, D] that have been told what their mean makes of them all."""
        for layer in self.layers:
            mean = z.mean(1, keepdim=True)
            z = mlp(layer, z + hear(layer, mean, torch.cat([mean, z], 1)))
        return self.norm(z)


def hear(layer: ViTMAELayer, queries: Tensor, keys: Tensor, may: Tensor | None = None, seen: list | None = None
         ) -> Tensor:
    """What a layer's attention brings to queries [B, Q, D] from keys [B, K, D] under a mask bool [B, 1, Q, K]."""
    part, asked, told = layer.attention, layer.layernorm_before(queries), layer.layernorm_before(keys)
    q, k, v = (project(x).unflatten(-1, (-1, part.head_dim)).transpose(1, 2)
               for project, x in ((part.q_proj, asked), (part.k_proj, told), (part.v_proj, told)))
    if seen is not None:
        seen.append((q, k, may))
    heard = F.scaled_dot_product_attention(q, k, v, attn_mask=may)
    return part.o_proj(heard.transpose(1, 2).flatten(2))


def mlp(layer: ViTMAELayer, x: Tensor) -> Tensor:
    return x + layer.mlp(layer.layernorm_after(x))


class BlockPredictor(nn.Module):
    """g: says what is at the places of a target block, from context tokens and mask tokens with positions."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__()
        narrow = copy.deepcopy(config)
        narrow.hidden_size, narrow.num_attention_heads = config.decoder_hidden_size, config.decoder_num_attention_heads
        narrow.intermediate_size, width = config.decoder_intermediate_size, config.decoder_hidden_size
        self.embed = nn.Linear(config.hidden_size, width)
        self.mask_embedding = nn.Parameter(torch.zeros(width))
        self.layers = nn.ModuleList(ViTMAELayer(narrow) for _ in range(config.decoder_num_hidden_layers))
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.projection = nn.Linear(width, config.hidden_size)

    def forward(self, z: Tensor, context: Tensor, blocks: Tensor) -> Tensor:
        """[B, 4, T, D] for blocks [B, 4, T], each predicted by itself, from z [B, n, D] at context [B, n]."""
        many = blocks.shape[1]
        asked = placed(self.mask_embedding, blocks.flatten(0, 1))  # [4 B, T, d]
        tokens = torch.cat([placed(self.embed(z), context).repeat_interleave(many, 0), asked], 1)
        for layer in self.layers:
            tokens = layer(tokens, None)
        return self.projection(self.norm(tokens[:, -blocks.shape[2] :])).unflatten(0, (-1, many))


class JepaForPreTraining(ViTMAEPreTrainedModel):
    """Encoder and predictor (the config's decoder), and with `aggregates` blocks DMT-JEPA's head; 0 is I-JEPA."""

    def __init__(self, config: ViTMAEConfig):
        super().__init__(config)
        self.vit, self.predictor = ViTMAEModel(config), BlockPredictor(config)
        self.aggregator = LocalAggregator(config) if config.aggregates else None
        self.post_init()
        self.apply(begun)
        fixed = self.vit.embeddings.position_embeddings  # and the class token, which nobody looks at, stays as it is
        fixed.data[0, 1:] = positions(SIDE, config.hidden_size)
        for one in (fixed, self.vit.embeddings.cls_token):
            one.requires_grad_(False)

    def features(self, pixels: Tensor) -> Tensor:
        """h [B, N, D]: the whole photo's tokens, normalised."""
        return F.layer_norm(encoded(self.vit, pixels), (self.config.hidden_size,))

    def made_of(self, h: Tensor, keep: int = NEIGHBOURS, wrap: bool = False, seen: list | None = None) -> Tensor:
        """The targets [B, N, D] that this arm makes of h."""
        return h if self.aggregator is None else self.aggregator.local(h, likest(h, keep, wrap), seen)

    @torch.no_grad()
    def targets(self, pixels: Tensor) -> Tensor:
        """t [B, N, D] of whole photos; nothing flows back."""
        return self.made_of(self.features(pixels))

    def forward(self, pixels: Tensor, context: Tensor, blocks: Tensor) -> Tensor:
        """Predictions [B, 4, T, D] from the context alone."""
        z = encoded(self.vit, pixels, context)
        return self.predictor(z if self.aggregator is None else self.aggregator.around(z), context, blocks)

    def patchify(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, L, P]."""
        return patchify(pixels, self.config.patch_size).flatten(1, 2)

    def unpatchify(self, patches: Tensor) -> Tensor:
        """[B, L, P] -> [B, 3, S, S]."""
        return unpatchify(patches.unflatten(1, (SIDE, SIDE)), self.config.patch_size)


def begun(module: nn.Module) -> None:
    """How MAE's linear layers begin: at 0.02, as in a wider ViT, the head would hardly hear the neighbours."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


# ---- for tests: tiny random weights in the shipped layout

def tiny(aggregates: int) -> JepaForPreTraining:
    return stirred(JepaForPreTraining(ViTMAEConfig(
        image_size=64, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        decoder_hidden_size=32, decoder_num_hidden_layers=1, decoder_num_attention_heads=4,
        decoder_intermediate_size=64, aggregates=aggregates)))


STAND_INS = {"photo-dmt-1": lambda bundle: tiny(2), "photo-jepa-1": lambda bundle: tiny(0)}
