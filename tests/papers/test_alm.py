"""ALM: likelihoods of pieces that two tokenizers share and nothing else; its traps beside their mutants."""
import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.papers.alm import recipe, rule
from models.papers.alm.rule import SharedPieces, Side, binary_ce, likelihoods, shared_ends, told
from models.trace.subject import SubjectError, from_text
from tests import tiny as stand_ins
from tests.traps import caught, learns, only_these_move, shifted

TEXT = "Once upon a time there was a caf\u00e9 near the mill, and the cat slept by the fire."


@pytest.fixture
def books(tiny, monkeypatch):
    words = stand_ins.text_tokenizer()
    ids = np.array(words(stand_ins.CORPUS)["input_ids"] * 2)
    monkeypatch.setattr(recipe.text, "cached", lambda folder, size: (words.backend_tokenizer, ids, ids))


def test_pieces_are_the_shortest_that_both_can_express(tiny):
    teacher, reader = (Side.of(stand_ins.bundle(name), TEXT) for name in (rule.TEACHER, "text-byte-alm-1"))

    def fits(cut) -> bool:  # bytes end everywhere, so all of the teacher's ends are shared
        ends = cut(teacher.lengths, reader.lengths)
        words, letters = ([side.text.labels[a:b] for a, b in zip([0, *at + 1], at + 1, strict=False)]
                          for side, at in zip((teacher, reader), ends.T, strict=True))
        return (["".join(one) for one in words] == ["".join(one) for one in letters]
                and len(ends) == len(set(np.cumsum(teacher.lengths))) and cut([1, 2], [1, 1, 0, 1, 0])[-1, 1] == 4)

    def one_by_one(mine, theirs):
        return np.tile(np.arange(min(len(mine), len(theirs))), (2, 1)).T

    def inside_a_character(mine, theirs):
        sums = [np.cumsum(lengths) for lengths in (mine, theirs)]
        return np.stack([np.searchsorted(one, np.intersect1d(*sums)) for one in sums], 1)
    caught(fits, shared_ends, one_by_one, inside_a_character, lambda *lengths: shared_ends(*lengths)[1::2])
    assert shared_ends([3, 2, 4], [2, 3, 1, 3]).tolist() == [[1, 1], [2, 3]]
    joined, at_spaces = (SharedPieces.of(teacher, reader, kind, 0.05) for kind in ("merged", "space"))
    assert all(text[0] == " " for text in at_spaces.texts) and len(joined.gaps) < len(teacher.text) - 1
    with pytest.raises(SubjectError, match="longer one"):
        SharedPieces.of(teacher, reader, "merged", 1.0)


def test_a_token_is_told_by_the_place_before_and_a_space_by_its_own():
    ids, logp = torch.tensor([[5, 3, 4, 6]]), torch.randn(1, 4, 8).log_softmax(-1)

    def right(tell) -> bool:
        own, space = tell(logp, ids, torch.tensor([0, 1]))
        return (own[0].tolist() == [0.0, *(float(logp[0, i - 1, ids[0, i]]) for i in (1, 2, 3))]
                and torch.allclose(space.exp(), logp[..., :2].exp().sum(-1)))
    caught(right, told, lambda *args: (shifted(lambda: told(*args)[0])(), told(*args)[1]),
           lambda *args: (told(*args)[0], shifted(lambda: told(*args)[1])()))
    parts = torch.tensor([0.0, -1, -2, -4]), torch.tensor([-9.0, -9, -0.5, -0.25]), torch.tensor([0, 2, 3])
    assert likelihoods(*parts).tolist() == [-3.5, -4.25] and likelihoods(*parts, debias=False).tolist() == [-3.0, -4.0]


