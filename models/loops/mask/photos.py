"""Photos as an MAE sees them: normalised pixels, patches, the forward pass under any mask, and two trivial fills.

Letters: B pictures, L patches, P numbers per patch (3 * patch_size^2), D width, S picture side in pixels. Errors are
mean squared differences over a patch, in units of the ImageNet-normalised pixels that the network was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from models.backbones.pictures import MEAN, STD, normalise, patchify, square


@dataclass(frozen=True, eq=False)
class Photo:
    """One picture cut for one network: shown uint8 [S, S, 3], pixels [1, 3, S, S], target float [1, L, P]."""

    shown: np.ndarray
    pixels: Tensor
    target: Tensor
    grid: tuple[int, int]

    noun: ClassVar[str] = "patches"

    @property
    def count(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def candidates(self) -> np.ndarray:
        """Patches that may be hidden: all."""
        return np.arange(self.count)

    @cached_property
    def variance(self) -> Tensor:
        """Pixel variance of each patch, mean over its numbers' squared distance to their mean: [1, L]."""
        return self.target.var(-1)


def photo(image: np.ndarray, model) -> Photo:
    """The centre square of a picture at the network's size (Lanczos)."""
    size, patch = model.config.image_size, model.config.patch_size
    shown = square(image, size)
    like = next(model.parameters())
    pixels = normalise(shown[None]).to(like.device)  # [1, 3, S, S]; the target keeps full precision
    return Photo(shown, pixels.to(like.dtype), model.patchify(pixels), (size // patch, size // patch))


def picture(model, patches: Tensor) -> np.ndarray:
    """The first picture of patches [B, L, P] as uint8 [S, S, 3]; values outside 0..255 are clipped."""
    pixels = model.unpatchify(patches[:1].float())[0].permute(1, 2, 0).cpu().numpy()
    return np.clip(np.round((pixels * STD + MEAN) * 255), 0, 255).astype(np.uint8)


def covered(view: Photo, ids) -> np.ndarray:
    """The photo [S, S, 3] with these patches in the mean colour of all photos: what a network had before it that never
    read them."""
    found, (rows, columns) = view.shown.copy(), view.grid
    high, wide = found.shape[0] // rows, found.shape[1] // columns
    for row, column in (divmod(int(at), columns) for at in ids):
        found[row * high : (row + 1) * high, column * wide : (column + 1) * wide] = np.round(255 * np.ravel(MEAN))
    return found


def masked_count(count: int, mask_ratio: float) -> int:
    """n_mask = L - int(L (1 - ratio)), at least 1 and at most L - 1."""
    return min(max(count - int(count * (1 - mask_ratio)), 1), count - 1)


def noise_of(hidden: np.ndarray, count: int) -> Tensor:
    """ViTMAE's `noise` [1, L] that hides exactly these patches: it keeps the lowest."""
    noise = torch.zeros(1, count)
    noise[0, torch.as_tensor(np.asarray(hidden, np.int64))] = 1.0
    return noise


def encode_places(vit, pixels: Tensor, places: Tensor, layers: list | None = None) -> Tensor:
    """The encoder on [CLS] and these patches [B, P] alone, in this order: latents [B, 1 + P, D]. layers: see `encode`.
    """
    embeddings = vit.embeddings
    tokens = embeddings.patch_embeddings(pixels) + embeddings.position_embeddings[:, 1:]  # [B, L, D]
    kept = tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[2]))
    first = (embeddings.cls_token + embeddings.position_embeddings[:, :1]).expand(len(kept), -1, -1)
    hidden = torch.cat([first, kept], 1)
    for layer in vit.layers:
        hidden = layer(hidden, None)
        if layers is not None:
            layers.append(hidden)
    return vit.layernorm(hidden)


@torch.no_grad()
def encode(model, pixels: Tensor, noise: Tensor, n_mask: int, layers: list | None = None
           ) -> tuple[Tensor, Tensor, Tensor]:
    """The encoder on the patches with the L - n_mask lowest noise, as ViTMAE's `noise` argument orders them.

    Written out because the library reads the number of kept patches from the shared config, which no visitor may
    change. Returns latents [B, 1 + L - n_mask, D], ids_restore [B, L] and mask [B, L] (1 = hidden). layers: is filled
    with every layer's states.
    """
    ids_shuffle = torch.argsort(noise.to(pixels.device), dim=1, stable=True)
    ids_restore = torch.argsort(ids_shuffle, dim=1)
    ids_keep = ids_shuffle[:, : noise.shape[1] - n_mask]
    latents = encode_places(model.base_model, pixels, ids_keep, layers)
    mask = torch.ones_like(ids_restore, dtype=latents.dtype).scatter_(1, ids_keep, 0.0)
    return latents, ids_restore, mask


@torch.no_grad()
def rebuild(model, pixels: Tensor, noise: Tensor, n_mask: int) -> tuple[Tensor, Tensor]:
    """Predicted patches [B, L, P] (visible ones too) and mask [B, L]."""
    latents, ids_restore, mask = encode(model, pixels, noise, n_mask)
    return model.decoder(latents, ids_restore).logits, mask


def encode_whole(model, pixels: Tensor, layers: list | None = None) -> Tensor:
    """Latents [B, 1 + L, D] of pictures of which nothing is hidden. layers: as in `encode`."""
    count = model.vit.embeddings.patch_embeddings.num_patches
    return encode(model, pixels, torch.zeros(len(pixels), count), 0, layers)[0]


