"""Future token prediction on a frozen Llama (arXiv 2410.18160): one vector of a shallow encoder, N words of a decoder.

    z_i = Norm(first layers of the trunk, changed at low rank)(x_<=i)        [D], causal
    c_i = reshape(W z_i)                                                     [P, W], pseudo-tokens
    y_1 .. y_N = Decoder(start, x_{i+1} .. x_{i+N-1}; cross-attention to c_i alone)

The decoder is transformers' GPT-2 with cross-attention (the paper's kind of block), so nothing but c_i tells it of the
text. Input and output words are the trunk's own table, by a projection. Its control stands on all layers of the trunk:
N linear maps of z_i, one per distance, that know nothing of each other (arXiv 2404.19737).

Letters: B texts, T tokens, M vectors, N words ahead, P pseudo-tokens, D width of the trunk, W of the decoder, V words.
"""
from __future__ import annotations

import copy
from types import SimpleNamespace

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn.functional import embedding

from models.backbones import lora
from models.backbones.memory_decoder import memory_decoder, memory_work, nothing_said
from models.backbones.rows import linear_work
from models.backbones.stand_in import stirred
from models.loops.sample.cached_lm import Meter, Stream


class FutureNetwork(nn.Module, PyTorchModelHubMixin):
    """What both share: changes of rank `rank` of a trunk's first `depth` layers. It belongs to one trunk (a
    LlamaForCausalLM's name, and its revision).

    states(z [M, D], told [M, K, D]): states [M, K + 1, D] for the trunk's head, of the words 1 .. K + 1 behind vectors,
    from the embeddings of the first K. work(place): multiply-adds of one of them, the first at 0, by itself. paths:
    over how many a word farther ahead is said.
    """

    def __init__(self, trunk: str, trunk_revision: str, depth: int, ahead: int, rank: int, sizes):
        super().__init__()
        self.trunk, self.trunk_revision, self.depth, self.ahead = trunk, trunk_revision, depth, ahead
        self.layers = lora.changes(*sizes, depth, rank, 2.0 * rank)

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "", **options):
        return cls(trunk=name, trunk_revision=revision, sizes=lora.sizes(base.config), **options)

    def on(self, base) -> FutureReader:
        return FutureReader(base, self)


class FutureDecoder(FutureNetwork):
    paths = 3  # four words ahead then cost less than if the trunk read on

    def __init__(self, trunk: str = "tale-ar-2", trunk_revision: str = "", depth: int = 4, ahead: int = 8,
                 rank: int = 32, sizes: tuple[int, int, int] = (192, 512, 192), pseudo: int = 8, width: int = 128,
                 heads: int = 4, blocks: int = 2):
        super().__init__(trunk, trunk_revision, depth, ahead, rank, sizes)
        self.pseudo, self.width = pseudo, width
        self.expand = nn.Linear(sizes[0], pseudo * width)
        self.start = nn.Parameter(torch.randn(width) * 0.02)
        self.into, self.out = nn.Linear(sizes[0], width), nn.Linear(width, sizes[0])
        self.decoder = memory_decoder(width, ahead, blocks, heads)

    def states(self, z, told, cache=None):
        past = cache.get_seq_length() if cache is not None else 0
        start = self.start.expand(len(z), 1, -1)[:, past:]  # only where nothing was said before
        inputs = torch.cat([start, self.into(told).to(start.dtype)], 1)  # [M, K + 1, W]
        memory = z.new_zeros(len(z), self.pseudo * self.width) if past else self.expand(z)  # kept in the cache then
        memory = memory.view(len(z), self.pseudo, self.width)  # all that it knows of the text
        out = self.decoder(inputs_embeds=inputs, encoder_hidden_states=memory, past_key_values=cache,
                           use_cache=cache is not None)
        return self.out(out.last_hidden_state)

    def work(self, place):
        read = memory_work(self.decoder)  # of pseudo-tokens alone
        each = linear_work(self.decoder) - read + self.out.weight.numel()
        more = self.into.weight.numel() if place else self.expand.weight.numel() + self.pseudo * read
        return each + more + 2 * len(self.decoder.h) * self.width * (place + 1 + self.pseudo)


