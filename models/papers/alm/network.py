"""A student in bytes: a model's blocks, and of its vocabulary the first 259 entries: three special ones, all bytes."""
from __future__ import annotations

import copy
import json

from models.backbones.stand_in import stirred

SYMBOLS = 259


def in_bytes(model):
    """The same blocks under the table of bytes, in place."""
    table = model.get_input_embeddings().weight.data[:SYMBOLS].clone()
    model.resize_token_embeddings(SYMBOLS, mean_resizing=False)
    model.get_input_embeddings().weight.data.copy_(table)
    return model


def byte_tokenizer(tokenizer):
    """A tokenizers.Tokenizer without its merges: every byte is a token, under its id there."""
    made = json.loads(tokenizer.to_str())
    kept = {word: id for word, id in made["model"]["vocab"].items() if id < SYMBOLS}
    made["model"] |= {"vocab": kept, "merges": []}
    return type(tokenizer).from_str(json.dumps(made))


def tiny(bundle, std: float, reads_bytes: bool = True):
    """For tests: text-ar-1's stand-in with weights of its own."""
    model, words = stirred(copy.deepcopy(bundle("text-ar-1").model), std=std), bundle("text-ar-1").tokenizer
    if not reads_bytes:
        return model, words
    return in_bytes(model), type(words)(tokenizer_object=byte_tokenizer(words.backend_tokenizer),
                                        eos_token=words.eos_token, pad_token=words.pad_token)


STAND_INS = {"text-byte-alm-1": lambda bundle: tiny(bundle, 0.3), "text-byte-sft-1": lambda bundle: tiny(bundle, 0.31),
             "text-cried-1": lambda bundle: tiny(bundle, 0.25, False)}