def patch_error(pixels: Tensor, target: Tensor, normalised: bool = False) -> Tensor:
    """ell [B, L]: mean over the patch of the squared error. pixels, target [B, L, P].

    normalised: in units of each true patch's own variance (MAE's per-patch normalised target), which makes flat
    patches hard: their noise is amplified.
    """
    error = (pixels.float() - target.float()).pow(2).mean(-1)
    return error / (target.var(-1) + 1e-6) if normalised else error


def errors(model, pixels: Tensor, noise: Tensor, n_mask: int, normalised: bool = False, size: int = 100
           ) -> tuple[Tensor, Tensor]:
    """The network's error of every patch and the mask (1 = hidden), both [K, L], in batches: each of K pictures hides
    the n_mask patches of highest noise [K, L]."""
    found = []
    for some, places in zip(pixels.split(size), noise.split(size)):
        patches, mask = rebuild(model, some, places, n_mask)
        found.append((patch_error(patches, model.patchify(some), normalised).cpu(), mask.float().cpu()))
    return tuple(torch.cat(part) for part in zip(*found))


def hidden_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean [B] of values [B, L] over the hidden patches."""
    return (values * mask).sum(1) / mask.sum(1)


def mean_fill(target: Tensor, mask: Tensor) -> Tensor:
    """Every patch filled with the mean colour of the picture's visible pixels: [B, L, P]. mask [B, L], 1 = hidden."""
    seen = (1 - mask)[..., None]
    colours = target.unflatten(-1, (-1, 3))  # [B, L, pixels, 3]
    colour = (colours.mean(2) * seen).sum(1) / seen.sum(1)  # [B, 3]
    return colour[:, None, None].expand_as(colours).flatten(2)


def inpaint(model, target: Tensor, mask: Tensor) -> Tensor:
    """Bilinear inpainting [B, L, P] from the mean colours of the visible patches.

    Each hidden patch's colour is the mean of its neighbours' (the harmonic fill, solved exactly); the patch colours are
    then interpolated bilinearly over the picture. Visible patches keep their pixels.
    """
    count = target.shape[1]
    side = int(count**0.5)
    means = target.unflatten(-1, (-1, 3)).mean(2).double()  # [B, L, 3]
    hidden = mask.bool()
    eye, near = torch.eye(count, dtype=torch.float64, device=target.device), _neighbours(side).to(target.device)
    system = torch.where(hidden[..., None], eye - near, eye)  # [B, L, L]
    filled = torch.linalg.solve(system, torch.where(hidden[..., None], 0.0, means))  # [B, L, 3]
    colours = filled.transpose(1, 2).unflatten(2, (side, side)).float()  # [B, 3, side, side]
    size = side * model.config.patch_size
    smooth = torch.nn.functional.interpolate(colours, size=(size, size), mode="bilinear", align_corners=False)
    return torch.where(hidden[..., None], model.patchify(smooth).to(target.dtype), target)


def beside_fills(model, pixels: Tensor, patches: Tensor, mask: Tensor) -> Tensor:
    """Mean error of the hidden patches [3, B]: of patches [B, L, P], of inpainting, of the mean colour."""
    target = model.patchify(pixels)
    answers = patches, inpaint(model, target, mask), mean_fill(target, mask)
    return torch.stack([hidden_mean(patch_error(answer, target), mask) for answer in answers])


def _neighbours(side: int) -> Tensor:
    """Row-stochastic [L, L]: each patch's share in the mean of its up to four neighbours."""
    y, x = torch.arange(side * side) // side, torch.arange(side * side) % side
    near = ((y[:, None] - y).abs() + (x[:, None] - x).abs() == 1).double()
    return near / near.sum(1, keepdim=True)


def by_borders(pixels: Tensor, visible: Tensor, holes: Tensor, size: int, strip: Tensor | None = None) -> Tensor:
    """Which piece fits, by a rule that needs no network: how far each piece's mean colour is from that of the visible
    pixels along a hole's border, or of all visible ones where none borders it, [B, M, K]. Of pixels [B, 3, S, S] the
    patches visible [B, E] are seen, holes [B, M] are not; strip [B, K, P]: the pieces, the holes' own by default.
    """
    patches = patchify(pixels.float(), size).flatten(1, 2)  # [B, L, N]
    seen = torch.zeros(patches.shape[:2]).scatter_(1, visible, 1.0)
    side = pixels.shape[-1] // size
    shown = seen.unflatten(1, (1, side, side)).repeat_interleave(size, 2).repeat_interleave(size, 3)
    ring = torch.nn.functional.pad(torch.zeros(size, size), (1, 1, 1, 1), value=1.0)
    ring[::size + 1, ::size + 1] = 0.0  # corners touch no side
    around = torch.nn.functional.unfold(torch.cat([pixels * shown, shown], 1), size + 2, padding=1, stride=size)
    border = (around.unflatten(1, (4, -1)) * ring.flatten()[:, None]).sum(2)  # [B, 4, L]: colours and how many pixels
    every = torch.cat([pixels * shown, shown], 1).sum((2, 3))[..., None]
    border = torch.where(border[:, 3:] > 0, border, every)
    own = taken(patches, holes) if strip is None else strip.float().cpu()
    colours = (border[:, :3] / border[:, 3:]).transpose(1, 2)
    return torch.cdist(taken(colours, holes), own.unflatten(2, (-1, 3)).mean(2))


def taken(rows: Tensor, ids: Tensor) -> Tensor:
    """[B, L, D] at ids [B, M]: [B, M, D]."""
    return rows.gather(1, ids[..., None].expand(-1, -1, rows.shape[-1]))
