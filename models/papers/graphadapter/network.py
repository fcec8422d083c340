"""A graph network beside a frozen language model, whose next-word probabilities are mixed with its own (arXiv
2402.12984; zjunet/GraphAdapter).

    a_i = norm(W2 SiLU(W1 s_i))            s_i: what the model says of page i, from its last states
    g   = agg(SiLU(W3 agg(a)))             agg: mean over linked pages and the page itself (sage), or attention (gat)
    h'  = W_ext W_f2 SiLU(W_f1 [W_g g ; W_p h_t])      h_t: the state that the next word is told from
    p   = 1/2 softmax(head(h_t)) + 1/2 softmax(head(h'))      models/loops/sample/mixed_lm.py

All linear layers are without biases; the head is the model's own. `mlp` reads no links: in the place of g stands
SiLU(W3 norm(W2 SiLU(W1 h_t))), of the text so far. Letters: P pages, K linked to one, D width, G of a page, F fused,
M words.
"""
from __future__ import annotations

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor, nn
from torch.nn import functional as F

from models.backbones.stand_in import stirred

KINDS = ("sage", "gat", "mlp")
HEADS = 8


class GraphAdapter(nn.Module, PyTorchModelHubMixin):
    """own: whether a page may look at itself through its own links, as in the reference, where the text to be
    predicted is in sight. links: "friends" or "rewired", which it learned from."""

    def __init__(self, trunk: str = "tale-ar-2", trunk_revision: str = "", kind: str = "sage", own: bool = False,
                 links: str = "friends", width: int = 192, size: int = 128, fused: int = 64):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        self.trunk, self.trunk_revision, self.kind, self.own, self.links = trunk, trunk_revision, kind, own, links

        def linear(into: int, out: int) -> nn.Linear:
            return nn.Linear(into, out, bias=False)

        self.reads = nn.Sequential(linear(width, 2 * size), nn.SiLU(), linear(2 * size, size), nn.RMSNorm(size))
        self.between = nn.Sequential(linear(size, size), nn.SiLU())  # W3
        self.attends = nn.Parameter(0.1 * torch.randn(2, 2, HEADS, size // HEADS)) if kind == "gat" else None
        self.graph, self.word = linear(size, fused), linear(width, fused)  # W_g, W_p
        self.fuse = nn.Sequential(linear(2 * fused, 10 * fused), nn.SiLU(), linear(10 * fused, fused))
        self.extend = linear(fused, width)

    @classmethod
    def beside(cls, base, name: str = "", revision: str = "", **options) -> GraphAdapter:
        return cls(name, revision, width=base.config.hidden_size, **options).to(base.device, base.dtype)

    def forward(self, pages: Tensor, near: Tensor, states: Tensor, of: Tensor) -> Tensor:
        """h' [M, D] of words with states [M, D]; of: whose neighbourhood [M] each is in. pages [P, D]; near: as in
        `heard`."""
        return self.told(None if self.kind == "mlp" else self.heard(pages, near)[of], states)

    def told(self, heard: Tensor | None, states: Tensor) -> Tensor:
        """h' [..., D] of states [..., D]; heard [..., G]: what their pages hear, None where nothing is linked."""
        heard = self.between(self.reads(states)) if heard is None else heard
        return self.extend(self.fuse(torch.cat([self.graph(heard), self.word(states)], -1)))

    def heard(self, pages: Tensor, near: Tensor, weights: list | None = None) -> Tensor:
        """What each of B pages hears [B, G] over two links. near [B, K, K]: of each page and of those linked to it
        (the page first) the numbers of the pages linked to it (itself first), -1 where there is none. weights: takes
        both layers' shares [B, K, heads], [B, K, K, heads]."""
        first = near[:, :, 0]  # [B, K]
        seen, inner = first >= 0, near >= 0
        if not self.own:  # a page tells itself nothing, on no path
            seen = seen & (first != first[:, :1])
            inner = inner & (near != first[:, :1, None])
        a = self.reads(pages)
        x = self.between(self.gathered(0, a[near], inner, a[first], weights))  # [B, K, G]
        here = x[:, 0] if self.own else torch.zeros_like(x[:, 0])
        return self.gathered(1, x, seen, here, weights)

    def gathered(self, layer: int, x: Tensor, seen: Tensor, here: Tensor, weights: list | None) -> Tensor:
        """One aggregation [..., G] of what is linked, x [..., K, G], to who hears it, here [..., G]."""
        scores = x.new_zeros(*seen.shape, HEADS)
        if self.attends is not None:  # additive attention, as in the GAT paper
            to, by = self.attends[layer]
            parts = [row.unflatten(-1, (HEADS, -1)) for row in (x, here)]
            scores = F.leaky_relu((parts[0] * to).sum(-1) + (parts[1] * by).sum(-1)[..., None, :], 0.2)
        share = scores.masked_fill(~seen[..., None], -1e4).softmax(-2) * seen[..., None]  # [..., K, heads]
        if weights is not None:
            weights.append(share)
        return (share[..., None] * x.unflatten(-1, (HEADS, -1))).sum(-3).flatten(-2)


STAND_INS = {f"tale-graph-{arm}-1": lambda bundle, options=options: stirred(GraphAdapter.beside(
    bundle("tale-ar-2").model, "tale-ar-2", size=16, fused=8, **options), std=0.3)
    for arm, options in {"sage": {}, "gat": {"kind": "gat"}, "mlp": {"kind": "mlp"}, "rewired": {"links": "rewired"},
                         "own": {"own": True}}.items()}
