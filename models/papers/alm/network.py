"""A student that reads bytes, made of a model that reads word pieces: its blocks, and of its vocabulary the first 259
entries, three special ones and the 256 single bytes, with their embeddings."""
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
    """A tokenizers.Tokenizer without its merges: every byte is a token, under the id that it has there."""
    made = json.loads(tokenizer.to_str())
    vocabulary = {word: id for word, id in made["model"]["vocab"].items() if id < SYMBOLS}
    made["model"] |= {"vocab": vocabulary, "merges": []}
    return type(tokenizer).from_str(json.dumps(made))


# ---- for tests: text-ar-1's stand-in, and in bytes with other weights for each arm

def tiny(bundle, std: float):
    from transformers import PreTrainedTokenizerFast
    trunk = bundle("text-ar-1")
    words = PreTrainedTokenizerFast(tokenizer_object=byte_tokenizer(trunk.tokenizer.backend_tokenizer),
                                    eos_token="<|endoftext|>", pad_token="<|pad|>")
    return in_bytes(stirred(copy.deepcopy(trunk.model), std=std)), words


STAND_INS = {"text-cried-1": lambda bundle: (stirred(copy.deepcopy(bundle("text-ar-1").model), std=0.25),
                                             bundle("text-ar-1").tokenizer),
             "text-byte-alm-1": lambda bundle: tiny(bundle, 0.3), "text-byte-sft-1": lambda bundle: tiny(bundle, 0.31)}
