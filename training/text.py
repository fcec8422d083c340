"""What the text recipes share: byte-level BPE, token streams, bits per character."""
import json
from pathlib import Path

import numpy as np
import torch

from training import data

SPECIALS = ["<|endoftext|>", "<|mask|>", "<|pad|>"]


def train_bpe(texts: list[str], size: int):
    """Byte-level BPE with `size` entries; <|endoftext|> <|mask|> <|pad|> are ids 0, 1, 2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())  # any byte can be written, though the books are ASCII
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=SPECIALS, initial_alphabet=alphabet,
                                  show_progress=False)
    tok.train_from_iterator(texts, trainer)
    return tok


def wrap(tok):
    """The tokenizers object as transformers' PreTrainedTokenizerFast."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tok, eos_token=SPECIALS[0], bos_token=SPECIALS[0],
                                   mask_token=SPECIALS[1], pad_token=SPECIALS[2],
                                   clean_up_tokenization_spaces=False)


def stream(tok, texts: list[str]) -> np.ndarray:
    """All books as one uint16 stream, <|endoftext|> before each."""
    rows = [np.array([0] + e.ids, dtype=np.uint16) for e in tok.encode_batch(texts)]
    return np.concatenate(rows)


def cached(folder: Path, size: int):
    """Tokenizer and train / val streams, kept beside the runs so that a resumed run need not redo them."""
    from tokenizers import Tokenizer

    home = Path(folder) / f"bpe-{size}"
    if not (home / "val.npy").exists():
        home.mkdir(parents=True, exist_ok=True)
        tok = train_bpe(data.stories("train"), size)
        tok.save(str(home / "tokenizer.json"))
        for split in ("train", "val"):
            np.save(home / f"{split}.npy", stream(tok, data.stories(split)))
    tok = Tokenizer.from_file(str(home / "tokenizer.json"))
    return tok, np.load(home / "train.npy"), np.load(home / "val.npy")


@torch.no_grad()
def bits_per_char(model, tokens: np.ndarray, n_chars: int, window: int = 1024, stride: int = 512,
                  device="cpu") -> float:
    """Total nats of all tokens after the first / ln 2 / characters, by sliding windows.

    Each token is scored once, with between window - stride and window - 1 tokens of context (fewer at the start).
    """
    nats = 0.0
    ids = torch.from_numpy(tokens.astype(np.int64))
    for start in range(0, len(ids) - 1, stride):
        first = max(0, start + stride - window)
        piece = ids[first : start + stride + 1].to(device)
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
            logits = model(piece[None, :-1]).logits[0].float()
        loss = torch.nn.functional.cross_entropy(logits, piece[1:], reduction="none")
        nats += float(loss[start - first :].sum())
    return nats / np.log(2) / n_chars


def describe(tok) -> str:
    return json.dumps({"vocabulary": tok.get_vocab_size()})
