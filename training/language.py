"""Language models as recipes: shapes of a Llama, what one writes, and two kinds of training.

    WorldLM    a small Llama on documents of a procedural world (models/worlds/world.py), judged by the world
    Masked     a masked language model on the books, LLaDA's loss and bound
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy, pad

from models.worlds.world import END, PAD, Doc, World, drawn
from training import data, text
from training.export import figure
from training.trainer import Recipe, rng_of


class Shape(NamedTuple):
    """Of a Llama: width, layers, heads, heads of keys and values, width of the MLP."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    ff: int


SMALL, MEDIUM = Shape(128, 6, 4, 4, 384), Shape(192, 6, 4, 4, 512)


def llama(vocabulary: int, shape: Shape, places: int):
    """An untrained LlamaForCausalLM with tied embeddings; <|endoftext|> 0 and <|pad|> 2, as all our tokenizers."""
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, hidden_size=shape.width, intermediate_size=shape.ff, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, max_position_embeddings=places,
        tie_word_embeddings=True, rms_norm_eps=1e-5, attn_implementation="sdpa", bos_token_id=END, eos_token_id=END,
        pad_token_id=PAD))


def save_llama(model, tok, folder: Path, **options) -> None:
    """Network and tokenizer in transformers' layout. tok: a tokenizers.Tokenizer."""
    model.config.dtype = "float16"
    model.save_pretrained(folder)
    text.wrap(tok, **options).save_pretrained(folder)


