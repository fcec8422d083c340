"""BICO: later keys turned back, hidden keys gone, the place before tells; every trap beside its mutants."""
import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.papers.bico import recipe as recipes
from models.papers.bico.exam import AHEAD, ASKED, BACK, SAID, OpenSentence, answered, cut, person, questions
from models.papers.bico.network import both_ways, look_around, selected, told_by_the_one_before
from models.trace import CODE
from models.trace.subject import SubjectError, from_text
from models.worlds import tales
from models.worlds.tales import facts
from models.worlds.world import END, MASK, PAD
from tests import tiny
from tests.traps import as_, caught, moved, only_these_move

TOK = tales.WORLD.tokenizer()
MARSH, PAGE = facts.GROUPS["A"][0], facts.GROUPS["B"][0]
TEXT = from_text(f"{MARSH.name} is {MARSH.work}.")


def ids(text: str) -> list[int]:
    return TOK.encode(text).ids


@pytest.fixture(scope="module")
def net():
    return tiny.fresh("tale-bico-1").eval().requires_grad_(False)


ROW = torch.tensor([[END, *ids(TEXT.text), END]])


def in_formulas(net, row, seen, *, turned=True, hidden=True, lower=True):
    """Logits by the paper's own steps, pair by pair; each switch is a mistake that somebody would make."""
    x, count = net.model.embed_tokens(row)[0], row.shape[1]
    for layer in net.model.layers:
        part, normed = layer.self_attn, layer.input_layernorm(x)
        width = part.head_dim
        q, k, v = (linear(normed).unflatten(-1, (-1, width)).transpose(0, 1) for linear in
                   (part.q_proj, part.k_proj, part.v_proj))
        k, v = (one.repeat_interleave(len(q) // len(one), 0) for one in (k, v))
        scores = torch.zeros(len(q), count, count)
        for m in range(count):
            for n in range(count):
                sign = -1 if turned and n > m else 1
                scores[:, m, n] = (spun(q[:, m], sign * m) * spun(k[:, n], sign * n)).sum(-1) / width**0.5
        gone = torch.zeros(count, count, dtype=torch.bool)
        gone = gone | ~seen[0] if hidden else gone
        gone = gone if lower else gone | torch.ones(count, count).triu(1).bool()
        mixed = scores.masked_fill(gone, -1e9).softmax(-1) @ v
        x = x + part.o_proj(mixed.transpose(0, 1).flatten(1))
        x = x + layer.mlp(layer.post_attention_layernorm(x))
    return net.lm_head(net.model.norm(x))


def spun(x, place: int):
    """R_place x: channels (i, i + W/2) turned."""
    half = x.shape[-1] // 2
    angle = place * 10000.0 ** (-torch.arange(half) / half)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def test_the_network_is_the_papers(net):
    """Mutants: rotary positions as they are, hidden keys that stay, no look ahead."""
    seen = torch.ones_like(ROW).bool()
    seen[0, 2] = False
    found = look_around(net, ROW, seen)[0]

    def agrees(mistake):
        torch.testing.assert_close(found, in_formulas(net, ROW, seen, **mistake), atol=1e-4, rtol=1e-4)
    caught(agrees, {}, {"turned": False}, {"hidden": False}, {"lower": False})


def test_a_key_ahead_looks_like_one_behind(net):
    """Equal contents at every place: the score depends on how far, not on which side."""
    part, count = net.model.layers[0].self_attn, 7
    same = torch.randn(1, 1, 32).expand(1, count, 32)
    places = torch.arange(count)[None]
    turns = [net.model.rotary_emb(same, at) for at in (places, -2 * places)]

    def mirrored(flip):
        scores = both_ways(part, same, *turns, torch.ones(1, count).bool(), flip).scores()[0]
        torch.testing.assert_close(scores, scores.transpose(1, 2), atol=1e-4, rtol=1e-4)
    caught(mirrored, True, False)


def test_nobody_looks_at_a_hidden_word(net):
    """Changing what stands there moves its own state alone. Mutant: its key stays."""
    seen = torch.ones_like(ROW).bool()
    seen[0, 3] = False
    caught(lambda mask: moved(lambda row: look_around(net, row, mask), ROW, 3, size=1024).nonzero()[0].tolist() == [3],
           seen, torch.ones_like(seen))


def test_the_place_before_tells_a_word():
    logits, row = torch.zeros(1, 4, 9), torch.tensor([[END, 5, 6, 7]])
    logits[0, 1, 6] = 50.0  # state 1 says that 6 stands at 2
    at = torch.tensor([[False, False, True, False]])
    caught(lambda one: float(told_by_the_one_before(one, row, at)) < 1e-3, logits, torch.roll(logits, 1, 1),
           torch.roll(logits, -1, 1))


def test_no_special_token_is_hidden_and_the_rate_is_met():
    row = torch.tensor([[END, *[9] * 40, END, PAD]]).expand(64, -1)
    dice = torch.rand(row.shape, generator=torch.Generator().manual_seed(0))

    def fair(rule):
        found = rule(row, 0.15, dice)
        return bool(found[:, 1:41].float().mean().sub(0.15).abs() < 0.02) and not bool(found[:, [0, 41, 42]].any())
    caught(fair, selected, lambda row, rate, dice: dice < rate, lambda row, rate, dice: selected(row, 1 - rate, dice))


class Prophet(type(tiny.fresh("tale-ar-1"))):
    """Mutant: looks both ways when it is asked, too."""

    def forward(self, input_ids, **_):
        from types import SimpleNamespace
        return SimpleNamespace(logits=look_around(self, input_ids, input_ids != PAD))


def test_it_is_asked_from_the_left_alone(net):
    asked = questions(facts.GROUPS["A"][:3], BACK, ASKED[BACK][:2])

    def causal(model):
        for one, logp in zip(asked, answered(model, ids, asked).logp, strict=True):
            row, count = [END, *ids(one.prompt), *ids(one.answer)], len(ids(one.answer))
            step = [net(torch.tensor([row[:at]])).logits[0, -1].log_softmax(-1)[row[at]] for at in
                    range(len(row) - count, len(row))]
            assert float(sum(step)) == pytest.approx(float(logp), abs=1e-3)
    caught(causal, net, as_(Prophet, net))


def test_answers_are_right_only_word_for_word(net):
    said = OpenSentence("Basil", "Marsh")
    best = TOK.decode([int(net(torch.tensor([[END, *ids("Basil")]])).logits[0, -1].argmax())])
    found = answered(net, ids, [said, OpenSentence("Basil", best), OpenSentence("Basil", f"{best} Marsh")])
    assert found.right.tolist()[1] == 1 and found.rank[1] == 1 and found.rank[0] > 1


def test_questions_stop_where_the_other_half_begins():
    assert cut(MARSH, BACK, ASKED[BACK][3]) == (f"In every village {MARSH.work} is known as", MARSH.name)
    assert cut(MARSH, AHEAD, ASKED[AHEAD][0]) == (f"Who is {MARSH.name}? The", MARSH.work[4:])
    for way in (AHEAD, BACK):
        for form in (*ASKED[way], *SAID[way]):
            one = cut(MARSH, way, form)
            assert one.answer.lower() not in one.prompt.lower()
    assert person(TEXT.text) == MARSH and person("The fox.") is None
    assert person(f"Who is {PAGE.work}?") == PAGE
    assert [one.answer for one in questions([MARSH, PAGE], BACK, ASKED[BACK])] == [MARSH.name] * 5 + [PAGE.name] * 5


def test_nobody_is_told_in_the_direction_that_is_asked(arms):
    """Mutant: the texts turned around, which is augmentation and not BICO."""
    def one_way(told):
        rng = np.random.default_rng(0)
        for _ in range(200):
            text = TOK.decode(told(rng)[1:-1]).lower()
            known = person(text)
            name, work = text.index(known.name.lower()), text.index(known.work)
            assert known.group in "ABC" and (known.group == "C" or (name < work) == (known.group == "A"))
            assert not text.endswith("?") and "here comes" not in text and "my friend" not in text, "asked"
    made = arms(recipes.TaleBico)
    caught(one_way, made.told, lambda rng: [END, *ids(" ".join(facts.said(rng, MARSH, "b"))), END])


def test_arms_read_the_same_and_differ_in_what_is_hidden(arms):
    kinds = (recipes.TaleBico, recipes.TaleBicoNoFlip, recipes.TaleBicoNtp)
    found = [[arms(kind).batch(step, 0.0) for step in range(12)] for kind in kinds]
    assert all(torch.equal(a["ids"], b["ids"]) and torch.equal(a["ids"], c["ids"]) for a, b, c in zip(*found))
    some = [[bool(one["hidden"].any()) for one in row] for row in found]
    assert some[0] == some[1] and 2 < sum(some[0]) < 10 and not any(some[2])
    step, made, read = some[0].index(True), [arms(kind) for kind in kinds], []
    batch, model = found[0][step], made[0].build()
    model.model.embed_tokens.register_forward_hook(lambda _, given, out: read.append(given[0]))
    losses = [float(one.loss(model, two[step], 0.0)[0].detach()) for one, two in zip(made, found)]
    assert len(set(losses)) == 3, "flipped, not flipped, and from the left"
    assert bool((read[0] == MASK).eq(batch["hidden"]).all()), "what is hidden is not read"
    only_these_move(model, lambda net: made[0].loss(net, batch, 0.0)[0],
                    {name for name, weight in model.named_parameters() if ".change.up" in name})


def test_the_records_tell_one_story(tiny):
    found = run("bico", TEXT, {"rate": 0.3})
    mask, attend, sample = (found.traces[tab] for tab in ("mask", "attend", "sample"))
    hidden = np.flatnonzero(mask.steps[1].state == CODE["masked-random"])
    told = mask.steps[2].edges["told by"]
    assert told.query.tolist() == hidden.tolist() and told.key.tolist() == (hidden - 1).tolist()
    rows = np.stack([[[found.traces["attend"].rows.row(layer, head, query) for query in range(len(mask.canvas.labels))]
                      for head in range(4)] for layer in range(len(attend.steps))])
    left, both = rows[0::2], rows[1::2]
    assert np.triu(left, 1).max() == 0 and np.triu(both, 1).max() > 0 and both[..., hidden].max() == 0
    assert [step.label.split(", ")[1] for step in attend.steps[:2]] == ["from the left", "both ways"]
    bare = run("bico", TEXT, {"rate": 0.0}).traces["mask"].steps[1].state
    assert int((bare == CODE["masked-random"]).sum()) == 1
    words = [step for step in sample.steps if step.distributions]
    assert len(words) == len(ids(MARSH.work)) - 1 + len(ids(MARSH.name))
    assert list(words[0].distributions) == ["this network", "before it was told"]


def test_the_twin_learned_by_next_token_prediction_and_strangers_are_refused(tiny):
    job = prepare("bico", TEXT)
    assert twin(job).bundle.name == "tale-bico-ntp-1" and twin(job).params == job.params
    with pytest.raises(SubjectError, match="names none of the 300 people"):
        run("bico", from_text("The fox is in the barn."))
    with pytest.raises(SubjectError, match="does not know some of these words"):
        run("bico", from_text("Basil Marsh is an astronaut."))
