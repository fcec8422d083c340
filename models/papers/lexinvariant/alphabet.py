"""The symbols of the character models, and ciphers over them: a letter for a letter, marks stay."""
from __future__ import annotations

from string import ascii_lowercase as LETTERS

import numpy as np

SYMBOLS = LETTERS + " ,.\n\"'-!?;:"  # what 99.98 % of the books are written in, capitals made small
TOY = "abcde"


def encoded(text: str) -> np.ndarray:
    """Ids uint8 [N] of a text; what is none of the symbols is left out."""
    table = np.full(256, 255, np.uint8)
    table[np.frombuffer(SYMBOLS.encode(), np.uint8)] = np.arange(len(SYMBOLS))
    ids = table[np.frombuffer(text.lower().encode("ascii", "ignore"), np.uint8)]
    return ids[ids < 255]


def tokenizer(symbols: str):
    """transformers' tokenizer with one token per character; capitals are read as small letters."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = {symbol: i for i, symbol in enumerate(symbols)} | {"<|unk|>": len(symbols)}
    made = Tokenizer(models.WordLevel(known, unk_token="<|unk|>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    made.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<|unk|>", clean_up_tokenization_spaces=False)
