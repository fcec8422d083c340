"""MixedAE (arXiv 2303.17152): one picture out of four, whose patches look for their siblings.

    x_l = x_l of source m_l                        # every patch stays in its place; each source gives L/R of them
    a block: softmax(q k^T, all but the K = L/R largest of a query at -inf) v       # homologous attention
    L_rec: per source, the decoder gets the latents of its patches and mask tokens elsewhere; MSE of what is missing
    L_con = -mean over l, p in P(l) of log(exp(cos(z_l, z_p) / tau) / sum over a != l of exp(cos(z_l, z_a) / tau))

P(l) are the other tokens of the same mixed picture that have l's source. The encoder sees no mask token. The first
block stays dense, and the class token, which has no source, looks at everything and is looked at by everyone. An
ordinary ViTMAE in its place is naive mixing: all attention is dense.

Letters: G mixed pictures, R sources of each (4), L patches, N = L + 1 tokens, P numbers of a patch, K kept keys.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.kept_pairs import finished, heads_of, masked
from models.loops.mask.photos import hidden_mean, patch_error

SOURCES, KEPT, DENSE, TAU = 4, 16, 1, 0.25  # pictures in one; K; first blocks that stay dense; of the contrast
EXAM = 3  # seed of the mixtures that are scored
READ = "keys kept late", "nearest final tokens", "nearest projected tokens"  # late: in the last third of the layers


def recognises(model: nn.Module) -> bool:
    """Whether it was trained to find siblings; naive mixing, an ordinary ViTMAE, was not."""
    return hasattr(model, "segment_embeddings")


class MixedPass(NamedTuple):
    """ends: the final tokens [G, L, D] and, where siblings are recognised, their projection [G, L, C], of length 1.
    keys: every layer's nearest [G, H, L, K], then each end's nearest tokens [G, 1, L, K]. patches [G R, L, P], decoded;
    mask [G R, L], 1 = missing."""

    ends: list[Tensor]
    keys: list[Tensor]
    patches: Tensor
    mask: Tensor

    def error(self, target: Tensor) -> Tensor:
        """Of every photo's missing patches [G R]."""
        return hidden_mean(patch_error(self.patches, target), self.mask)

    def siblings(self, m: Tensor) -> Tensor:
        """% of siblings [G, L, E + 1 or 2] among the keys of every patch, in the order of `keys`."""
        return torch.stack([siblings_kept(keys, m) for keys in self.keys], -1)


def through(model: nn.Module, target: Tensor, m: Tensor, segments: Tensor | None = None, keep: int = KEPT
            ) -> MixedPass:
    """Sources [G R, L, P] mixed by m [G, L], encoded once per mixture and decoded once per source."""
    pixels = model.unpatchify(mix(target, m)).to(model.decoder.mask_token.dtype)
    latents, keys = encode(model, pixels, segments, keep)
    ends = [latents[:, 1:], *([model.projection(latents[:, 1:])] if recognises(model) else [])]
    ends = [F.normalize(one.float(), dim=-1) for one in ends]
    keys += [nearest_tokens(one, keep) for one in ends]
    own, ids_restore, mask = unmix(latents, m)
    return MixedPass(ends, keys, model.decoder(own, ids_restore).logits, mask)


def mixing(groups: int, patches: int, generator: torch.Generator | None = None) -> Tensor:
    """m [G, L]: which source each place shows, every source equally often."""
    return torch.rand(groups, patches, generator=generator).argsort(1) % SOURCES


def mix(patches: Tensor, m: Tensor) -> Tensor:
    """Patches [G, L, P] of mixed pictures, from those of their sources [G R, L, P]."""
    sources = patches.unflatten(0, (-1, SOURCES))  # [G, R, L, P]
    return sources.gather(1, m[:, None, :, None].expand(-1, 1, -1, patches.shape[-1]))[:, 0]


