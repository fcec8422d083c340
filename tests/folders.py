"""Folders as a visitor brings them: tiny random networks of the library's own classes, saved in its own layout.

Made by program wherever a test needs them; a class gets the settings of `SMALL` that its config knows.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch

SMALL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, "n_embd": 32, "n_layer": 2,
         "n_head": 4, "n_positions": 64, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "ffn_dim": 64,
         "word_embed_proj_dim": 32, "embedding_size": 32, "image_size": 32, "patch_size": 8, "sliding_window": 4,
         "use_sliding_window": True, "max_window_layers": 1, "decoder_hidden_size": 32, "decoder_num_hidden_layers":
         1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 64, "projection_dim": 16,
         "num_register_tokens": 3, "partial_rotary_factor": 0.5, "local_attention": 4, "global_attn_every_n_layers":
         2}
LETTERS = ("the sea and the old house by the sea, where a little red hen lived. Once upon a time there was a cat. "
           "Question: What is it? Answer: 7.\n") * 8


@cache
def byte_words():
    """A byte-level BPE with an end and a pad token, as GPT-2's and Llama 3's are."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|pad|>", "<|endoftext|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([LETTERS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")


@cache
def word_pieces():
    """BERT's kind: word pieces between [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    tokenizer.train_from_iterator([LETTERS], trainers.WordPieceTrainer(vocab_size=120, special_tokens=special,
                                                                       show_progress=False))
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]",
                                                             special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", sep_token="[SEP]", pad_token="[PAD]",
                                   cls_token="[CLS]", mask_token="[MASK]")


def words_for(named: str):
    """The tokenizer that usually comes with a class, None for pictures."""
    from models.checkpoints import families
    if named in families.PICTURES:
        return None
    return byte_words() if named in (*families.CAUSAL, *families.HEADLESS) else word_pieces()


def network(named: str, **settings):
    """A network of the library, its matrices drawn wide enough that attention is uneven."""
    import transformers
    cls, words = getattr(transformers, named), words_for(named)
    known = cls.config_class()
    values = {name: value for name, value in (SMALL | settings).items() if hasattr(known, name) or name in settings}
    if words is not None:
        values |= {"vocab_size": len(words), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if named == "CLIPModel":
        parts = {part: {name: SMALL[name] for name in SMALL if hasattr(getattr(known, part), name)}
                 for part in ("text_config", "vision_config")}
        values = {**parts, "projection_dim": 16}
    torch.manual_seed(0)
    made = cls(cls.config_class(**(values | settings)))
    for weight in made.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.15)
    return made.eval()


def saved(place: Path, named: str, words="usual", **settings) -> Path:
    """A folder with such a network; words: its tokenizer, None for none."""
    made = network(named, **settings)
    made.save_pretrained(place)
    words = words_for(named) if words == "usual" else words
    if words is not None:
        words.save_pretrained(place)
    return place
