"""ENAT's network (arXiv 2411.06959): a deep encoder of visible tokens, a shallow decoder of MASK tokens, and reuse.

In a masked generator visible tokens give and MASK tokens take. So visible tokens are encoded among themselves, and only
the ones that are new since the last pass: R = P(F), the features of the others from that pass through one small
network P, serves as keys and values in every encoder layer, never recomputed. The decoder's MASK tokens read what the
encoder left and each other. In every layer the supporting tokens have their own norm and key/value matrices
("multiway"). The first pass of an empty canvas has nothing to encode.

The paper's class enters by AdaLN; here a caption does, and its words stand among the supporting tokens of every layer:
they are read and never computed. Blocks, rotary positions and the head are those of `MaskedTransformer`, so that an
ENAT can start from one and be compared with it.

Letters: B samples, N canvas tokens, C caption words, R rows computed, S supporting rows, M MASK tokens, D width.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm, apply_rotary_pos_emb

from models.backbones.masked import MaskedTransformer
from models.backbones.rows import fused, layer_work, linear_work, picked, project, written
from models.backbones.stand_in import stirred
from models.loops.unmask.evaluation import indices

RATIO = 4  # of P's hidden width to its own


class TokenRows(NamedTuple):
    """Some tokens of every sample: hidden [B, R, D], and cos and sin [B, R, W] of the rotary angles of their places."""

    hidden: Tensor
    angles: tuple[Tensor, Tensor]

    def at(self, chosen: Tensor) -> TokenRows:
        """The rows where bool [B, R] is true, equally many in every sample."""
        places = indices(chosen)
        return TokenRows(picked(self.hidden, places), tuple(picked(part, places) for part in self.angles))

    def beside(self, other: TokenRows) -> TokenRows:
        """These rows, then the other ones."""
        both = tuple(torch.cat(pair, 1) for pair in zip(self.angles, other.angles))
        return TokenRows(torch.cat([self.hidden, other.hidden], 1), both)


class State(NamedTuple):
    """What a pass leaves for the next: features [B, N, D] of its visible tokens, and which they were, bool [B, N]."""

    features: Tensor
    visible: Tensor

    def first(self, batch: int) -> State:
        """Only the first samples go on."""
        return State(self.features[:batch], self.visible[:batch])


class EnatPass(NamedTuple):
    """One pass: its state, and the decoder's hidden [B, M, D] at the MASK positions [B, M]."""

    state: State
    positions: Tensor
    hidden: Tensor


class SupportedLayer(LlamaDecoderLayer):
    """A decoder layer whose keys and values come from two sources: its own rows, and supporting rows that have their
    own norm and matrices and are not computed here."""

    def __init__(self, config, index: int):
        super().__init__(config, index)
        width = self.self_attn.k_proj.out_features
        self.support_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.support_k_proj = nn.Linear(config.hidden_size, width, bias=False)
        self.support_v_proj = nn.Linear(config.hidden_size, width, bias=False)

    def forward(self, rows: TokenRows, support: TokenRows) -> TokenRows:
        """rows R attend to the S supporting rows and to themselves."""
        q, k, v = project(self.self_attn, self.input_layernorm(rows.hidden), rows.angles)
        keys, values = self.supporting(support)
        mixed = fused(q, torch.cat([keys, k], 2), torch.cat([values, v], 2), self.self_attn.scaling)
        hidden = rows.hidden + self.self_attn.o_proj(mixed.transpose(1, 2).flatten(2))  # [B, R, D]
        return TokenRows(hidden + self.mlp(self.post_attention_layernorm(hidden)), rows.angles)

    def supporting(self, support: TokenRows) -> tuple[Tensor, Tensor]:
        """Keys and values [B, G, S, W] of the supporting rows."""
        normed = self.support_layernorm(support.hidden)
        keys, values = (linear(normed).unflatten(-1, (-1, self.self_attn.head_dim)).transpose(1, 2)
                        for linear in (self.support_k_proj, self.support_v_proj))
        return apply_rotary_pos_emb(keys, keys[:, :0], *support.angles)[0], values