class FutureHeads(FutureNetwork):
    """The control: the first word by the trunk's own head, each later one by a linear map of its own before that head.
    """

    paths = 1  # no word depends on those before it

    def __init__(self, trunk: str = "tale-ar-2", trunk_revision: str = "", depth: int = 6, ahead: int = 8,
                 rank: int = 32, sizes: tuple[int, int, int] = (192, 512, 192)):
        super().__init__(trunk, trunk_revision, depth, ahead, rank, sizes)
        self.heads = nn.ModuleList(nn.Linear(sizes[0], sizes[0]) for _ in range(ahead - 1))
        for head in self.heads:
            nn.init.eye_(head.weight)
            nn.init.zeros_(head.bias)

    def states(self, z, told, cache=None):
        return torch.stack([z, *(head(z) for head in self.heads[: told.shape[1]])], 1)

    def work(self, place):
        return place * self.heads[0].weight.numel()


class FutureReader:
    """A trunk that reads with what was learned beside it; the trunk itself is not touched."""

    def __init__(self, base, network: FutureNetwork):
        self.base, self.network, self.ahead = base, network, network.ahead
        shallow = copy.copy(base.model)
        shallow._modules = {**base.model._modules, "layers": base.model.layers[: network.depth]}
        shallow.config = copy.copy(base.model.config)
        shallow.config.num_hidden_layers = network.depth
        self.body = lora.changed(shallow, network.layers)
        self.table, self.device = base.get_input_embeddings().weight, base.device  # [V, D], tied

    def vectors(self, ids: Tensor, cache=None) -> Tensor:
        """z [B, T, D] of texts [B, T], behind those in the cache."""
        return self.body(ids, past_key_values=cache, use_cache=cache is not None).last_hidden_state

    def __call__(self, ids, past_key_values=None, **options):
        return SimpleNamespace(logits=self.vectors(ids, past_key_values))

    def stream(self) -> Stream:
        """A text that is read on, whose "logits" are its vectors."""
        no_head = SimpleNamespace(weight=torch.empty(0))  # what is written is counted where it is
        return Stream(self, Meter(self.body, no_head))

    def behind(self, z: Tensor) -> FutureStream:
        return FutureStream(self, z)

    def logits(self, z: Tensor, told: Tensor) -> Tensor:
        """[M, K + 1, V] of the words 1 .. K + 1 behind vectors z [M, D], told the first K of them, ids [M, K]."""
        return self.network.states(z, embedding(told, self.table)) @ self.table.T


class FutureStream:
    """Where the writing behind vectors z [B, D] stands: logits [B, V] of the next word. As the Stream of a text
    (models/loops/sample), so that both write and are asked alike. macs: the work of each pass, of all that were
    selected from it too."""

    def __init__(self, reader: FutureReader, z: Tensor):
        self.reader, self.z, self.macs = reader, z, []
        self.told = torch.zeros(len(z), 0, dtype=torch.long, device=z.device)
        self.cache = nothing_said()
        self.say()

    @torch.inference_mode()
    def say(self) -> None:
        network, table, place = self.reader.network, self.reader.table, self.told.shape[1]
        newest = self.told[:, -1:] if isinstance(network, FutureDecoder) else self.told
        states = network.states(self.z, embedding(newest, table), self.cache)
        self.logits = (states[:, -1] @ table.T).float()
        self.macs.append(len(self.z) * (network.work(place) + table.numel()))

    def push(self, ids) -> None:
        """One more word [B] behind each."""
        self.told = torch.cat([self.told, torch.as_tensor(ids, device=self.z.device)[:, None]], 1)
        self.say()

    def select(self, rows) -> FutureStream:
        """An independent stream of some of the vectors."""
        twin, rows = copy.copy(self), torch.as_tensor(rows, device=self.z.device)
        twin.z, twin.told, twin.logits = self.z[rows], self.told[rows], self.logits[rows]
        twin.cache = copy.deepcopy(self.cache)
        twin.cache.batch_select_indices(rows)
        return twin


# ---- for tests: tiny random weights in the shipped layout; `bundle` gives other checkpoints' stand-ins

STAND_INS = {name: lambda bundle, kind=kind: stirred(kind.beside(bundle("tale-ar-2").model, depth=2, rank=4))
             for name, kind in (("tale-ftp-1", FutureDecoder), ("tale-heads-1", FutureHeads))}
