"""Which of transformers' classes may be loaded, by what they do; a visitor's folder is opened as its family is.

The list is by hand, because a config.json is untrusted; what is done with a model of it is not: the library's own
interface says where its attention is, its input embeddings and its head. tests/checkpoints/test_layouts.py opens each
against eager attention. Not in it, though the library has them: networks that do not ask its interface for attention
(MPNet, DeBERTa, BLOOM, Falcon), that share one layer among all (ALBERT), or cap or bias their scores (Gemma 2, BEiT).
"""

from __future__ import annotations

import re

WRITERS = ("BioGpt", "Cohere", "GPTBigCode", "GPTNeoX", "Gemma", "Granite", "Llama", "Mistral", "OPT", "Olmo", "Olmo2",
           "Phi", "Phi3", "Qwen2", "Qwen3", "SmolLM3", "StableLm", "Starcoder2")
READERS = ("Bert", "Camembert", "DistilBert", "Electra", "Ernie", "ModernBert", "Roberta", "XLMRoberta")
TASKS = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")

CAUSAL = ("GPT2LMHeadModel", "Gemma3ForCausalLM", *(name + "ForCausalLM" for name in WRITERS))
HEADLESS = ("GPT2Model", "Gemma3TextModel", *(name + "Model" for name in WRITERS))
# Whose layers models/backbones/rows.py computes token by token: norm, attention, norm, MLP, and full rotary places.
ROWWISE = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "GemmaForCausalLM",
           "Starcoder2ForCausalLM")
# Whose layers are called as they are, on the tokens alive there (models/backbones/stacks.py).
LAYERED = ("GPT2LMHeadModel", "GPTNeoXForCausalLM", "OPTForCausalLM", "OlmoForCausalLM", "Olmo2ForCausalLM",
           "PhiForCausalLM", "Phi3ForCausalLM", "SmolLM3ForCausalLM", "StableLmForCausalLM")
PRUNED = (*ROWWISE, *LAYERED)
MASKED = tuple(name + "ForMaskedLM" for name in READERS)
ENCODERS = ("BertForPreTraining", "ElectraForPreTraining", *(name + "Model" for name in READERS),
            *(name + task for name in READERS for task in TASKS))
# What stands in front of the patches in the sequence, beside registers; a network's own config says how many of those.
PICTURES = {"ViTModel": 1, "ViTForImageClassification": 1, "DeiTModel": 2, "DeiTForImageClassification": 2,
            "DeiTForImageClassificationWithTeacher": 2, "Dinov2Model": 1, "Dinov2ForImageClassification": 1,
            "Dinov2WithRegistersModel": 1, "Dinov2WithRegistersForImageClassification": 1, "ViTMAEModel": 1,
            "ViTMAEForPreTraining": 1, "ViTMSNModel": 1, "CLIPVisionModel": 1, "CLIPVisionModelWithProjection": 1,
            "CLIPModel": 1, "SiglipVisionModel": 0}
TEXTS = (*CAUSAL, *HEADLESS, *MASKED, *ENCODERS)
EVERY = (*TEXTS, *PICTURES)
MANY = 24  # classes that one sentence names
TASK = re.compile(r"(For[A-Z]\w*|LMHeadModel|TextModel|VisionModel\w*|Model)$")
PARTS_OF = {"CLIPModel": "CLIPVisionModel"}  # folders of two towers, of which one is opened


def in_front(model) -> int:
    """How many tokens stand before a picture model's patches: class and distillation tokens, registers."""
    return PICTURES[type(model).__name__] + getattr(model.config, "num_register_tokens", 0)


def says(names) -> str:
    """Class names as a sentence takes them, in the order of the alphabet; the families of very many."""
    many = len(set(names)) > MANY
    *first, last = sorted({TASK.sub("", name) for name in names} if many else names) or ["none"]
    listed = f"{', '.join(first)} or {last}" if first else last
    return f"any of {len(set(names))} classes of the families {listed}" if many else listed
