"""Small tokenizers of every kind that visitors bring, made by program: they learn a few words and know the rest by
bytes, by characters or not at all."""

from __future__ import annotations

from functools import cache

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = ["the unbelievable sea, the hen and the mill. Once upon a time it was unable to believe the sea.\n",
          "Müller läuft über die Brücke; naïve café. 海の上の月 東京 שלום עולם مرحبا"] * 20
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def made(tokenizer: Tokenizer, **roles: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles)


def trained(tokenizer: Tokenizer, trainer) -> Tokenizer:
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def around(tokenizer: Tokenizer, single: str, *signs: str) -> Tokenizer:
    """What the tokenizer itself puts around a text."""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(sign, tokenizer.token_to_id(sign)) for sign in signs])
    return tokenizer


@cache
def byte_level(prefix: bool = False, trim: bool = True) -> PreTrainedTokenizerFast:
    """As GPT-2: its unknown token is its end."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    sign = "<|endoftext|>"
    trained(tokenizer, trainers.BpeTrainer(vocab_size=420, special_tokens=[sign], show_progress=False,
                                           initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return made(tokenizer, unk_token=sign, bos_token=sign, eos_token=sign)


@cache
def llama(template: str = "<s> $A") -> PreTrainedTokenizerFast:
    """As Llama 2: a sign for spaces, one before the first word, bytes for what it does not know."""
    pieces = ["<unk>", "<s>", "</s>", *BYTES, *"▁theunblivarsy", "th", "▁th", "▁the", "▁un", "be", "bl", "le", "▁sea"]
    vocabulary = {piece: id for id, piece in enumerate(dict.fromkeys([*pieces, "▁s", "▁se", "ea", "▁u"]))}
    merges = [("t", "h"), ("▁", "th"), ("▁th", "e"), ("▁", "u"), ("▁u", "n"), ("b", "e"), ("b", "l"), ("l", "e"),
              ("▁", "s"), ("▁s", "e"), ("▁se", "a"), ("e", "a")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    return made(around(tokenizer, template, "<s>", "</s>"), unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def unigram(fallback: bool = False, scheme: str = "always") -> PreTrainedTokenizerFast:
    """As T5 or XLM-R: compatibility characters are made plain, runs of spaces are one."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    signs = ["<s>", "</s>", "<unk>"]
    trained(tokenizer, trainers.UnigramTrainer(vocab_size=200, special_tokens=signs, unk_token="<unk>",
                                               show_progress=False))
    if fallback:
        known = sorted(vocabulary := tokenizer.get_vocab(with_added_tokens=False), key=vocabulary.get)
        scores = [(piece, -float(rank + 1)) for rank, piece in enumerate([*known, *BYTES])]
        tokenizer.model = models.Unigram(scores, known.index("<unk>"), byte_fallback=True)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme=scheme)])
    tokenizer.add_special_tokens(signs)
    return made(around(tokenizer, "<s> $A </s>", "<s>", "</s>"), unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@cache
def wordpiece(lower: bool = True) -> PreTrainedTokenizerFast:
    """As BERT: no spaces, no line breaks; uncased, no capitals and no accents either."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lower)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    signs = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trained(tokenizer, trainers.WordPieceTrainer(vocab_size=200, special_tokens=signs, show_progress=False))
    return made(around(tokenizer, "[CLS] $A [SEP]", "[CLS]", "[SEP]"), unk_token="[UNK]", cls_token="[CLS]",
                sep_token="[SEP]", mask_token="[MASK]", pad_token="[PAD]")


@cache
def words() -> PreTrainedTokenizerFast:
    """Whole words and no decoder, as our own small worlds."""
    known = ["<|endoftext|>", "<|unk|>", "the", "sea", "hen", ",", ".", "7"]
    tokenizer = Tokenizer(models.WordLevel({word: id for id, word in enumerate(known)}, unk_token="<|unk|>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(known[:2])
    return made(tokenizer, unk_token="<|unk|>", bos_token="<|endoftext|>", eos_token="<|endoftext|>")


@cache
def suffixed() -> PreTrainedTokenizerFast:
    """As CLIP or the first GPT: the last piece of a word says so."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    trained(tokenizer, trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>"], end_of_word_suffix="</w>",
                                           show_progress=False))
    return made(tokenizer, unk_token="<unk>")


KINDS = {"byte-level": byte_level, "byte-level, spaced": lambda: byte_level(True, False), "llama": llama,
         "llama, ends": lambda: llama("<s> $A </s>"), "unigram": unigram, "unigram, bytes": lambda: unigram(True),
         "unigram, first": lambda: unigram(True, "first"), "wordpiece": wordpiece,
         "wordpiece, cased": lambda: wordpiece(False), "words": words, "suffixed": suffixed}
