"""LazyLLM: the fast loop agrees with the plain text of the method, and with none of the known mistakes."""
import time
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from models.engine.method import run
from models.loops.prune.forward import KeepPolicy, Pruner, unpruned
from models.papers.lazyllm.method import METHOD, score

RATES = (0.0, 0.4, 0.5, 0.5, 0.0)
STEPS = 7


# ---- the oracle ------------------------------------------------------------------------------------------------------

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


def in_plain_words(model, reads: list[list[int]], rates, steps: int, wrong: str = "") -> Run:
    """LazyLLM as slowly and plainly as the paper's text allows: dictionaries, one query at a time. `wrong` swaps in one
    of the known mistakes. reads: the prompt in pieces; after them `steps` - 1 greedy tokens are read one by one."""
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


# ---- the tests -------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(4)
    config = LlamaConfig(vocab_size=60, hidden_size=32, intermediate_size=48, num_hidden_layers=5,
                         num_attention_heads=4, num_key_value_heads=2, initializer_range=0.35)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def prompt():
    return torch.randint(0, 60, (21,), generator=torch.Generator().manual_seed(0)).tolist()


def lazy(rates=RATES, revive=True):
    return KeepPolicy(rates, score, frozenset(range(len(rates))), revive)


def pruned(model, ids, policy, steps=STEPS, reads=None):
    """A Run of the real machine."""
    runner, found, reads = Pruner(model, policy, len(ids) + steps), Run(), reads or [ids]
    for number in range(len(reads) + steps - 1):
        passed = runner.advance(reads[number] if number < len(reads) else [int(found.logits[-1].argmax())])
        found.logits.append(runner.logits(passed.hidden)[0, 0])
        found.alive.append([sheet.alive.tolist() for sheet in passed.sheets])
    found.computed = {(layer, i): n for layer, row in enumerate(runner.store.computed.tolist())
                      for i, n in enumerate(row) if n}
    return found, runner


def agree(one, other) -> bool:
    """The same tokens alive everywhere, the same work, the same logits."""
    return (one.alive == other.alive and one.computed == other.computed
            and all(torch.allclose(a, b, atol=1e-4) for a, b in zip(one.logits, other.logits)))


def test_the_loop_agrees_with_the_plain_text(model, prompt):
    fast, _ = pruned(model, prompt, lazy())
    plain = in_plain_words(model, [prompt], RATES, STEPS)
    assert agree(fast, plain)
    came_back = {i for step in range(1, STEPS) for i in fast.alive[step][-1] if i < 21} - set(fast.alive[0][-1])
    assert came_back, "the example must revive a token, or it tests nothing"


def test_a_prompt_read_in_two_pieces_agrees_too(model, prompt):
    reads = [prompt[:13], prompt[13:]]
    fast, _ = pruned(model, prompt, lazy(), 4, reads)
    assert agree(fast, in_plain_words(model, reads, RATES, 4))
    assert not agree(fast, in_plain_words(model, [prompt[:12], prompt[12:]], RATES, 4))
    assert set(fast.alive[1][-1]) & set(range(13)) - set(fast.alive[0][-1]), "the second piece must revive a token"


@pytest.mark.parametrize("wrong", MISTAKES)
def test_each_known_mistake_is_noticed(model, prompt, wrong):
    fast, _ = pruned(model, prompt, lazy())
    assert not agree(fast, in_plain_words(model, [prompt], RATES, STEPS, wrong))


def test_without_cuts_it_is_the_library(model, prompt):
    for policy in (unpruned(5), lazy((0.0,) * 5)):
        fast, _ = pruned(model, prompt, policy)
        ids = list(prompt)
        for logits in fast.logits:
            truth = model(torch.tensor([ids])).logits[0, -1]
            torch.testing.assert_close(logits, truth, atol=1e-5, rtol=1e-4)
            ids.append(int(truth.argmax()))