def unmix(latents: Tensor, m: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the decoder gets for each source: latents [G R, 1 + L/R, D] of its patches, ids_restore and mask [G R, L]
    (1 = its patch is missing)."""
    mask = (m[:, None] != torch.arange(SOURCES, device=m.device)[:, None]).flatten(0, 1)  # [G R, L]
    order, own = mask.long().argsort(dim=1, stable=True), latents.repeat_interleave(SOURCES, 0)
    places = order[:, : m.shape[1] // SOURCES, None] + 1
    kept = own.gather(1, places.expand(-1, -1, latents.shape[-1]))
    return torch.cat([own[:, :1], kept], 1), order.argsort(1), mask.to(latents.dtype)


def encode(model: nn.Module, pixels: Tensor, segments: Tensor | None = None, keep: int = KEPT
           ) -> tuple[Tensor, list[Tensor]]:
    """Latents [G, N, D] of pictures that show every patch, and each layer's `keep` nearest keys, the only ones that are
    looked at where siblings are recognised. segments [G, L, D]: added to the patches."""
    embeddings, found, dense = model.vit.embeddings, [], DENSE if recognises(model) else 99
    tokens = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]
    tokens = tokens if segments is None else tokens + segments
    first = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(len(tokens), -1, -1)
    hidden = torch.cat([first, tokens], 1)
    for number, layer in enumerate(model.vit.layers):
        q, k, v = heads_of(layer, hidden)
        found.append(nearest_keys(q, k, keep))
        keys = F.pad(found[-1] + 1, (1, 0)) if number >= dense else None  # and the class token, which stands first
        hidden = finished(layer, hidden, masked(layer.attention, q, k, v, keys))
    return model.vit.layernorm(hidden), found


@torch.no_grad()
def nearest_keys(q: Tensor, k: Tensor, count: int) -> Tensor:
    """The patches [G, H, L, K] that every patch's query fits best, of all patches; q, k [G, H, N, d], [CLS] first."""
    return (q[:, :, 1:] @ k[:, :, 1:].transpose(-1, -2)).topk(count, -1).indices


def nearest_tokens(z: Tensor, count: int = KEPT) -> Tensor:
    """The tokens [G, 1, L, K] nearest in angle to each of z [G, L, C], which have length 1; itself is one of them."""
    return (z @ z.transpose(1, 2)).topk(count, -1).indices[:, None]


def siblings_kept(keys: Tensor, m: Tensor) -> Tensor:
    """Of the keys [G, H, L, K] that a patch keeps beside itself, % of its own source [G, L], over all heads. By chance
    100 (L/R - 1) / (L - 1)."""
    others = keys != torch.arange(keys.shape[2], device=keys.device)[:, None]
    same = m[:, None, None].expand(*keys.shape[:3], -1).gather(-1, keys) == m[:, None, :, None]
    return 100 * (same & others).sum((1, 3)) / others.sum((1, 3))


def read(model: nn.Module, kept: Tensor) -> dict[str, Tensor]:
    """By where one looks, % of siblings [...] out of `MixedPass.siblings` [..., E + 1 or 2]."""
    layers = model.config.num_hidden_layers
    late = kept[..., layers - max(1, layers // 3) : layers].mean(-1)
    return dict(zip(READ, (late, *kept[..., layers:].unbind(-1))))


@torch.no_grad()
def exam(model: nn.Module, pixels: Tensor, told: bool = False, seed: int = EXAM
         ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Of photos [G R, 3, S, S] mixed in fours, always alike: errors of what is missing [G R], % of siblings [G, E + 1
    or 2], final tokens [G, L, D] and m [G, L]. told: with segment vectors."""
    target, found = model.patchify(pixels), []
    m = mixing(len(target) // SOURCES, target.shape[1], torch.Generator().manual_seed(seed))
    for photos, some in zip(target.split(50 * SOURCES), m.split(50)):
        made = through(model, photos, some, model.segment_embeddings[some] if told else None)
        found.append((made.error(photos).float(), made.siblings(some).mean(1), made.ends[0]))
    return *map(torch.cat, zip(*found)), m


def contrast(z: Tensor, m: Tensor, tau: float = TAU) -> Tensor:
    """L_con of tokens z [G, L, C] of length 1: siblings near, all other tokens of the same mixed picture far."""
    itself = torch.eye(m.shape[1], dtype=torch.bool, device=m.device)
    alike = (z @ z.transpose(1, 2) / tau).masked_fill(itself, -1e4)  # [G, L, L]
    siblings = ((m[:, None] == m[..., None]) & ~itself).float()
    return F.cross_entropy(alike.flatten(0, 1), (siblings / siblings.sum(-1, keepdim=True)).flatten(0, 1))
