"""The state-space layer of M-VAR's second sub-layer: Mamba-2's recurrence in plain torch (arXiv 2405.21060).

Per token t and head: a_t = exp(-dt_t exp(A_log)), S_t = a_t S_(t-1) + dt_t u_t (x) B_t, y_t = S_t C_t + D u_t. It looks
back only, token by token. A chunk of tokens is done at once, as a lower triangle of products; between chunks, and
between scales that are drawn one after the other, S and the last three inputs of the convolution are all that is kept.

Letters: B samples, M tokens, D width, I inner width = H heads of P, N state; S is [B, H, P, N].
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.llama.modeling_llama import LlamaRMSNorm


class Carried(NamedTuple):
    """What a layer keeps of all tokens so far: the state [B, H, P, N], the inputs [B, taps - 1, I + 2N] of the
    convolution, and how much of the state before the last call is still in it, [B, H]."""

    state: Tensor
    tail: Tensor
    kept: Tensor


class Mamba2(nn.Module):
    """One unidirectional layer; `chunk`: how many tokens are done at once (no result depends on it)."""

    def __init__(self, width: int, state: int = 16, expand: int = 2, head: int = 32, taps: int = 4, chunk: int = 32):
        super().__init__()
        self.inner, self.heads = expand * width, expand * width // head
        self.state, self.taps, self.chunk = state, taps, chunk
        mixed = self.inner + 2 * state
        self.in_proj = nn.Linear(width, self.inner + mixed + self.heads, bias=False)
        self.conv = nn.Conv1d(mixed, mixed, taps, groups=mixed)
        self.dt_bias = nn.Parameter(torch.expm1(torch.logspace(-3, -1, self.heads)).log())  # softplus: 0.001 to 0.1
        self.A_log = nn.Parameter(torch.linspace(1, 16, self.heads).log())
        self.D = nn.Parameter(torch.ones(self.heads))
        self.norm = LlamaRMSNorm(self.inner)
        self.out_proj = nn.Linear(self.inner, width, bias=False)

    def forward(self, x: Tensor, before: Carried | None = None) -> tuple[Tensor, Carried]:
        """Outputs [B, M, D] of x [B, M, D] after the tokens that `before` was left by, and what is carried on."""
        before = self.nothing(x) if before is None else before
        gate, mixed, dt = self.in_proj(x).split([self.inner, self.inner + 2 * self.state, self.heads], -1)
        mixed = torch.cat([before.tail.to(mixed), mixed], 1)
        u, b, c = F.silu(self.conv(mixed.mT).mT).float().split([self.inner, self.state, self.state], -1)
        u = u.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, M, P]
        dt = F.softplus(dt.float() + self.dt_bias).mT  # [B, H, M]
        fall = -dt * self.A_log.exp()[:, None]  # log a
        state, made = before.state, []
        for part in torch.arange(x.shape[1]).split(self.chunk):
            at = slice(int(part[0]), int(part[-1]) + 1)
            y, state = scan(u[:, :, at], dt[:, :, at], fall[:, :, at], b[:, at], c[:, at], state)
            made.append(y)
        y = torch.cat(made, 2) + self.D[:, None, None] * u
        y = y.transpose(1, 2).flatten(2) * F.silu(gate)
        return self.out_proj(self.norm(y)), Carried(state, mixed[:, 1 - self.taps :], fall.sum(-1).exp())

    def nothing(self, x: Tensor) -> Carried:
        """What is carried before the first token."""
        state = x.new_zeros(len(x), self.heads, self.inner // self.heads, self.state, dtype=torch.float32)
        return Carried(state, x.new_zeros(len(x), self.taps - 1, self.inner + 2 * self.state), state[..., 0, 0])

    def work(self, tokens: int) -> int:
        """Multiply-adds of one sample's call on so many tokens."""
        linear = self.in_proj.weight.numel() + self.out_proj.weight.numel() + self.conv.weight.numel()
        squares = sum(min(self.chunk, tokens - at) ** 2 for at in range(0, tokens, self.chunk))
        return tokens * (linear + 2 * self.inner * self.state) + squares * (self.inner + self.state)

    def carries(self) -> int:
        """Numbers that one sample's layer keeps between scales, however many tokens there were."""
        return self.inner * self.state + (self.taps - 1) * (self.inner + 2 * self.state)


def scan(u: Tensor, dt: Tensor, fall: Tensor, b: Tensor, c: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """y [B, H, M, P] without D, and the state after, of u [B, H, M, P], dt and log a [B, H, M], B and C [B, M, N]."""
    total = fall.cumsum(-1)  # [B, H, M]: how far the state has fallen since before the first
    there = torch.ones(u.shape[2], u.shape[2], dtype=torch.bool, device=u.device).tril()
    since = (total[..., :, None] - total[..., None, :]).masked_fill(~there, float("-inf")).exp()  # [B, H, M, M]
    weights = since * dt[..., None, :] * (c @ b.mT)[:, None]
    y = weights @ u + total.exp()[..., None] * (c[:, None] @ state.mT)
    added = (u * (dt * (total[..., -1:] - total).exp())[..., None]).mT @ b[:, None]  # [B, H, P, N]
    return y, total[..., -1:, None].exp() * state + added
