"""aMUSEd (arXiv 2401.01808) as a backbone of the Unmask loop: a U-ViT over the codes of a VQ model, under a prompt.

The parts are diffusers' and transformers' own classes; the pipeline that joins them is to be withdrawn from diffusers
and is not used. The network begins and ends with convolutions, so no token can be computed or read without its
neighbours: `look` goes over the whole grid and gives logits where other backbones give states.

Letters: B samples, N codes of h x w, V codes, L words of a prompt, D and E widths of its words and of their sum.
"""
from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from models.trace.subject import SubjectError

AESTHETICS = 6  # the score, of 10, that the reference asks for


class Prompt(NamedTuple):
    """What the network is told: words [B, L, D] and pooled [B, E]; nothing: the same of the empty prompt, B = 1."""

    words: Tensor
    pooled: Tensor
    nothing: tuple[Tensor, Tensor]


class Amused(nn.Module):
    """transformer: UVit2DModel; vqvae: VQModel; text_encoder: CLIPTextModelWithProjection; tokenizer: CLIP's.

    Offers what models/loops/unmask/evaluation.py asks of a backbone, and `decode`, as a tokenizer of pictures has it.
    """

    def __init__(self, transformer: nn.Module, vqvae: nn.Module, text_encoder: nn.Module, tokenizer):
        super().__init__()
        self.transformer, self.vqvae, self.text_encoder = transformer, vqvae, text_encoder
        self.tokenizer = tokenizer
        self.mask_token_id = transformer.config.vocab_size - 1
        self.grid = (transformer.config.sample_size,) * 2

    def to(self, device=None, dtype=None) -> Amused:
        """The VQ model keeps its float32: in half precision it paints black (NaN)."""
        for part in (self.transformer, self.text_encoder):
            nn.Module.to(part, device=device, dtype=dtype)  # diffusers' own only adds a warning
        self.vqvae.to(device=device)
        return self

    @property
    def forbidden(self) -> tuple[int, ...]:
        """Ids that have a logit and stand for no code; none in the released weights."""
        return tuple(range(self.vqvae.config.num_vq_embeddings, self.transformer.config.codebook_size))

    @torch.inference_mode()
    def prompt(self, text: str) -> Prompt:
        """A text as the network reads it, padded as in training: the text encoder's last states but one, and its
        projected sum. SubjectError for more words than it takes."""
        most = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        count = len(self.tokenizer(text, verbose=False).input_ids)
        if count > most:
            raise SubjectError(f"This prompt makes {count} tokens; please keep it under {most + 1}.")
        tokens = self.tokenizer([text, ""], padding="max_length", max_length=most, return_tensors="pt").input_ids
        read = self.text_encoder(tokens.to(self.text_encoder.device), output_hidden_states=True)
        words, pooled = read.hidden_states[-2], read.text_embeds
        return Prompt(words[:1], pooled[:1], (words[1:], pooled[1:]))

    def with_null(self, cond: Prompt) -> Prompt:
        """The prompt, then the empty one: words and sum of both branches, batch 2B."""
        words, pooled = (torch.cat([said, empty.expand_as(said)]) for said, empty in zip(cond, cond.nothing))
        return Prompt(words, pooled, cond.nothing)

    def look(self, ids: Tensor, cond: Prompt) -> Tensor:
        """Logits [B, N, V] of all codes from one pass over ids [B, N]."""
        logits = self.transformer(ids.unflatten(1, self.grid), encoder_hidden_states=cond.words,
                                  pooled_text_emb=cond.pooled, micro_conds=self._micro(cond.words))  # [B, V, h, w]
        return logits.flatten(2).transpose(1, 2)

    def read(self, looked: Tensor, positions: Tensor) -> Tensor:
        """The logits [B, P, V] at positions [B, P]."""
        return looked.gather(1, positions[..., None].expand(-1, -1, looked.shape[2]))

    def spent(self, tokens: int, read_out: int, layers: int | None = None) -> tuple[int, int]:
        """Rows and multiply-adds of one sample's pass; it is always a whole one, and reads every token out."""
        return tokens * len(self.transformer.transformer_layers), self._macs

    def decode(self, ids: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in 0..1 of codes [B, h, w]."""
        shape = (*ids.shape, self.vqvae.config.latent_channels)
        return self.vqvae.decode(ids, force_not_quantize=True, shape=shape).sample.clip(0, 1)

    def _micro(self, like: Tensor) -> Tensor:
        """What the reference says beside the prompt [B, 5]: width and height in pixels, the crop's corner, aesthetics.
        """
        cell = 2 ** (len(self.vqvae.config.block_out_channels) - 1)
        said = [self.grid[1] * cell, self.grid[0] * cell, 0, 0, AESTHETICS]
        return like.new_tensor(said).expand(len(like), -1)

    @cached_property
    def _macs(self) -> int:
        """Multiply-adds of one sample's pass, counted on a copy of the network without weights."""
        from torch.utils.flop_counter import FlopCounterMode
        with torch.device("meta"), torch.inference_mode(False):
            config = self.transformer.config
            empty = type(self.transformer).from_config(config)
            words = torch.empty(1, self.text_encoder.config.max_position_embeddings, config.encoder_hidden_size)
            cond = torch.empty(1, config.cond_embed_dim)
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                empty(torch.zeros(1, *self.grid, dtype=torch.long), words, cond, torch.zeros(1, 5))
        return counter.get_total_flops() // 2