class FeatureProjection(nn.Module):
    """P(x) = x + MLP(LN(x)): makes features of the last pass fit to support this one. At first the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen, self.narrow = nn.Linear(width, RATIO * width), nn.Linear(RATIO * width, width)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.narrow(nn.functional.gelu(self.widen(self.norm(x)), approximate="tanh"))


class EnatTransformer(MaskedTransformer):
    """MaskedTransformer's parts in ENAT's order: the first `encoder_layers` layers see visible tokens only, the rest
    are the decoder. Arguments as there; 2-D positions with absolute embeddings."""

    def __init__(self, vocab_size: int, hidden_size: int = 192, encoder_layers: int = 4, decoder_layers: int = 2,
                 num_attention_heads: int = 4, intermediate_size: int | None = None, grid: tuple[int, int] = (16, 16),
                 cond_vocab_size: int = 0, cond_length: int = 0, rope_theta: float = 100.0):
        super().__init__(vocab_size, hidden_size, 0, num_attention_heads, intermediate_size=intermediate_size,
                         grid=grid, absolute=True, cond_vocab_size=cond_vocab_size, cond_length=cond_length,
                         rope_theta=rope_theta)
        self.encoder_layers = encoder_layers
        self.layers = nn.ModuleList(SupportedLayer(self.config, i) for i in range(encoder_layers + decoder_layers))
        for weight in self.layers.parameters():
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)
        self.reuse = FeatureProjection(hidden_size)

    @classmethod
    def beside(cls, trunk: MaskedTransformer) -> EnatTransformer:
        """An ENAT that starts from a trunk's embeddings, layers and head, supporting matrices from the trunk's own; one
        layer in three decodes."""
        config, layers = trunk.config, len(trunk.layers)
        decoder = max(1, layers // 3)
        made = cls(trunk.vocab_size, config.hidden_size, layers - decoder, decoder, config.num_attention_heads,
                   config.intermediate_size, trunk.grid, trunk.embed_cond.num_embeddings, trunk.cond_length,
                   trunk.rope_theta)
        made.load_state_dict(trunk.state_dict(), strict=False)
        for mine, theirs in zip(made.layers, trunk.layers):
            mine.support_layernorm.load_state_dict(theirs.input_layernorm.state_dict())
            mine.support_k_proj.load_state_dict(theirs.self_attn.k_proj.state_dict())
            mine.support_v_proj.load_state_dict(theirs.self_attn.v_proj.state_dict())
        return made

    @property
    def encoder(self) -> nn.ModuleList:
        return self.layers[: self.encoder_layers]

    @property
    def decoder(self) -> nn.ModuleList:
        return self.layers[self.encoder_layers :]

    def forward(self, ids: Tensor, cond: Tensor | None = None, before: State | None = None) -> EnatPass:
        """One pass over ids [B, N] with MASK where unknown; every sample has as many MASK tokens, and as many new ones.

        before: the state of the last pass, whose visible tokens are not computed again; None: all are new.
        """
        caption, canvas = self.parts(ids, cond)
        visible = ids != self.mask_token_id
        state = self.encode(caption, canvas, visible, before)
        support = caption.beside(TokenRows(state.features, canvas.angles).at(visible))
        rows = canvas.at(~visible)
        for layer in self.decoder:
            rows = layer(rows, support)
        return EnatPass(state, indices(~visible), rows.hidden)

    def parts(self, ids: Tensor, cond: Tensor | None) -> tuple[TokenRows, TokenRows]:
        """The embedded caption words and the embedded canvas."""
        hidden, angles = self.embed(ids, cond)
        angles = tuple(part.expand(len(ids), -1, -1) for part in angles)
        cut = self.cond_length
        return (TokenRows(hidden[:, :cut], tuple(part[:, :cut] for part in angles)),
                TokenRows(hidden[:, cut:], tuple(part[:, cut:] for part in angles)))

    def encode(self, caption: TokenRows, canvas: TokenRows, visible: Tensor, before: State | None = None) -> State:
        """Features of the visible tokens, bool [B, N]: new ones from the encoder, the others' reused through P."""
        kept = torch.zeros_like(visible) if before is None else before.visible
        features, support, new = torch.zeros_like(canvas.hidden), caption, visible & ~kept
        if bool(kept.any()):
            reused = TokenRows(before.features, canvas.angles).at(kept)
            reused = reused._replace(hidden=self.reuse(reused.hidden))
            features, support = written(features, indices(kept), reused.hidden), caption.beside(reused)
        if bool(new.any()):  # an empty canvas has nothing to encode
            rows = canvas.at(new)
            for layer in self.encoder:
                rows = layer(rows, support)
            features = written(features, indices(new), rows.hidden)
        return State(features, visible)

    def work(self, new: int, kept: int, masked: int) -> tuple[int, int]:
        """Multiply-adds of one sample's pass with so many new, reused and MASK tokens: encoder with P, decoder with
        head."""
        encoder = len(self.encoder) * self._layer_work(new, self.cond_length + kept) if new else 0
        decoder = len(self.decoder) * self._layer_work(masked, self.cond_length + kept + new)
        return encoder + kept * linear_work(self.reuse), decoder + masked * self.vocab_size * self.config.hidden_size

    def _layer_work(self, rows: int, support: int) -> int:
        """Of one layer: the rows have their own keys and values, the supporting ones theirs."""
        layer = self.layers[0]
        supporting = linear_work(layer.support_k_proj) + linear_work(layer.support_v_proj)
        return layer_work(layer, rows, rows + support) + (support - rows) * supporting


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {"scene-enat-1": lambda bundle: stirred(EnatTransformer.beside(bundle("scene-mgm-1").model),
                                                    "reuse.narrow.weight")}