def test_every_pair_is_computed_at_most_once_and_never_waits_twice(model, prompt):
    runner, now = Pruner(model, lazy(), 21 + STEPS), list(prompt)
    for _ in range(STEPS):
        passed = runner.advance(now)
        now = [int(runner.logits(passed.hidden).argmax())]
        assert not (runner.store.known[1:] & runner.in_aux[:-1]).any(), "a token is both in KV and in Aux"
        n = runner.count
        whole = runner.store.known[:-1, :n] == (runner.store.known[1:, :n] | runner.in_aux[:-1, :n])
        assert whole.all(), "an output was lost"
    assert int(runner.store.computed.max()) == 1
    assert runner.store.rows <= 5 * runner.count


def test_without_revival_what_left_stays_away(model, prompt):
    fast, runner = pruned(model, prompt, lazy(revive=False))
    for layer in range(5):
        for earlier, later in zip(fast.alive, fast.alive[1:]):
            back = set(later[layer]) - set(earlier[layer])
            assert all(i >= 21 for i in back), "a prompt token came back"
    assert runner.aux_bytes == 0
    revived, _ = pruned(model, prompt, lazy())  # the mutant: revival on
    assert any(set(b[-1]) - set(a[-1]) - set(range(21, 40)) for a, b in zip(revived.alive, revived.alive[1:]))


def test_the_newest_token_never_leaves(model, prompt):
    worst = KeepPolicy(RATES, lambda moment: -moment.alive.float())  # the newest scores lowest
    fast, _ = pruned(model, prompt, worst)
    for step, sheets in enumerate(fast.alive):
        assert all(sheet[-1] == 20 + step for sheet in sheets)
    everyone_ties = KeepPolicy(RATES, lambda moment: torch.full((len(moment.alive),), float("inf")))
    assert pruned(model, prompt, everyone_ties)[0].alive[0][-1][-1] == 20


def test_the_record_shows_who_left_and_who_came_back(tiny):
    last = run("lazyllm", params={"length": 6, "where": "early"}, seed=1)
    trace, looked = last.traces["prune"], last.traces["attend"]
    tokens = [s for s in trace.steps if s.level == "token"]
    layers = [s for s in trace.steps if s.level == "layer"]
    deep = len(layers) // len(tokens)
    first, rest = layers[:deep], layers[deep:]
    assert 1 < len(tokens) <= 6 and all(trace.steps[s.parent].level == "token" for s in layers)
    assert any(len(s.where("revived")) for s in rest) and not any(len(s.where("revived")) for s in first)
    assert all(len(s.where("reused")) == 0 for s in first) and len(rest[-1].where("reused"))
    alive_last = first[-1].where("known", "reused", "revived")
    assert len(alive_last) == len(first[-1].state) - len(first[-1].where("dropped", "new", "unknown"))
    assert np.array_equal(np.flatnonzero(tokens[0].fields["depth"] == deep), alive_last)
    assert looked.rows.weights.shape[2] == len(tokens)
    for step in looked.steps:  # every kept token beats every dropped one, the newest apart
        kept, gone = step.fields["importance"][step.where("known")], step.fields["importance"][step.where("dropped")]
        assert np.nanmin(kept) >= np.nanmax(gone) - 1e-3


def test_time_is_measured_and_work_is_counted(tiny, monkeypatch):
    """Reporting multiply-adds as latency: a slow cut must show in the time and not in the work."""
    import kernels
    calm = run("lazyllm", params={"rounds": 5}).traces["prune"].facts
    plain = kernels.keep_top
    monkeypatch.setattr(kernels, "keep_top", lambda *a: (time.sleep(0.1), plain(*a))[1])
    slow = run("lazyllm", params={"rounds": 5}).traces["prune"].facts
    assert slow["work"].value == calm["work"].value
    assert slow["speed"].value < 0.9
    assert not 100 / slow["work"].value < 0.9, "the mutant, speed as the inverse of work, would not see it"


def test_your_turn_keeps_the_chosen_tokens_to_the_last_layer(tiny):
    from models.engine.method import follow, prepare
    job = prepare("lazyllm", params={"length": 2})
    (places,) = METHOD.turn.count(job)
    chosen = tuple(range(3, 3 + places - 1))  # and the newest, which always stays
    *_, last = follow(replace(job, choice=(chosen,)))
    sheet = last.traces["prune"].steps[job.model.config.num_hidden_layers]  # the first token's last layer
    assert set(chosen) <= set(sheet.where("known").tolist())
    assert len(sheet.where("known", "reused", "revived")) == places
