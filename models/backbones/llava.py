"""LLaVA-OneVision with the surface that SceneVLM has, so that what prunes the one prunes the other.

    <|im_start|>user <image>\nQUESTION<|im_end|><|im_start|>assistant\n

The classes and weights are transformers' own; only the way through them is spelled out. In place of <image> stand the
patches of the base view and, behind them, the learned image_newline, as the library packs a picture without detail
crops. The prompt is written here, because the repository's own template is a program and its processor needs
torchvision. Not covered: detail crops (any-resolution tiling), several pictures, videos.

Letters: L patches, P and T tokens before and behind them, E width of the encoder, D of the language model.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration as Library

from models.backbones.pictures import normalise, square
from models.backbones.text import encode
from models.checkpoints.verify import WeightsError
from models.trace.subject import SubjectError

IMAGE = "<image>"
BRIEFLY = "Answer the question using a single word or phrase."  # LLaVA's own words for short answers
CHAT = "<|im_start|>user " + IMAGE + "\n{}\n" + BRIEFLY + "<|im_end|><|im_start|>assistant\n"


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """The part that writes, laid out like a ...ForCausalLM."""

    model: nn.Module
    lm_head: nn.Linear

    @property
    def config(self):
        return self.model.config

    @property
    def device(self) -> torch.device:
        return self.model.device

    def get_output_embeddings(self) -> nn.Linear:
        return self.lm_head


class LlavaOnevisionForConditionalGeneration(Library):
    """Answers questions about photos. The name is the one that a checkpoint's config.json gives."""

    def __init__(self, config):
        checked(config)
        super().__init__(config)

    @property
    def lm(self) -> LanguageModel:
        return LanguageModel(self.model.language_model, self.lm_head)

    @property
    def encoder(self) -> nn.Module:
        """SigLIP's layers."""
        return self.model.vision_tower.encoder

    @property
    def embed_patches(self) -> nn.Conv2d:
        return self.model.vision_tower.embeddings.patch_embedding

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches; pixels that fill no patch are left over at the right and at the bottom."""
        side = self.config.vision_config.image_size // self.config.vision_config.patch_size
        return side, side

    @property
    def count(self) -> int:
        """Number of visual tokens L; image_newline is not among them."""
        return self.grid[0] * self.grid[1]

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The centre square of a photo at the encoder's size, as far as patches cover it: uint8 [S, S, 3]."""
        covered = self.grid[0] * self.config.vision_config.patch_size
        return square(image, self.config.vision_config.image_size)[:covered, :covered]

    def prepared(self, picture: np.ndarray) -> Tensor:
        """Pixels [1, 3, S, S] of a picture uint8 [S, S, 3], in the colours that the checkpoint asks for."""
        return normalise(picture[None], self).to(self.device)

    def encode(self, pixels: Tensor) -> Tensor:
        """Features [1, L, E] after the encoder's last layer, before its norm."""
        tower = self.model.vision_tower
        return tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state

    def visual(self, features: Tensor) -> Tensor:
        """Visual tokens [1, L, D] as the language model reads them."""
        return self.model.multi_modal_projector(features)

    def prompt(self, tokenizer, question: str) -> list[int]:
        """Ids of the chat, one of them <image>; SubjectError for a question that is too long or holds a special token.
        """
        special = [token for token in tokenizer.get_added_vocab() if token in question]
        if special:
            raise SubjectError(f"Please leave '{special[0]}' out of the question: it is a sign of the chat's own.")
        room = self.lm.config.max_position_embeddings - self.count
        return encode(tokenizer, CHAT.format(question), room)

    def around(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Embeddings [1, P, D] and [1, T, D] of what stands before and behind the patches; image_newline begins the
        second."""
        at = list(ids).index(self.config.image_token_id)
        words = self.get_input_embeddings()(torch.tensor([ids], device=self.device))
        return words[:, :at], torch.cat([self.model.image_newline[None, None], words[:, at + 1 :]], 1)


def checked(config) -> None:
    """WeightsError for a layout of this class that is read in another way than `encode` and the rows machine do."""
    usual = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    parts = {config.vision_config.model_type, config.text_config.model_type}
    other = [name for name, value in usual.items() if getattr(config, name) != value]
    if other or parts != {"siglip_vision_model", "qwen2"} or "sliding_attention" in config.text_config.layer_types:
        raise WeightsError("is built otherwise than llava-onevision-qwen2 (another encoder, feature layer or attention "
                           "window), which is not supported.")
