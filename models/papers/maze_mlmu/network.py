"""MLM-U (arXiv 2412.05117): which cells of a path are visible, and the network that says the others.

    visible   the prefix (openings, start and goal) always, and it is never predicted. Each token of the path, its end
              included, with probability v, and v ~ U(0, 1) is drawn for each maze: any share of it is hidden
    encoder   every token goes through; keys are the VISIBLE ones, so nobody reads a hidden token. There is no [MASK].
    decoder   one learned query vector, the same at every place: only rotary positions tell the places apart. Each layer
              reads the encoder's last states, visible keys alone; places do not look at each other.

So what is said of a hidden cell depends on the visible cells and its own place, and on no other hidden cell.
Letters: B mazes, N tokens, Q places that are asked for, D width, V words, H heads, W head width.
"""
from __future__ import annotations

from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRMSNorm, apply_rotary_pos_emb

from models.backbones.masked import MaskedTransformer, blocks
from models.backbones.stand_in import stirred


class PlaceReader(LlamaAttention):
    """Queries of places [B, Q, D]; keys and values of a memory [B, N, D], with angles of their own."""

    def forward(self, hidden_states, attention_mask, position_embeddings, memory, angles, **_):
        part = (-1, self.head_dim)
        q = self.q_proj(hidden_states).unflatten(-1, part).transpose(1, 2)  # [B, H, Q, W]
        k, v = (linear(memory).unflatten(-1, part).transpose(1, 2) for linear in (self.k_proj, self.v_proj))
        q, k = (apply_rotary_pos_emb(one, one[:, :0], *at)[0] for one, at in ((q, position_embeddings), (k, angles)))
        attend = ALL_ATTENTION_FUNCTIONS[self.config._attn_implementation]
        mixed, weights = attend(self, q, k, v, attention_mask, scaling=self.scaling, is_causal=False)
        return self.o_proj(mixed.flatten(2)), weights


class PlaceTransformer(MaskedTransformer):
    """MaskedTransformer's embedding, layers and head as the encoder, and a decoder of places behind it."""

    sees_ahead = True

    def __init__(self, vocab_size: int, hidden_size: int = 64, encoder_layers: int = 6, decoder_layers: int = 6,
                 num_attention_heads: int = 4, intermediate_size: int = 160):
        super().__init__(vocab_size, hidden_size, encoder_layers, num_attention_heads, None, intermediate_size,
                         positions="1d", mask_token_id=vocab_size - 1)  # no token is a mask: no row more
        self.embed_place = nn.Embedding(1, hidden_size)
        self.memory_norm = LlamaRMSNorm(hidden_size, eps=self.norm.variance_epsilon)
        self.decoder = blocks(self.config, decoder_layers)
        for index, layer in enumerate(self.decoder):
            layer.self_attn = PlaceReader(self.config, index)
        for weight in (*self.decoder.parameters(), self.embed_place.weight):
            if weight.dim() > 1:
                nn.init.normal_(weight, std=0.02)

    def forward(self, ids: Tensor, visible: Tensor, first: int = 0) -> Tensor:
        """Logits [B, N - first, V] of every place from `first` on, whether its token is visible, bool [B, N], or not.
        """
        hidden, angles = self.embed(ids)
        seen = visible[:, None, None].expand(-1, -1, ids.shape[1], -1)
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=seen, position_embeddings=angles)
        memory, places = self.memory_norm(hidden), self.places(len(ids), ids.shape[1] - first)
        turned = tuple(part[:, first:] for part in angles)
        for layer in self.decoder:
            places = layer(places, attention_mask=seen[:, :, first:], position_embeddings=turned, memory=memory,
                           angles=angles)
        return self.head(places)

    def places(self, batch: int, count: int) -> Tensor:
        """The one query vector [B, Q, D], at every place."""
        return self.embed_place.weight[None].expand(batch, count, -1)


STAND_INS = {"maze-mlmu-1": lambda bundle: (
    stirred(PlaceTransformer(len(bundle("maze-ar-1").tokenizer), 32, 2, 2, 4, 64)), bundle("maze-ar-1").tokenizer)}
