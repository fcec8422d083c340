"""A small vision-language model: a bidirectional patch encoder, a projector, and a causal Llama that reads both.

The picture becomes L visual tokens in front of the question; the answer is the word that follows the question's last
token, so that answering is one prefill. Blocks are transformers' Llama layers throughout.

Letters: B pictures, L visual tokens, T words, N = L + T, D width, V vocabulary.
"""
from collections.abc import Sequence

import numpy as np
import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn

from models.backbones.masked import MaskedTransformer
from models.backbones.text import encode as encode_words


class SceneVLM(nn.Module, PyTorchModelHubMixin):
    """Answers questions about square pictures.

    encoder: MaskedTransformer's blocks and places (2-D rotary and learned rows and columns) over patches instead of
    codes. lm: a LlamaForCausalLM, whose sequence is the visual tokens in raster order, then the words.
    """

    def __init__(self, vocab_size: int, image_size: int = 64, patch_size: int = 8, encoder_size: int = 128,
                 encoder_layers: int = 4, encoder_heads: int = 4, hidden_size: int = 128, num_hidden_layers: int = 8,
                 num_attention_heads: int = 4, intermediate_size: int = 384, max_position_embeddings: int = 256):
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        side = image_size // patch_size
        self.grid, self.patch_size = (side, side), patch_size
        self.embed_patches = nn.Conv2d(3, encoder_size, patch_size, patch_size)
        self.encoder = MaskedTransformer(1, encoder_size, encoder_layers, encoder_heads, grid=self.grid, absolute=True,
                                         rope_theta=100.0)
        self.projector = nn.Sequential(nn.Linear(encoder_size, hidden_size), nn.GELU(),
                                       nn.Linear(hidden_size, hidden_size))
        self.lm = LlamaForCausalLM(LlamaConfig(
            vocab_size=vocab_size, hidden_size=hidden_size, intermediate_size=intermediate_size,
            num_hidden_layers=num_hidden_layers, num_attention_heads=num_attention_heads,
            num_key_value_heads=num_attention_heads, max_position_embeddings=max_position_embeddings,
            tie_word_embeddings=False, rms_norm_eps=1e-5, attn_implementation="sdpa", bos_token_id=0, eos_token_id=0,
            pad_token_id=2))

    @property
    def config(self):
        """The language model's: what the tabs of a text model ask for."""
        return self.lm.config

    @property
    def count(self) -> int:
        """Number of visual tokens L."""
        return self.grid[0] * self.grid[1]

    def prepared(self, picture: np.ndarray) -> Tensor:
        """Pixels [1, 3, H, W] of a picture uint8 [H, W, 3]."""
        return normalise(torch.from_numpy(np.array(picture))[None]).to(self.lm.device)

    def prompt(self, tokenizer, question: str) -> list[int]:
        """Ids of a question; SubjectError when there is no room for it beside the picture."""
        return encode_words(tokenizer, question, self.config.max_position_embeddings - self.count)

    def around(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Embeddings [1, 0, D] and [1, T, D] of what stands before and behind the picture."""
        words = self.lm.model.embed_tokens(torch.tensor([ids], device=self.lm.device))
        return words[:, :0], words

    def patches(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Input of the encoder's first layer [B, L, D] and its angles, from pixels [B, 3, H, W] in -1..1."""
        hidden, angles = self.encoder.embed(torch.zeros(len(pixels), self.count, dtype=torch.long,
                                                        device=pixels.device))
        found = self.embed_patches(pixels.to(self.embed_patches.weight.dtype))
        return hidden + found.flatten(2).transpose(1, 2), angles

    def encode(self, pixels: Tensor) -> Tensor:
        """Visual features [B, L, D] after the encoder's last layer and norm."""
        hidden, angles = self.patches(pixels)
        for layer in self.encoder.layers:
            hidden = layer(hidden, position_embeddings=angles)
        return self.encoder.norm(hidden)

    def visual(self, features: Tensor) -> Tensor:
        """Visual tokens [B, L, D] as the language model reads them."""
        return self.projector(features)

    def embed(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Input of the language model [B, L + T, D]: the picture, then the words ids int64 [B, T]."""
        return torch.cat([self.visual(self.encode(pixels)), self.lm.model.embed_tokens(ids)], 1)

    def states(self, hidden: Tensor, positions: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Last states [B, N, D], before the final norm. positions int64 [1, N] (0..N-1 by default); mask bool
        [1, 1, N, N], causal by default."""
        if positions is None:
            positions = torch.arange(hidden.shape[1], device=hidden.device)[None]
        angles = self.lm.model.rotary_emb(hidden, positions)
        for layer in self.lm.model.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=angles)
        return hidden

    def head(self, hidden: Tensor) -> Tensor:
        """Final norm and output projection: [..., D] -> [..., V]."""
        return self.lm.lm_head(self.lm.model.norm(hidden))

    def forward(self, pixels: Tensor, ids: Tensor) -> Tensor:
        """Logits [B, V] of the word after the question."""
        return self.head(self.states(self.embed(pixels, ids))[:, -1])


def normalise(pictures: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in -1..1."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