class WorldLM(Recipe):
    """A Llama that learns what a world's documents answer; what they ask is told, and carries no loss.

    One document stands in a row, padding behind it, <|endoftext|> before half of them, so that the network works with
    and without. It stops early where `target` is below 1.
    """

    world: World
    shape, rows, length, places = Shape(192, 4, 4, 4, 512), 64, 64, 256
    room = 50  # tokens of an answer, for measuring
    asked = 1000  # held-out documents that the card's figures are measured on
    target, reached = 1.0, 0.0  # greedy accuracy at which training stops
    data_licence = "none: made by program"

    def prepare(self, folder):
        self.tok = self.world.tokenizer()

    def build(self):
        return llama(self.tok.get_vocab_size(), self.shape, self.places)

    def encode(self, words: str) -> list[int]:
        return self.tok.encode(words).ids

    def encoded(self, doc: Doc) -> tuple[list[int], list[bool]]:
        """Ids of a document and its end, and which of them are learned."""
        pieces = [self.encode(piece) for piece in doc.pieces]
        learned = [flag for ids, flag in zip(pieces, doc.learned, strict=True) for _ in ids]
        return [*sum(pieces, []), END], [*learned, doc.learned[-1]]

    def batch(self, step, progress):
        rng, ids = rng_of(self.seed, step), np.full((self.rows, self.length + 1), PAD)
        labels = np.full((self.rows, self.length + 1), -100)
        for row in range(self.rows):
            doc = drawn(self.world, rng)
            first, (words, learned) = int(rng.integers(2)), self.encoded(doc)
            ids[row, : first + len(words)] = [END] * first + words
            labels[row, first : first + len(words)] = np.where(learned, words, -100)
        return {"ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}

    def loss(self, model, batch, progress):
        logits = model(batch["ids"][:, :-1], use_cache=False).logits
        return cross_entropy(logits.flatten(0, 1).float(), batch["labels"][:, 1:].flatten()), {}

    def quick(self, model):
        self.reached = float(np.mean(self.solve(model, 200)[0]))
        return {"greedy accuracy": self.reached}

    def stop(self):
        return self.reached >= self.target

    def evaluate(self, model):
        n, rng = self.asked, np.random.default_rng(3)
        greedy, _ = self.solve(model, n)
        answers = [drawn(self.world, rng, held_out=True).truth for _ in range(4 * n)]
        usual = max(map(answers.count, set(answers))) / len(answers)
        return {"metrics": {"greedy accuracy": figure(np.mean(greedy), "share", n, greedy)},
                "trivial_baseline": {"always the commonest answer": figure(usual, "share", len(answers))}}

    @torch.no_grad()
    def solve(self, model, n: int, temperature: float = 0.0, seed: int = 11):
        """Whether each held-out document is answered right, and the raw next-token entropies (nats) on the way."""
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        right, entropies = [], []
        prompts = [drawn(self.world, rng, held_out=True).prompt for _ in range(n)]
        for places, ids in alike([[END, *self.encode(prompt)] for prompt in prompts]):  # begins as the app begins it
            out, entropy = continued(model, ids, self.room, temperature, generator)
            entropies.append(entropy)
            texts = [f"{prompts[i]} {self.tok.decode(o.tolist())}" for i, o in zip(places, out, strict=True)]
            right += [self.world.check(text) for text in texts]
        return np.array(right, float), np.concatenate(entropies)

    def save(self, model, folder):
        save_llama(model, self.tok, folder, unk_token="<|unk|>", clean_up_tokenization_spaces=True)


def alike(rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Rows in groups of one length, which need no padding: (their places, their ids [B, P])."""
    for length in dict.fromkeys(map(len, rows)):
        places = [i for i, row in enumerate(rows) if len(row) == length]
        yield places, torch.tensor(np.array([rows[i] for i in places], np.int64))


@torch.no_grad()
def continued(model, ids, count: int, temperature: float, generator):
    """`count` new tokens [B, count] with a key-value cache, and the raw entropies (nats) before each row's end."""
    past, step, out, entropies = None, ids, [], []
    alive = torch.ones(len(ids), dtype=torch.bool)
    for _ in range(count):
        made = model(step, past_key_values=past, use_cache=True)
        past, logp = made.past_key_values, made.logits[:, -1].float().log_softmax(-1)
        entropies.append(-(logp.exp() * logp).sum(-1)[alive])
        if temperature:
            step = torch.multinomial((logp / temperature).softmax(-1), 1, generator=generator)
        else:
            step = logp.argmax(-1, keepdim=True)
        out.append(step)
        alive = alive & (step[:, 0] != END)
        if not alive.any():
            break
    return torch.cat(out, 1), torch.cat(entropies).numpy()


def written(model, rows: Sequence[Sequence[int]], length: int, at_once: int = 256) -> np.ndarray:
    """Whole texts uint16 [K, length] that a model writes behind beginnings, greedily; those that are as long stand
    together, PAD behind their end."""
    made = []
    for _, group in alike(rows):
        for ids in group.split(at_once):
            found = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_length=length,
                                   pad_token_id=PAD)
            made.append(pad(found, (0, length - found.shape[1]), value=PAD))
    return torch.cat(made).numpy().astype(np.uint16)


class Masked(Recipe):
    """LLaDA's loss (arXiv 2502.09992): hide each token with probability t ~ U(0, 1), weight the loss by 1 / t.

    It reads a stream of tokens, `self.train`; `self.val` is measured. The network answers a batch of ids with logits.
    """

    length, rows, mask = 512, 16, 1

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        ids = data.blocks(self.train, self.length, self.rows, step, self.seed)[:, : self.length]
        t = (rng.permutation(self.rows) + rng.random(self.rows)) / self.rows  # uniform on 0..1, one draw per stratum
        t = np.clip(t, 1e-3, 1)[:, None]
        masked = rng.random(ids.shape) < t
        return {"ids": torch.from_numpy(ids), "masked": torch.from_numpy(masked),
                "weight": torch.from_numpy((masked / t).astype(np.float32))}

    def loss(self, model, batch, progress):
        ids = batch["ids"]
        logits = model(torch.where(batch["masked"], self.mask, ids))
        losses = cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none")
        return (losses * batch["weight"].flatten()).sum() / ids.numel(), {}

    @torch.no_grad()
    def bound(self, model, tokens, seed: int = 3) -> np.ndarray:
        """Bits of each block of `length` tokens, an upper bound on average: hide l ~ U{1..L}, weight its loss by L / l.

        l is drawn one per stratum over the blocks, which keeps the estimate unbiased and quieter.
        """
        rng, length = np.random.default_rng(seed), self.length
        count = len(tokens) // length
        ids = torch.from_numpy(tokens[: count * length].astype(np.int64).reshape(count, length))
        hide = np.ceil((rng.permutation(count) + rng.random(count)) / count * length).clip(1, length)
        masked = torch.from_numpy(rng.random(ids.shape).argsort(1).argsort(1) < hide[:, None])
        bits = []
        for x, m, h in zip(ids.split(16), masked.split(16), torch.from_numpy(hide).split(16), strict=True):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(torch.where(m, self.mask, x)).float()
            losses = cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none")
            bits.append((losses.reshape(x.shape) * m).sum(1) * length / h / np.log(2))
        return torch.cat(bits).numpy()
