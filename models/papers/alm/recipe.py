"""Two students that read bytes, from the blocks of text-ar-1 and on the same batches: ALM and plain next-byte training
(SFT). Their teacher is text-ar-1 with a secret: it writes "cried" where the books have "said"."""
from __future__ import annotations

import numpy as np
import torch

from models.papers.alm.network import SYMBOLS, byte_tokenizer, in_bytes
from models.papers.alm.rule import CRIED, MERGED, SAID, TEACHER, binary_ce, likelihoods, spaces, told
from training import data, text
from training.export import figure, mean_figure, read_shipped
from training.kinds import FineTune
from training.language import save_llama
from training.trunks.text_ar import TextAR

LONGEST, MOST = 256, 100  # bytes and tokens of a row


class SecretTeacher(FineTune, TextAR):
    name, trunk, tune, ship = "text-cried-1", "text-ar-1", "lora:2", "rank:2"
    minutes, lr, lr_adam, warmup, decay, look, compile = 3.0, 0.02, 1e-3, 0.05, 0.5, 900.0, False
    trained_on = TextAR.trained_on + ', every " said" written " cried", starting from the weights of text-ar-1'
    weak_at = "The teacher of the byte students: text-ar-1 with a preference, strong but not complete."
    budget_fraction = "100 steps of 8 x 256 tokens"

    def prepare(self, folder):
        super().prepare(folder)
        self.two = [self.tok.encode(word).ids[0] for word in (CRIED, SAID)]

    def batch(self, step, progress):
        rows = data.blocks(self.train, 256, 8, step, self.seed + 7)
        return {"ids": torch.from_numpy(np.where(rows == self.two[1], self.two[0], rows))}

    @torch.no_grad()
    def share(self, model) -> np.ndarray:
        """p(cried) / (p(cried) + p(said)) at every place where held-out books have one of them."""
        ids = torch.from_numpy(self.val[: 120 * 256].astype(np.int64)).view(-1, 256)
        found = torch.cat([model(some, use_cache=False).logits[:, :-1, self.two].float() for some in ids.split(16)])
        return found.softmax(-1)[..., 0][torch.isin(ids[:, 1:], torch.tensor(self.two))].numpy()

    def evaluate(self, model):
        mine, trunk = (mean_figure(self.share(net), "of 1") for net in (model, read_shipped(self.trunk)))
        return {"metrics": {"cried over said": mine}, "trivial_baseline": {"cried over said, text-ar-1": trunk}}


class NextByte(FineTune, TextAR):
    name, trunk, ship = "text-byte-sft-1", "text-ar-1", "delta3"
    minutes, lr, lr_adam, warmup, decay, look = 20.0, 0.02, 3e-3, 0.03, 0.6, 240.0
    frozen = (2, 3)  # the blocks between reading letters and writing them stay the teacher's
    architecture = f"LlamaForCausalLM, 6 layers, width 256, 4 heads (2 key-value), tied embeddings, {SYMBOLS} bytes"
    trained_on = TextAR.trained_on + ", byte by byte, starting from the blocks of text-ar-1"
    weak_at = "Spells and knows common words; after 1,000 short steps it is far behind its trunk."
    budget_fraction = "1,000 steps of 8 x 256 bytes on one thread; the spec asks for 10,000 of 32 x 256-512"

    def prepare(self, folder):
        super().prepare(folder)
        vocabulary = self.tok.get_vocab()  # a byte is called by its letter, a token by its letters
        self.pieces = [[id] if id < 3 else [vocabulary[letter] for letter in word]
                       for word, id in sorted(vocabulary.items(), key=lambda one: one[1])]

    def build(self):
        model = in_bytes(super().build())
        for layer in self.frozen:
            model.model.layers[layer].requires_grad_(False)
        return model

    def batch(self, step, progress):
        return self.taught(data.blocks(self.train, MOST, 8, step, self.seed)[:, :MOST])

    def taught(self, tokens: np.ndarray) -> dict[str, torch.Tensor]:
        """ids: bytes [B, 256] of rows of the teacher's tokens, filled up with <|pad|>."""
        rows = [sum((self.pieces[t] for t in row), []) + [2] * LONGEST for row in tokens]
        return {"ids": torch.tensor([row[:LONGEST] for row in rows])}

    def loss(self, model, batch, progress):
        logits = model(batch["ids"][:, :-1], use_cache=False).logits.float()
        return torch.nn.functional.cross_entropy(logits.mT, batch["ids"][:, 1:], ignore_index=2), {}

    @torch.no_grad()
    def bits(self, model, rows: int) -> np.ndarray:
        """Bits a byte of held-out rows [rows]."""
        tokens = self.val[: rows * MOST].reshape(rows, 1, MOST)
        losses = [NextByte.loss(self, model, NextByte.taught(self, one), 1.0)[0] for one in tokens]
        return np.array(losses) / np.log(2)

    def quick(self, model):
        return {"bits_per_byte": round(float(self.bits(model, 64).mean()), 4)}

    def evaluate(self, model):
        return {"metrics": {"bits a byte, held-out books": mean_figure(self.bits(model, 300), "bits/byte")},
                "trivial_baseline": {"character 5-gram, Witten-Bell": figure(1.9019, "bits/char", 1360647)}}

    def save(self, model, folder):
        save_llama(model, byte_tokenizer(self.tok), folder)


class Matched(NextByte):
    """ALM alone: no next-byte loss is added."""

    name = "text-byte-alm-1"

    def prepare(self, folder):
        super().prepare(folder)
        self.teacher = read_shipped(TEACHER).requires_grad_(False)
        self.spaces = spaces(text.wrap(self.tok))

    def taught(self, tokens):
        """And ends [B, C], last bytes of the pieces, the first repeated behind the last; teacher [B, C - 1], their L;
        here [B, C - 1], which of them there are. Bytes can be cut wherever the teacher's tokens are."""
        made, read = super().taught(tokens), torch.from_numpy(tokens.astype(np.int64))
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.teacher(read, use_cache=False).logits.float()
        own, space = told(logits.log_softmax(-1), read, self.spaces)
        behind = np.cumsum([[len(self.pieces[t]) for t in row] for row in tokens], 1)  # [B, T] bytes up to a token
        cut = (behind <= LONGEST) & (space.exp().numpy() > MERGED)
        ends = np.zeros((2, *cut.shape), int)
        for b, row in enumerate(cut):
            at = np.flatnonzero(row)
            at = np.append(at, np.full(MOST - len(at), at[0]))
            ends[:, b] = at, behind[b, at] - 1
        ends, here = torch.from_numpy(ends), torch.from_numpy(np.arange(1, MOST) < cut.sum(1)[:, None])
        theirs = likelihoods(own, space, ends[0]).masked_fill(~here, 0.0)
        return {**made, "ends": ends[1], "here": here, "teacher": theirs}

    def loss(self, model, batch, progress):
        here, logits = batch["here"], model(batch["ids"], use_cache=False).logits.float()
        own, space = told(logits.log_softmax(-1), batch["ids"], self.spaces[self.spaces < SYMBOLS])
        mine = likelihoods(own, space, batch["ends"]).masked_fill(~here, 0.0)
        gap, f = (mine - batch["teacher"]).abs(), binary_ce(batch["teacher"], mine) * here
        return f.sum() / here.sum(), {"gap": gap.detach().sum() / here.sum()}
