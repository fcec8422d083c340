"""Kinds of recipes: what a document teaches, what may learn, and how a tuned trunk is shipped."""
import json
import shutil

import numpy as np
import pytest
import torch

from models.backbones import packing
from models.backbones.stand_in import stirred
from models.checkpoints import registry, store
from models.worlds.world import Doc, World
from tests.traps import caught
from training import export
from training.kinds import FineTune, Rounded, Taught
from training.language import END, PAD, Shape, WorldLM, llama, save_llama, written
from training.trainer import Trainer

TRUNK = "tiny-1"
LETTERS = "abcdefgh"
WORDS = (*LETTERS, "is", ".")


def sample(rng):
    """Some letters, and again the last one."""
    letters = [LETTERS[i] for i in rng.integers(8, size=3)]
    return Doc((" ".join((*letters, "is")), f"{letters[-1]} ."), (False, True), letters[-1])


TOY = World(WORDS, sample, lambda text: (text.split() + [""] * 5)[4] == text.split()[2])


class Toy(WorldLM):
    name, world, shape, rows, length, places, room = "toy-1", TOY, Shape(16, 1, 2, 2, 32), 32, 12, 32, 2
    asked = 60
    compile = autocast = False
    lr, lr_adam, look = 0.02, 0.01, 1e9


def prepared(kind, seed=0):
    made = kind(seed)
    made.prepare("")
    return made


def test_only_the_learned_pieces_carry_loss():
    recipe = prepared(Toy)
    batch, tok = recipe.batch(0, 0.0), recipe.tok
    for ids, labels in zip(batch["ids"].tolist(), batch["labels"].tolist(), strict=True):
        words = [tok.id_to_token(one) for one in ids if one != PAD]
        start = words.index("is") + 1
        assert [ids[i] for i in range(len(ids)) if labels[i] != -100] == ids[start : start + 3]  # c . <|endoftext|>
        assert set(labels[: start]) == {-100} and set(labels[start + 3 :]) <= {-100}
    assert {row[0] == 0 for row in batch["ids"].tolist()} == {True, False}  # with and without a beginning


def test_a_world_is_learned_judged_and_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "SHIPPED", tmp_path)
    trainer = Trainer(prepared(type("Packed", (Toy,), {"pack": 6})), steps=120, folder=tmp_path / "runs",
                      say=lambda line: None)
    card = export.export(trainer, trainer.run())
    assert card["metrics"]["greedy accuracy"]["value"] > 0.9
    assert 0.1 < card["trivial_baseline"]["always the commonest answer"]["value"] < 0.3
    assert card["stored"] == "6 bits a weight in groups of 32"
    bundle = store.load(str(tmp_path / "toy-1"))
    assert bundle.tokenizer.encode("a b c is") == prepared(Toy).encode("a b c is")


def test_texts_go_on_greedily_and_end_in_padding():
    torch.manual_seed(2)  # a network that ends the first text and not the other of its length
    model, rows = stirred(llama(12, Toy.shape, 32).eval(), std=0.5), [[END, 5, 6], [END, 7], [END, 8, 9]]
    texts = written(model, rows, 20).tolist()
    for text, whole in zip(texts, (rows[0], rows[2], rows[1]), strict=True):  # those that are as long stand together
        whole = [*whole, int(model(torch.tensor([whole])).logits[0, -1].argmax())]
        while len(whole) < 20 and whole[-1] != END:
            whole.append(int(model(torch.tensor([whole])).logits[0, -1].argmax()))
        assert text == whole + [PAD] * (20 - len(whole))
    assert END in texts[0][3:] and END not in texts[1][3:]


@pytest.fixture
def trunk(tmp_path, monkeypatch):
    """A shipped trunk for the toy world."""
    torch.manual_seed(0)
    shelf = tmp_path / "shelf"
    save_llama(llama(len(WORDS) + 4, Toy.shape, 32).half(), prepared(Toy).tok, shelf / TRUNK)
    for module in (export, registry, store):
        monkeypatch.setattr(module, "SHIPPED", shelf)
    store.unload()
    yield shelf
    store.unload()


def tuned(**options):
    return type("Child", (FineTune, Toy), {"name": "child-1", "trunk": TRUNK, **options})


def moved(recipe, steps=3):
    """Names of what a few steps move, after `final`."""
    model, before = recipe.build(), registry.read(export.SHIPPED / TRUNK).state_dict()
    learns = [part for part in model.parameters() if part.requires_grad]
    optimiser = torch.optim.SGD(learns, 1.0)
    for step in range(steps):
        recipe.loss(model, recipe.batch(step, 0.0), 0.0)[0].backward()
        optimiser.step()
    after = recipe.final(model).state_dict()
    assert set(after) == set(before)
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_what_is_trained_is_what_moves(trunk):
    everything = moved(prepared(tuned()))
    assert len(everything) > 8
    low = moved(prepared(tuned(tune="lora:2")))
    assert low == {name for name in everything if "proj" in name}
    head = moved(prepared(tuned(tune="head")))
    assert head == {"model.embed_tokens.weight", "lm_head.weight"}  # tied here: the head is the table
    with pytest.raises(ValueError, match="tune is"):
        tuned(tune="some")(0).build()


