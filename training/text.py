"""What the text recipes share: byte-level BPE, token streams, bits per character."""
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


def wrap(tok, **options):
    """The tokenizers object as transformers' PreTrainedTokenizerFast."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tok, eos_token=SPECIALS[0], bos_token=SPECIALS[0],
                                   mask_token=SPECIALS[1], pad_token=SPECIALS[2],
                                   **{"clean_up_tokenization_spaces": False, **options})


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


UNIT = "bits/char (sliding windows of 1,024 tokens, stride 512)"


@torch.no_grad()
def bits_per_char(model, tokens: np.ndarray, n_chars: int, window: int = 1024, stride: int = 512) -> float:
    """Total nats of all tokens after the first / ln 2 / characters, by sliding windows.

    Each token is scored once, with between window - stride and window - 1 tokens of context (fewer at the start).
    <|endoftext|> between books is paid for, but is no character.
    """
    nats, device = 0.0, model.device
    ids = torch.from_numpy(tokens.astype(np.int64)).to(device)
    for start in range(0, len(ids) - 1, stride):
        first = max(0, start + stride - window)
        piece = ids[first : start + stride + 1]
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(piece[None, :-1], use_cache=False).logits[0].float()
        loss = torch.nn.functional.cross_entropy(logits, piece[1:], reduction="none")
        nats += float(loss[start - first :].sum())
    return nats / np.log(2) / n_chars


def five_gram(folder: Path, order: int = 5) -> float:
    """Bits per character of an interpolated character 5-gram (Witten-Bell) on the held-out books; kept in `folder`."""
    def bits() -> dict[str, np.ndarray]:
        return {"bits": np.array(witten_bell("\n\n".join(data.stories("train")), data.stories("val"), order))}
    return float(data.kept(Path(folder) / f"char-{order}-gram.npz", bits)["bits"])


def witten_bell(train: str, held_out: list[str], order: int) -> float:
    """P_n(c | h) = (count(h c) + T(h) P_{n-1}(c | h')) / (count(h) + T(h)), T(h) = distinct characters after h.

    Order 0 is uniform over 128 characters. ASCII only: a context is packed into 7 bits per character.
    """
    ids = np.frombuffer(train.encode("ascii"), np.uint8).astype(np.int64)
    total, count = 0.0, 0
    tables = [_grams(ids, n) for n in range(1, order + 1)]
    for book in held_out:
        new = np.frombuffer(book.encode("ascii"), np.uint8).astype(np.int64)
        p = np.full(len(new), 1 / 128)
        for n, (grams, times, contexts, seen, kinds) in enumerate(tables, 1):
            keys = _packed(new, n)
            c, h, t = _lookup(grams, times, keys), *(_lookup(contexts, v, keys >> 7) for v in (seen, kinds))
            known = p[n - 1 :]
            p[n - 1 :] = np.where(h > 0, (c + t * known) / np.maximum(h + t, 1), known)
        total, count = total - np.log2(p).sum(), count + len(new)
    return float(total / count)


def _packed(ids: np.ndarray, n: int) -> np.ndarray:
    """All n-grams as integers, 7 bits per character, the last character lowest."""
    keys = np.zeros(len(ids) - n + 1, np.int64)
    for i in range(n):
        keys = keys << 7 | ids[i : len(ids) - n + 1 + i]
    return keys


def _grams(ids: np.ndarray, n: int):
    grams, times = np.unique(_packed(ids, n), return_counts=True)
    contexts, first, kinds = np.unique(grams >> 7, return_index=True, return_counts=True)
    return grams, times, contexts, np.add.reduceat(times, first), kinds


def _lookup(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], 0)
