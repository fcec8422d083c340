"""LazyLLM written as slowly and plainly as the paper's text allows: dictionaries, one query at a time.

`wrong` swaps in one of the known mistakes; the tests demand that each of them is noticed.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import torch

MISTAKES = (
    "positions counted anew after pruning",
    "importance from all queries",
    "importance accumulated over the answer",
    "pruning acts on the layer that measured",
    "revived tokens start from the embedding",
    "revived tokens pass the early layers again",
)


@dataclass
class Run:
    """logits [V] per pass; alive[pass][layer]: identities; computed: (layer, token) -> how often."""

    logits: list = field(default_factory=list)
    alive: list = field(default_factory=list)
    computed: dict = field(default_factory=dict)


def lazyllm(model, reads: list[list[int]], rates, steps: int, wrong: str = "") -> Run:
    """reads: the prompt in one or more pieces; after them `steps` - 1 greedy tokens are read one by one."""
    net, run, ids = model.model, Run(), []
    layers, sums = net.layers, {}
    kv = [{} for _ in layers]
    aux = [{} for _ in layers]
    with torch.no_grad():
        for number in range(len(reads) + steps - 1):
            ids += reads[number] if number < len(reads) else [int(run.logits[-1].argmax())]
            embedded = {i: net.embed_tokens(torch.tensor(token)) for i, token in enumerate(ids)}
            alive, below, sheets = list(range(len(ids))), dict(embedded), []
            for index, layer in enumerate(layers):
                sheets.append(list(alive))
                missing = [i for i in alive if i not in kv[index]]
                states = {i: state(i, index, below, aux, embedded, layers, run, wrong) for i in missing}
                for i in missing:
                    place = alive.index(i) if wrong == MISTAKES[0] else i
                    kv[index][i] = keys_values(net, layer, states[i], place)
                    run.computed[index, i] = run.computed.get((index, i), 0) + 1
                rows = {i: attention(net, layer, states[i], [j for j in alive if j <= i],
                                     alive.index(i) if wrong == MISTAKES[0] else i, kv[index]) for i in missing}
                scores = importance(rows, alive, sums, index, wrong)
                kept = cut(alive, scores, rates[index]) if index + 1 < len(layers) else alive
                seen = set(kept) if wrong == MISTAKES[3] else set(alive)
                below = {i: output(net, layer, states[i], [j for j in alive if j <= i and (j in seen or j == i)],
                                   alive.index(i) if wrong == MISTAKES[0] else i, kv[index]) for i in missing}
                for i in set(alive) - set(kept):
                    if i in below and (index + 1 == len(layers) or i not in kv[index + 1]) and i not in aux[index]:
                        aux[index][i] = below[i]
                alive = kept
            run.alive.append(sheets)
            run.logits.append(model.lm_head(net.norm(below[len(ids) - 1])))
    return run


def state(i, index, below, aux, embedded, layers, run, wrong):
    """Input of a layer: from the layer below in this step, else what waits in Aux."""
    if i in below:
        return below[i]
    if wrong == MISTAKES[4]:
        return embedded[i]
    if wrong == MISTAKES[5]:
        for early in range(index):
            run.computed[early, i] = run.computed.get((early, i), 0) + 1
    return aux[index - 1][i]


def importance(rows, alive, sums, index, wrong):
    """Mean over heads of the newest token's row: one number per alive token."""
    newest = alive[-1]
    if wrong == MISTAKES[1]:
        total = {j: 0.0 for j in alive}
        for row in rows.values():
            for j, weight in row.items():
                total[j] += float(weight)
        return total
    found = {j: float(rows[newest][j]) for j in alive}
    if wrong == MISTAKES[2]:
        for j in alive:
            sums[index, j] = found[j] = sums.get((index, j), 0.0) + found[j]
    return found


def cut(alive, scores, rate):
    """Without the lowest fraction; the newest always stays."""
    leaving = int(rate * len(alive) + 1e-9)
    lowest = sorted(alive[:-1], key=lambda i: (scores[i], -i))[:leaving]
    return [i for i in alive if i not in lowest]


def turn(net, heads, place):
    """Rotary positions of [heads, W] vectors at one place."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb
    cos, sin = net.rotary_emb(heads, torch.tensor([[place]]))
    return apply_rotary_pos_emb(heads[None, :, None], heads[None, :, None], cos, sin)[0][0, :, 0]


def keys_values(net, layer, hidden, place):
    x, width = layer.input_layernorm(hidden), layer.self_attn.head_dim
    return (turn(net, layer.self_attn.k_proj(x).view(-1, width), place), layer.self_attn.v_proj(x).view(-1, width))


def weights(net, layer, hidden, keys, place, kv):
    """Attention probabilities [H, M] of one query."""
    attn = layer.self_attn
    q = turn(net, attn.q_proj(layer.input_layernorm(hidden)).view(-1, attn.head_dim), place)
    k = torch.stack([kv[j][0] for j in keys], 1).repeat_interleave(attn.num_key_value_groups, 0)  # [H, M, W]
    return ((k @ q[..., None])[..., 0] * attn.scaling).softmax(-1)


def attention(net, layer, hidden, keys, place, kv):
    return dict(zip(keys, weights(net, layer, hidden, keys, place, kv).mean(0)))


def output(net, layer, hidden, keys, place, kv):
    probs = weights(net, layer, hidden, keys, place, kv)
    v = torch.stack([kv[j][1] for j in keys], 1).repeat_interleave(layer.self_attn.num_key_value_groups, 0)
    hidden = hidden + layer.self_attn.o_proj((probs[:, None] @ v)[:, 0].flatten())
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))