@pytest.mark.parametrize("options, sentence", [
    ({"tune": "lora:2", "ship": "rank:2"}, "half precision, in a product of rank 2, of difference to tiny-1 at "),
    ({"tune": "lora:2", "ship": "rank:2:6"}, "6 bits a weight, in a product of rank 2, of difference to tiny-1 at "),
    ({"ship": "delta4"}, "4 bits a weight of difference to tiny-1 at "),
    ({"ship": "delta6:64"}, "6 bits a weight of difference to tiny-1 at "), ({"pack": 6}, "6 bits a weight in groups")])
def test_a_tuned_trunk_is_shipped_as_it_says_and_measured_so(options, sentence, trunk, tmp_path):
    trainer = Trainer(prepared(tuned(**options)), steps=40, folder=tmp_path / "runs", say=lambda line: None)
    trained = trainer.run()
    state = {name: one.clone() for name, one in trained.state_dict().items()}
    card = export.export(trainer, trained)
    assert card["stored"].startswith(sentence)
    found = store.load("child-1", dtype="float32")
    assert found.revision == card["sha256"][:12]
    off = max(float((found.model.state_dict()[name] - one).norm() / one.norm()) for name, one in state.items())
    assert off < 0.1
    said, right = card["metrics"]["greedy accuracy"]["value"], prepared(Toy).solve(found.model, Toy.asked)[0]
    assert said == round(float(np.mean(right)), 4)


def test_a_low_rank_training_is_kept_nearly_whole_by_a_product_of_its_rank(trunk, tmp_path):
    """The change itself, not the weight: a difference of too low a rank loses some of it."""
    recipe = prepared(tuned(tune="lora:4", ship="rank:4"))
    trainer = Trainer(recipe, steps=30, folder=tmp_path / "runs", say=lambda line: None)
    state = {name: one.clone() for name, one in trainer.run().state_dict().items()}
    base = registry.read(trunk / TRUNK).state_dict()

    def lost(rank):
        folder = shutil.copytree(trunk / TRUNK, tmp_path / f"rank-{rank}")
        packing.save({name: one.half().clone() for name, one in state.items() if name != "lm_head.weight"}, {},
                     folder / "model.safetensors")
        tuned(ship=f"rank:{rank}")(0).compact(folder)
        found = registry.read(folder).state_dict()
        return max(float((found[name] - state[name]).norm() / (state[name] - base[name]).norm())
                   for name in state if "proj" in name)

    assert lost(4) < 0.02 < lost(1)
    assert json.loads(packing.header(tmp_path / "rank-4" / "model.safetensors")["weights"])


class First(FineTune, Toy):
    name, trunk = "first-1", TRUNK


class Second(Rounded, First):
    name, start = "second-1", "first-1"


def test_what_learns_in_two_bits_is_shipped_as_it_learned(trunk, tmp_path):
    """The file holds what the last forward pass saw; nothing is rounded twice, and the table is the trunk's."""
    first = Trainer(prepared(First), steps=20, folder=tmp_path / "runs", say=lambda line: None)
    export.export(first, first.run())
    trainer = Trainer(prepared(Second), steps=20, folder=tmp_path / "runs", say=lambda line: None, warm=True)
    before = {name: one.clone() for name, one in trainer.model.state_dict().items()}
    trained = trainer.run()
    seen, learned = trainer.recipe.rounded(trained), {name: one.clone() for name, one in trained.state_dict().items()}
    export.export(trainer, trained)
    found = registry.read(trunk / "second-1").state_dict()
    assert all(not torch.equal(learned[name], before[name]) for name in seen), "the gradient goes past the rounding"

    def shipped(weights):
        same = [torch.isclose(found[name], weights[name], atol=2e-3).float().mean() for name in seen]
        assert np.mean(same) > 0.97, "but for numbers between two steps, which half precision pushes over"

    caught(shipped, (seen,), (learned,))
    table = "model.embed_tokens.weight"
    assert torch.equal(found[table], registry.read(trunk / TRUNK).state_dict()[table])


class Pupil(Taught, Toy):
    def build(self):
        return self.with_teacher(super().build())

    def stays(self, step, progress):
        return 0.9 + 0.09 * progress


@torch.no_grad()
def test_the_teacher_is_the_average_that_is_shipped_and_resumed():
    recipe = prepared(Pupil)
    model, teacher = recipe.build(), recipe.teacher
    before = teacher.model.norm.weight.clone()

    def follows(moved, step):
        return torch.allclose(moved, torch.full_like(moved, step), atol=1e-5)

    model.model.norm.weight += 1
    recipe.after_step(model, 7, 1.0)
    caught(lambda step: follows(teacher.model.norm.weight - before, step), 0.01, 0.1, 1.0)  # mutants: early, a copy
    assert recipe.final(model) is teacher and not any(part.requires_grad for part in teacher.parameters())
    other = prepared(Pupil, 1)
    other.build()
    other.load_state(recipe.state())
    assert all(torch.equal(a, b) for a, b in zip(other.teacher.parameters(), teacher.parameters()))
