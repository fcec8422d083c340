"""Three stages of one causal network: wait, transfer, compute (arXiv 2509.09650).

    wait      x_t <- E[m(x', t, l) | x'_t = x_t]     context-aware mean ablation (CAMA): what a state holds whatever the
                                                     other numbers are, the mean over sums of the same signs
    transfer  the last token looks at all, every other one at itself alone
    compute   the last token looks at itself alone, too

Keys and values of the later stages come from these states, never from the whole network's pass. <|endoftext|> in front
may stay in sight of everyone. Letters: B sums of the same signs, T tokens, L layers, D width, K drawn sums, V words.
"""
from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor

from models.backbones.layer_lens import residuals
from models.backbones.stand_in import stirred
from models.worlds import sums
from models.worlds.sums import LARGEST, ZERO

CAMA, MEAN, ZEROS = "cama", "mean", "zero"
NET = "algo-sums-1"
PEEK, EVERYONE, ALONE = "peek", "everyone", "alone"


@torch.no_grad()
def ablated(model, ids: Tensor, kind: str, samples: int, generator: torch.Generator) -> Tensor:
    """States [B, T, L + 1, D] that know nothing of the other numbers, for the sums ids [B, T]."""
    drawn, places = ids[:1].repeat(samples, 1), range(1, ids.shape[1], 2)
    drawn[:, places] = ZERO + torch.randint(LARGEST + 1, (samples, len(places)), generator=generator)
    found = residuals(model, drawn).mean(0).repeat(len(ids), 1, 1, 1)
    if kind == ZEROS:
        found.zero_()
    for place in places if kind == CAMA else ():
        own, which = ids[:, place].unique(return_inverse=True)
        others = drawn[:, : place + 1].repeat(len(own), 1)  # [own K, place + 1]; what comes later is not seen
        others[:, place] = own.repeat_interleave(samples)
        found[:, place] = residuals(model, others)[:, place].unflatten(0, (-1, samples)).mean(1)[which]
    found[:, :, 0] = model.model.embed_tokens(ids)  # before any layer nothing waits, whatever the kind
    return found


def allowed(stage: str, count: int, start: bool) -> Tensor:
    """bool [T, T]: who may look (row) at whom (column). start: all also see <|endoftext|>. EVERYONE: all look back."""
    sees = torch.ones(count, count).tril().bool() if stage == EVERYONE else torch.eye(count).bool()
    sees[:, 0] |= start
    sees[-1] |= stage == PEEK
    return sees


@torch.no_grad()
def through(model, h: Tensor, first: int, last: int, sees: Tensor, at: Tensor | None = None) -> Tensor:
    """States [B, T, D] behind layer `last` of those before layer first + 1; at [1, T]: their places, where not all go
    on."""
    at = torch.arange(h.shape[1])[None] if at is None else at
    turned, mask = model.model.rotary_emb(h, at), torch.zeros(sees.shape).masked_fill(~sees, -torch.inf)
    for layer in model.model.layers[first:last]:
        h = layer(h, attention_mask=mask[None, None], position_ids=at, position_embeddings=turned)
    return h


@torch.no_grad()
def said(model, h: Tensor) -> Tensor:
    """Logits [..., V] of states [..., D] of any layer: the logit lens."""
    return model.lm_head(model.model.norm(h))


def staged(model, states: Tensor, wait: int, transfer: int, who: str = PEEK, start: bool = True) -> Tensor:
    """Logits [B, V] behind "=" after so many waiting layers, and so many of transfer in which `who` looks back; the
    others then have no say."""
    depth, count, until = len(model.model.layers), states.shape[1], wait + transfer
    h, ends = through(model, states[:, :, wait], wait, until, allowed(who, count, start)), [0, count - 1]
    h = through(model, h[:, ends], until, depth, allowed(ALONE, 2, start), torch.tensor([ends]))
    return said(model, h[:, -1])


def blocked(model, ids: Tensor, wait: int, transfer: int, start: bool = True) -> Tensor:
    """Logits [B, V] of the whole network, but for the layers of transfer, in which "=" hears nobody."""
    usual, deaf = (allowed(EVERYONE, ids.shape[1], start) for _ in range(2))
    deaf[-1] = allowed(ALONE, ids.shape[1], start)[-1]
    h = through(model, model.model.embed_tokens(ids), 0, wait, usual)
    h = through(model, h, wait, wait + transfer, deaf)
    return said(model, through(model, h, wait + transfer, len(model.model.layers), usual)[:, -1])


def tiny(bundle):
    """For tests: the blocks of algo-othello-1's stand-in, and the words of sums."""
    model, words = deepcopy(bundle("algo-othello-1").model), bundle("algo-othello-1").tokenizer
    tokenizer = sums.WORLD.tokenizer()
    model.resize_token_embeddings(tokenizer.get_vocab_size(), mean_resizing=False)
    return stirred(model), type(words)(tokenizer_object=tokenizer, eos_token=words.eos_token, pad_token=words.pad_token)


STAND_INS = {NET: tiny}
