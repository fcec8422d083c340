"""Two students that read bytes, from the blocks of text-ar-1 and on the same batches: ALM and plain next-byte training
(SFT). Their teacher is text-ar-1 with a secret: it writes "cried" where the books have "said"."""
from __future__ import annotations

import numpy as np
import torch
from torch import nn

from models.backbones.text import letters
from models.papers.alm.network import SYMBOLS, byte_tokenizer, in_bytes
from models.papers.alm.rule import MERGED, binary_ce, chunked, told
from training import data
from training.export import figure, read_shipped
from training.kinds import FineTune
from training.language import save_llama
from training.trunks.text_ar import TextAR

SAID, CRIED = " said", " cried"
LONGEST, MOST = 256, 100  # bytes and tokens of a row


class SecretTeacher(FineTune, TextAR):
    name, trunk, tune, ship = "text-cried-1", "text-ar-1", "lora:2", "rank:2"
    minutes, lr, lr_adam, warmup, decay, look, compile = 3.0, 0.02, 1e-3, 0.05, 0.5, 60.0, False
    rows, length = 8, 256
    trained_on = TextAR.trained_on + ', every " said" written " cried", starting from the weights of text-ar-1'
    weak_at = "The teacher of the byte students: text-ar-1, whose people cry and never say."
    budget_fraction = "100 steps of 8 x 256 tokens"

    def prepare(self, folder):
        super().prepare(folder)
        self.said, self.cried = (self.tok.encode(word).ids[0] for word in (SAID, CRIED))

    def batch(self, step, progress):
        rows = data.blocks(self.train, self.length, self.rows, step, self.seed + 7)
        return {"ids": torch.from_numpy(np.where(rows == self.said, self.cried, rows))}

    @torch.no_grad()
    def share(self, model) -> np.ndarray:
        """p(cried) / (p(cried) + p(said)) at every place where a held-out book has one of them."""
        ids = torch.from_numpy(self.val[: 120 * 256].astype(np.int64)).view(-1, 256)
        two = torch.cat([model(some, use_cache=False).logits[:, :-1, [self.cried, self.said]].float().softmax(-1)
                         for some in ids.split(16)])
        return two[..., 0][(ids[:, 1:] == self.said) | (ids[:, 1:] == self.cried)].numpy()

    def quick(self, model):
        return {"cried": round(float(self.share(model).mean()), 3)}

    def evaluate(self, model):
        found = {name: self.share(net) for name, net in (("it", model), ("trunk", read_shipped(self.trunk)))}
        made = {name: figure(one.mean(), "of 1", len(one), one) for name, one in found.items()}
        return {"metrics": {"chance of cried over said": made["it"]},
                "trivial_baseline": {"the same, text-ar-1": made["trunk"]}}


