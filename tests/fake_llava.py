"""Tiny random weights in the layout of llava-hf/llava-onevision-qwen2-0.5b-ov-hf, every file of it that matters.

Like the real one: the names that weights had before transformers 5, a tied head that is not stored, half precision, a
picture whose side is no multiple of the patch, a feature layer before the encoder's last norm, grouped key heads.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tests.tiny import CORPUS

NAME = "llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
SIDE, PATCH = 62, 8  # 7 x 7 patches, six pixels left over; the real one: 384, 14, 27 x 27, six left over
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>")
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}"
    "{{ '<image>' }}{% endfor %}"
    "{# Render all text next #}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + content['text'] }}{% endfor %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}")
OLD = {"model.language_model.": "language_model.model.", "model.vision_tower.": "vision_tower.vision_model.",
       "model.multi_modal_projector.": "multi_modal_projector.", "model.image_newline": "image_newline"}


def llava(folder: Path, **other) -> Path:
    """A repository's files; `other` changes what config.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    words = tokenizer()
    config = {**said(words), **other}
    save_file(weights(said(words)), str(folder / "model.safetensors"), metadata={"format": "pt"})
    words.save(str(folder / "tokenizer.json"))
    files = {"config": config, "preprocessor_config": preprocessor(), "processor_config": processor(),
             "chat_template": {"chat_template": TEMPLATE}, "tokenizer_config": tokenizer_config()}
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def tokenizer():
    """A byte-level BPE with the chat's signs and the two placeholders behind its own words, as Qwen2's has them."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    made = Tokenizer(models.BPE())
    made.normalizer, made.decoder = normalizers.NFC(), decoders.ByteLevel()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.train_from_iterator([CORPUS], trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    made.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    return made


def said(words) -> dict:
    """What config.json says; the vocabulary has more rows than the tokenizer has words."""
    text = {"_name_or_path": "Qwen/Qwen2-0.5B-Instruct", "architectures": ["Qwen2ForCausalLM"],
            "bos_token_id": words.token_to_id("<|endoftext|>"), "eos_token_id": words.token_to_id("<|im_end|>"),
            "hidden_size": 32, "intermediate_size": 64, "max_position_embeddings": 512, "max_window_layers": 4,
            "model_type": "qwen2", "num_attention_heads": 4, "num_hidden_layers": 4, "num_key_value_heads": 2,
            "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 512, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": words.get_vocab_size() + 11}
    vision = {"hidden_size": 32, "image_size": SIDE, "intermediate_size": 64, "model_type": "siglip_vision_model",
              "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": PATCH, "vision_use_head": False}
    return {"architectures": ["LlavaOnevisionForConditionalGeneration"], "ignore_index": -100,
            "image_grid_pinpoints": pinpoints(), "image_token_index": words.token_to_id("<image>"),
            "model_type": "llava_onevision", "projector_hidden_act": "gelu", "text_config": text,
            "tie_word_embeddings": False, "torch_dtype": "float16", "use_image_newline_parameter": True,
            "video_token_index": words.token_to_id("<video>"), "vision_aspect_ratio": "anyres_max_9",
            "vision_config": vision, "vision_feature_layer": -1, "vision_feature_select_strategy": "full"}


def pinpoints() -> list[list[int]]:
    return [[SIDE * rows, SIDE * columns] for rows in (1, 2) for columns in (1, 2)]


def preprocessor() -> dict:
    return {"do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
            "image_grid_pinpoints": pinpoints(), "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
            "image_processor_type": "LlavaOnevisionImageProcessor", "processor_class": "LlavaOnevisionProcessor",
            "resample": 3, "rescale_factor": 1 / 255, "size": {"height": SIDE, "width": SIDE}}


def processor() -> dict:
    return {"image_token": "<image>", "num_image_tokens": (SIDE // PATCH) ** 2, "video_token": "<video>",
            "processor_class": "LlavaOnevisionProcessor", "vision_aspect_ratio": "anyres_max_9",
            "vision_feature_select_strategy": "full"}


def tokenizer_config() -> dict:
    return {"add_prefix_space": False, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"], "bos_token": None,
            "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
            "model_max_length": 32768, "pad_token": "<|endoftext|>", "processor_class": "LlavaOnevisionProcessor",
            "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None}


def weights(config: dict) -> dict[str, torch.Tensor]:
    """Random weights under their old names, large enough that attention is uneven and norms change something."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration
    torch.manual_seed(0)
    model = LlavaOnevisionForConditionalGeneration(LlavaOnevisionConfig(**config))
    for name, weight in model.named_parameters():
        torch.nn.init.normal_(weight, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    return {old(name): weight.half().contiguous() for name, weight in model.state_dict().items()
            if name != "lm_head.weight"}


def old(name: str) -> str:
    for now, before in OLD.items():
        name = before + name.removeprefix(now) if name.startswith(now) else name
    return name
