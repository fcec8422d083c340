"""iLLaMA's network (arXiv 2404.06773): an image classifier made of LLaMA's decoder layers, causal in raster order.

Two things make a causal image classifier learn. The class token stands BEHIND the patches, so that its row of the
causal mask sees them all; and the mask is soft while training begins: attention weights are multiplied by
S = a ones + (1 - a) lower-triangular ones, with a from 1 (bidirectional) to 0 (causal), after the softmax and without
renormalising. So at a = 0 a row sums to less than 1, and its denominator still runs over what it may not see.

No attention of our own: a layer gets every key twice, once with its value and once with zero, and the additive mask
log S beside log(1 - S). The two shares of a key's weight sum to it, so the denominators are those of full attention and
what S takes away goes to a value of zero.

Learned absolute positions are kept beside rotary ones, which count places in the sequence (1-D, all tokens, the class
token too). Pairs of rotated channels are the library's (i, i + d/2); the reference turns (2i, 2i + 1), which is a
permutation of the rows of q and k. Not covered: drop-path, mixup, weights made from LLaMA-2's.

Letters: B photos, L patches, N = L + 1 tokens, D width, C classes.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from models.backbones.stand_in import stirred

NEVER = -1e5  # in place of log 0: finite, and its exponential is exactly zero


class IllamaForImageClassification(nn.Module, PyTorchModelHubMixin):
    """Classifies photos from the class token's last state.

    cls_first: the class token stands before the patches (the paper's failure). convention: where S acts, "after" the
    softmax (the paper) or "before" it, as a bias, so that rows sum to 1. labels: names of the C classes.
    """

    def __init__(self, image_size: int = 64, patch_size: int = 8, hidden_size: int = 192, num_hidden_layers: int = 6,
                 num_attention_heads: int = 3, intermediate_size: int = 512, labels: tuple[str, ...] = ("0", "1"),
                 cls_first: bool = False, convention: str = "after", rope_theta: float = 10000.0,
                 rms_norm_eps: float = 1e-6):
        super().__init__()
        if convention not in ("after", "before"):
            raise ValueError(f'convention is "{convention}": choose "after" or "before"')
        self.labels, self.cls_first, self.convention, self.rope_theta = tuple(labels), cls_first, convention, rope_theta
        self.config = LlamaConfig(
            vocab_size=1, bos_token_id=None, eos_token_id=None, hidden_size=hidden_size, attention_bias=True,
            num_hidden_layers=num_hidden_layers, num_attention_heads=num_attention_heads,
            num_key_value_heads=num_attention_heads, intermediate_size=intermediate_size, rms_norm_eps=rms_norm_eps,
            attn_implementation="sdpa", image_size=image_size, patch_size=patch_size)
        self.grid = (image_size // patch_size,) * 2
        count = self.grid[0] * self.grid[1]
        self.patch_embeddings = nn.Conv2d(3, hidden_size, patch_size, patch_size)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, hidden_size))
        self.position_embeddings = nn.Parameter(0.02 * torch.randn(1, count + 1, hidden_size))  # in sequence order
        self.layers = nn.ModuleList(LlamaDecoderLayer(self.config, i) for i in range(num_hidden_layers))
        self.norm = LlamaRMSNorm(hidden_size, eps=rms_norm_eps)
        self.head = nn.Linear(hidden_size, len(self.labels))
        self.cls_place, self.first_patch = (0, 1) if cls_first else (count, 0)
        self.apply(_initialise)

    def forward(self, pixels: Tensor, softness: Tensor | float = 0.0) -> Tensor:
        """Logits [B, C] of pixels [B, 3, H, W]. softness: a in S, 0 at test time."""
        return self.classify(self.states(pixels, softness)[-1])

    def states(self, pixels: Tensor, softness: Tensor | float = 0.0, order: Tensor | None = None,
               convention: str | None = None) -> list[Tensor]:
        """Hidden states [B, N, D] after every layer. order int [L]: the patch that stands at each place, raster by
        default; a patch takes its learned position along. convention: a what-if, as trained by default."""
        hidden, angles = self.embed(pixels, order), self.rotary(pixels.device)
        softness = torch.as_tensor(softness, dtype=torch.float32, device=hidden.device)
        twice = (convention or self.convention) == "after"
        mask = (split_mask if twice else bias_mask)(softness, hidden.shape[1]).to(hidden.dtype)
        found = []
        for layer in self.layers:
            hidden = layer(hidden, attention_mask=mask, position_embeddings=angles,
                           past_key_values=TWICE if twice else None)
            found.append(hidden)
        return found

    def classify(self, hidden: Tensor) -> Tensor:
        """Logits [B, C] read from the class token of hidden states [B, N, D]."""
        return self.head(self.norm(hidden[:, self.cls_place]))

    def embed(self, pixels: Tensor, order: Tensor | None = None) -> Tensor:
        """Input of the first layer [B, N, D]."""
        patches = self.patch_embeddings(pixels.to(self.patch_embeddings.weight.dtype)).flatten(2).transpose(1, 2)
        count, places = patches.shape[1], self.position_embeddings
        patches = patches + places[:, self.first_patch : self.first_patch + count]
        if order is not None:
            patches = patches[:, order]
        cls = (self.cls_token + places[:, self.cls_place : self.cls_place + 1]).expand(len(patches), -1, -1)
        return torch.cat([cls, patches] if self.cls_first else [patches, cls], 1)

    def rotary(self, device) -> tuple[Tensor, Tensor]:
        """cos and sin [1, N, D/H] of the places 0..N-1, in the library's layout of two equal halves."""
        pairs = self.config.head_dim // 2
        turns = self.rope_theta ** (-torch.arange(pairs, device=device, dtype=torch.float32) / pairs)
        angles = torch.arange(self.position_embeddings.shape[1], device=device)[:, None] * turns  # [N, pairs]
        angles = torch.cat([angles, angles], 1)[None]
        dtype = self.cls_token.dtype
        return angles.cos().to(dtype), angles.sin().to(dtype)


class Twice:
    """A source of keys and values in the place of a cache: every key again, with a value of zero."""

    def update(self, keys: Tensor, values: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """[B, H, N, W] each -> [B, H, 2 N, W] each."""
        return torch.cat([keys, keys], 2), torch.cat([values, torch.zeros_like(values)], 2)


TWICE = Twice()


def soft_mask(softness: Tensor, count: int) -> Tensor:
    """S [N, N] = a + (1 - a) lower-triangular."""
    return softness + (1 - softness) * torch.ones(count, count, device=softness.device).tril()


def split_mask(softness: Tensor, count: int) -> Tensor:
    """The additive mask [1, 1, N, 2 N] under which each key's weight p splits into S p and (1 - S) p."""
    kept = soft_mask(softness, count)
    return torch.cat([kept.log(), (1 - kept).log()], 1).clamp_min(NEVER)[None, None]


def bias_mask(softness: Tensor, count: int) -> Tensor:
    """The additive mask [1, 1, N, N] of the other convention: weights S p, renormalised."""
    return soft_mask(softness, count).log().clamp_min(NEVER)[None, None]


def softness_at(progress: float, share: float = 1 / 6) -> float:
    """a(t): linear from 1 to 0 over the first `share` of training."""
    return max(0.0, 1.0 - progress / share)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {name: lambda bundle, first=first: stirred(IllamaForImageClassification(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, labels=tuple("abcde"),
    cls_first=first)) for name, first in (("photo-illama-1", False), ("photo-illama-first-2", True))}