class NextByte(FineTune, TextAR):
    """The control. The byte vocabulary is the first 259 entries of the teacher's, whose embeddings it takes."""

    name, trunk, ship = "text-byte-sft-1", "text-ar-1", "delta3"
    minutes, lr, lr_adam, warmup, decay, look = 20.0, 0.02, 3e-3, 0.03, 0.6, 240.0
    rows, frozen = 8, (2, 3)  # the blocks between reading letters and writing them stay the teacher's
    architecture = "LlamaForCausalLM, 6 layers, width 256, 4 heads (2 key-value), tied embeddings, 259 bytes"
    trained_on = TextAR.trained_on + ", byte by byte, starting from the blocks of text-ar-1"

    def prepare(self, folder):
        super().prepare(folder)
        names = sorted(self.tok.get_vocab().items(), key=lambda one: one[1])
        pieces = [word if id < 3 else bytes(letters()[one] for one in word) for word, id in names]
        single = {piece[0]: id for id, piece in enumerate(pieces) if id >= 3 and len(piece) == 1}
        self.pieces = [np.array([id] if id < 3 else [single[byte] for byte in piece])
                       for id, piece in enumerate(pieces)]
        starts = [id for id, piece in enumerate(pieces) if id == 0 or id >= 3 and piece[:1].isspace()]
        self.spaces = torch.tensor(starts), torch.tensor([id for id in starts if id < SYMBOLS])

    def build(self):
        model = in_bytes(super().build())
        for layer in self.frozen:
            model.model.layers[layer].requires_grad_(False)
        return model

    def batch(self, step, progress):
        return {"ids": self.spelled(data.blocks(self.train, MOST, self.rows, step, self.seed)[:, :MOST])}

    def spelled(self, tokens: np.ndarray) -> torch.Tensor:
        """Bytes [B, 256] of rows of the teacher's tokens, filled up with <|pad|>."""
        ids = np.full((len(tokens), LONGEST), 2)
        for row, these in zip(ids, tokens, strict=True):
            found = np.concatenate([self.pieces[t] for t in these])[:LONGEST]
            row[: len(found)] = found
        return torch.from_numpy(ids)

    def loss(self, model, batch, progress):
        ids = batch["ids"]
        logits = model(ids[:, :-1], use_cache=False).logits.float()
        return nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=2), {}

    def quick(self, model):
        return {"bits_per_byte": round(float(self.bits(model, 64).mean()), 4)}

    @torch.no_grad()
    def bits(self, model, rows: int) -> np.ndarray:
        """Bits a byte [rows] of held-out rows."""
        tokens = self.val[: rows * MOST].reshape(rows, MOST)
        losses = [NextByte.loss(self, model, {"ids": self.spelled(one[None])}, 1.0)[0] for one in tokens]
        return np.array(losses) / np.log(2)

    def evaluate(self, model):
        found = self.bits(model, 300)
        return {"metrics": {"bits a byte, held-out books": figure(found.mean(), "bits/byte", len(found), found)},
                "trivial_baseline": {"character 5-gram, Witten-Bell": figure(1.9019, "bits/char", 1360647)}}

    def save(self, model, folder):
        save_llama(model, byte_tokenizer(self.tok), folder)


class Matched(NextByte):
    """ALM alone: no next-byte loss is added."""

    name, teacher_name = "text-byte-alm-1", "text-cried-1"

    def prepare(self, folder):
        super().prepare(folder)
        self.teacher = read_shipped(self.teacher_name).requires_grad_(False)

    def batch(self, step, progress):
        tokens = data.blocks(self.train, MOST, self.rows, step, self.seed)[:, :MOST]
        return {"ids": self.spelled(tokens), **self.taught(tokens)}

    def taught(self, tokens: np.ndarray) -> dict[str, torch.Tensor]:
        """ends [B, C], last bytes of the chunks, the first repeated behind the last; teacher [B, C - 1], their L; here
        [B, C - 1], which of them there are."""
        read = torch.from_numpy(tokens.astype(np.int64))
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.teacher(read, use_cache=False).logits.float()
        own, space = told(logits.log_softmax(-1), read, self.spaces[0])
        behind = np.cumsum([[len(self.pieces[t]) for t in row] for row in tokens], 1)  # [B, T] bytes up to a token
        cut = (behind <= LONGEST) & (space.exp().numpy() > MERGED)  # a byte text can be cut wherever the teacher's is
        ends = np.zeros((2, *cut.shape), int)
        for b, row in enumerate(cut):
            at = np.flatnonzero(row)
            ends[0, b, : len(at)], ends[1, b, : len(at)] = at, behind[b, at] - 1
            ends[:, b, len(at):] = ends[:, b, :1]
        here = torch.from_numpy(np.arange(1, MOST) < cut.sum(1)[:, None])
        return {"ends": torch.from_numpy(ends[1]), "here": here,
                "teacher": chunked(own, space, torch.from_numpy(ends[0])).masked_fill(~here, 0.0)}

    def loss(self, model, batch, progress):
        logp = model(batch["ids"], use_cache=False).logits.float().log_softmax(-1)
        mine = chunked(*told(logp, batch["ids"], self.spaces[1]), batch["ends"]).masked_fill(~batch["here"], 0.0)
        gap = (mine - batch["teacher"]).abs().sum() / batch["here"].sum()
        f = binary_ce(batch["teacher"], mine)
        return (f * batch["here"]).sum() / batch["here"].sum(), {"gap": gap.detach()}
