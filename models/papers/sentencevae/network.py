"""The networks of SentenceVAE on a frozen Llama (arXiv 2408.00655), by the authors' repository.

    e_i = LayerNorm(sum over words of Encoder(start, S_i))         [D], one vector a clause; no sampling, no KL term
    z_i = layers of the trunk, changed at low rank, over e_<=i     [D], causal over clauses
    S_i ~ Decoder(start, words so far; cross-attention to e_i)     stage 1, the clause coder
    S_{i+1} ~ Decoder(...; cross-attention to z_i)                 stage 2, the sentence LM, with a head that says stop

B texts, M clauses of each, N clauses of all, T places of a clause (its start included), D width, V words.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding

from models.backbones import lora
from models.backbones.memory_decoder import memory_decoder, memory_work, nothing_said
from models.backbones.rows import linear_work
from models.backbones.stand_in import stirred
from models.worlds.world import END, PAD

LONGEST = 24  # words of a clause
MARKS, QUOTES = frozenset(',.!?;:"\n，。！？；：“”'), ('"', "”")


def cut(words: tuple[str, ...]) -> list[range]:
    """The clauses of a text: behind each mark, and after LONGEST words; quotes stay with the mark before them."""
    found, first = [], 0
    for at, word in enumerate(words):
        ends = bool(MARKS & set(word)) and not (at + 1 < len(words) and words[at + 1].strip() in QUOTES)
        if ends or at - first + 1 == LONGEST or at + 1 == len(words):
            found.append(range(first, at + 1))
            first = at + 1
    return found


def rows_of(clauses: list[list[int]]) -> Tensor:
    """[N, T]: each clause behind its start, padded."""
    return nn.utils.rnn.pad_sequence([torch.tensor([END, *ids]) for ids in clauses], True, PAD)


def targets(rows: Tensor) -> Tensor:
    """[N, T]: what follows each place of clauses: their words, then their end."""
    moved = torch.cat([rows[:, 1:], torch.full_like(rows[:, :1], PAD)], 1)
    return torch.where((moved == PAD) & (rows != PAD), END, moved)


class ClauseCoder(nn.Module, PyTorchModelHubMixin):
    """Words come and go through the table of its trunk, a Llama, by linear maps that begin as the identity. Where there
    is a rank, stage 2: changes of the trunk's `depth` layers, and a head that says whether another clause follows."""

    def __init__(self, trunk: str = "tale-ar-2", trunk_revision: str = "", sizes: tuple[int, int, int] = (
            192, 512, 192), heads: int = 4, blocks: int = 2, depth: int = 6, rank: int = 0):
        super().__init__()
        self.trunk, self.trunk_revision, width = trunk, trunk_revision, sizes[0]
        self.into, self.told, self.out = (nn.Linear(width, width) for _ in range(3))
        for linear in (self.into, self.told, self.out):
            nn.init.eye_(linear.weight)
        self.encoder = nn.TransformerEncoderLayer(width, heads, 2 * width, 0.0, "gelu", batch_first=True,
                                                  norm_first=True)
        self.norm = nn.LayerNorm(width)
        self.decoder = memory_decoder(width, LONGEST + 1, blocks, heads, 2 * width)
        angles = torch.arange(LONGEST + 1)[:, None] * 1e4 ** (-torch.arange(0, width, 2) / width)  # sinusoidal
        self.register_buffer("positions", torch.stack([angles.sin(), angles.cos()], -1).flatten(1), persistent=False)
        if rank:
            self.layers, self.another_head = lora.changes(*sizes, depth, rank, 2.0 * rank), nn.Linear(width, 2)

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "", **options):
        return cls(trunk=name, trunk_revision=revision, sizes=lora.sizes(base.config), **options)

    def on(self, base) -> ClauseReader:
        return ClauseReader(base, self)


class ClauseReader:
    """A trunk that reads clauses with what was learned beside it; the trunk itself is not touched."""

    def __init__(self, base, network: ClauseCoder):
        self.network, self.table = network, base.get_input_embeddings().weight  # [V, D]
        self.body = lora.changed(base.model, network.layers) if hasattr(network, "layers") else None

    def encode(self, rows: Tensor) -> Tensor:
        """e [N, D] of clauses [N, T]."""
        net, there = self.network, rows != PAD
        words = net.into(embedding(rows, self.table)) + net.positions[: rows.shape[1]]
        states = net.encoder(words, src_key_padding_mask=~there)
        return net.norm((states * there[..., None]).sum(1))

    def predict(self, e: Tensor, cache=None) -> Tensor:
        """z [B, M, D] behind each of the clauses e [B, M, D]; none sees those behind it."""
        return self.body(inputs_embeds=e, past_key_values=cache, use_cache=cache is not None).last_hidden_state

    def logits(self, memory: Tensor, rows: Tensor, cache=None) -> Tensor:
        """[N, T, V] of what follows each place of rows [N, T], from one vector [N, D] each."""
        net = self.network
        out = net.decoder(inputs_embeds=net.told(embedding(rows, self.table)), encoder_hidden_states=memory[:, None],
                          past_key_values=cache, use_cache=cache is not None).last_hidden_state
        return net.out(out) @ self.table.T

    def story_nats(self, rows: Tensor, alone: bool = False) -> Tensor:
        """What the clauses behind the first of a text [M, T] cost, with their ends, their coming, and the text's end.
        alone: each from the vector of the one before it and no other."""
        e = self.encode(rows)
        z = self.predict(e[:, None])[:, 0] if alone else self.predict(e[None])[0]
        another = self.network.another_head(z).float()  # [M, 2]
        stop = cross_entropy(another, torch.arange(len(rows)).lt(len(rows) - 1).long(), reduction="sum")
        logits = self.logits(z[:-1], rows[1:]).float().flatten(0, 1)
        return stop + cross_entropy(logits, targets(rows[1:]).flatten(), ignore_index=PAD, reduction="sum")

    def work(self, read: int, wrote: int, clauses: int = 1) -> int:
        """Multiply-adds by linear maps: so many places of clauses encoded, and so many of some clauses decoded."""
        net, once = self.network, memory_work(self.network.decoder)
        reads = linear_work(net.encoder) + net.encoder.self_attn.in_proj_weight.numel() + net.into.weight.numel()
        writes = linear_work(net.decoder) - once + 2 * net.out.weight.numel() + self.table.numel()
        return read * reads + clauses * once + wrote * writes


class ClauseStream:
    """Where the decoder stands behind one vector [1, D]: logits [1, V] of the next word."""

    def __init__(self, reader: ClauseReader, memory: Tensor):
        self.reader, self.memory = reader, memory
        self.cache = nothing_said()
        self.push([END])

    @torch.inference_mode()
    def push(self, ids) -> None:
        self.logits = self.reader.logits(self.memory, torch.tensor([ids]), self.cache)[:, -1].float()


STAND_INS = {name: lambda bundle, rank=rank: stirred(ClauseCoder.beside(  # for tests
    bundle("tale-ar-2").model, blocks=1, depth=3, rank=rank))
    for name, rank in (("tale-clause-1", 0), ("tale-sllm-1", 4))}