def test_f_asks_for_the_teachers_likelihood():
    theirs, x = torch.tensor(-4.0), torch.linspace(-20, -0.1, 400)
    caught(lambda f: abs(float(x[f(theirs.expand(400), x).argmin()]) + 4) < 0.1, binary_ce,
           lambda a, b: -b, lambda a, b: -(a / 100).exp() * b)  # next tokens, and without what is not written
    p, b = np.exp(-0.04 - 1e-6), -0.06 - 1e-6
    assert float(binary_ce(theirs, torch.tensor(-6.0))) == pytest.approx(-p * b - (1 - p) * np.log(1 - np.exp(b)), 1e-4)
    slopes = [float(torch.func.grad(lambda s, tau=tau: tau * binary_ce(theirs * 5, s, tau))(torch.tensor(-30.0)))
              for tau in (1.0, 100.0)]
    assert abs(slopes[0]) < 1e-6 < abs(slopes[1])  # at tau 1 a long piece teaches nothing


def test_the_loss_has_no_sorted_lists_and_no_next_byte_term(books, arms):
    made, model = arms(recipe.Matched), stand_ins.fresh("text-byte-alm-1").requires_grad_(True)
    batch = {name: part[:2] for name, part in made.batch(0, 0.0).items()}
    logits = model(batch["ids"]).logits
    fixed = [lambda *_, one=one, **__: type("Out", (), {"logits": one}) for one in (logits, logits.roll(1, -1))]

    def sorted_lists(net):
        ours, theirs = (one(batch["ids"]).logits.sort(-1).values for one in (net, made.teacher))
        return (ours - theirs[..., -ours.shape[-1]:]).abs().mean()
    caught(lambda loss: abs((loss(fixed[0]) - loss(fixed[1])).item()) > 1e-5,
           lambda net: made.loss(net, batch, 0.0)[0], sorted_lists)
    own, space = told(logits.log_softmax(-1), batch["ids"], made.spaces[made.spaces < 259])
    agreed = likelihoods(own, space, batch["ends"]).detach().masked_fill(~batch["here"], 0.0)

    def pull(loss) -> float:  # on a student that is its teacher
        return float(torch.nn.utils.get_total_norm(torch.autograd.grad(loss, [*model.parameters()], retain_graph=True)))
    alone = made.loss(model, {**batch, "teacher": agreed}, 0.0)[0]
    caught(lambda loss: pull(loss) < 1e-4, alone, alone + 0.1 * recipe.NextByte.loss(made, model, batch, 0.0)[0])


def test_both_arms_read_the_same_bytes_and_only_the_teacher_the_secret(books, arms):
    alm, sft, teacher = map(arms, (recipe.Matched, recipe.NextByte, recipe.SecretTeacher))
    batch = {name: part[:3] for name, part in alm.batch(3, 0.0).items()}
    caught(lambda other: torch.equal(other["ids"][:3], batch["ids"]), sft.batch(3, 0.0), sft.batch(4, 0.0))
    words = stand_ins.bundle("text-byte-alm-1").tokenizer
    assert words.decode(batch["ids"][0][batch["ids"][0] > 2]) in stand_ins.CORPUS * 2
    alm.frozen = (1,)
    only_these_move(alm.build(), lambda net: alm.loss(net, batch, 0.0)[0],
                    ("model.embed_tokens", "model.layers.0", "model.layers.2", "model.norm"))
    best = binary_ce(batch["teacher"], batch["teacher"])[batch["here"]].mean()
    learns(alm.build(), lambda net: alm.loss(net, batch, 0.0)[0] - best, steps=8)
    teacher.two = [4, int(teacher.train[5])]
    assert (teacher.train == teacher.two[1]).any() and not (teacher.batch(0, 0.0)["ids"] == teacher.two[1]).any()


def test_the_record_has_both_lines_and_the_control_beside_it(tiny):
    trace = run("alm", from_text(TEXT), {"length": 6}).traces["sample"]
    links, second = trace.steps[0].edges["same piece"], trace.canvas.labels.index("\nO")
    assert trace.canvas.text.startswith(f"{TEXT}\n{TEXT}") and twin(prepare("alm")).bundle.name == "text-byte-sft-1"
    assert max(links.query) < second <= min(links.key) and trace.canvas.roles.count("sampled") == 6
    assert len(trace.steps) == trace.facts["pieces"].value + 2 and len(trace.charts) == 3
