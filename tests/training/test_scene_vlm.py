"""scene-vlm-1's recipe: questions packed behind one picture are answered as if each were asked alone."""
import numpy as np
import pytest
import torch

from models.worlds import questions
from tests import tiny
from training.trunks import scene_vlm
from training.trunks.scene_vlm import IDS, PLACES, STARTS, VISIBLE, SceneVLMRecipe, Tutored


@pytest.fixture(scope="module")
def recipe():
    made = SceneVLMRecipe(0)
    made.size = 6
    return made


def packed_logits(net, batch, mask=VISIBLE):
    """Logits [B, Q, V] of the answers, as in the loss."""
    hidden = net.embed(batch["pixels"], batch["ids"])
    last = net.states(hidden, PLACES, mask)[:, net.count :]
    return net.head(last.gather(1, batch["ends"][..., None].expand(-1, -1, last.shape[-1])))


def alone_logits(net, batch, row, slot):
    start, end = STARTS[slot], int(batch["ends"][row, slot])
    return net(batch["pixels"][row : row + 1], batch["ids"][row : row + 1, start : end + 1])[0]


def agree(net, batch, mask):
    """Whether every packed question is answered as it is alone."""
    packed = packed_logits(net, batch, mask)
    return all(torch.allclose(packed[row, slot], alone_logits(net, batch, row, slot), atol=1e-3)
               for row, slot in (batch["answers"] >= 0).nonzero().tolist())


@torch.no_grad()
def test_a_packed_question_is_answered_as_if_it_were_alone(recipe):
    net, batch = tiny.scene_vlm(), recipe.batch(3, 0.5)
    assert agree(net, batch, VISIBLE)
    assert not agree(net, batch, torch.ones_like(VISIBLE).tril()), "questions that see each other must be noticed"


def test_every_answer_is_the_right_one_and_ends_its_question(recipe):
    batch, words = recipe.batch(1, 0.9), {i: word for word, i in IDS.items()}
    items = questions.cases(np.random.default_rng((0, 1)), 6, kinds=(), most=questions.MOST)
    for row, slot in (batch["answers"] >= 0).nonzero().tolist():
        text = [words[int(i)] for i in batch["ids"][row, STARTS[slot] : int(batch["ends"][row, slot]) + 1]]
        assert questions.answer(items[row].items, " ".join(text)) == words[int(batch["answers"][row, slot])]
        assert len(text) <= scene_vlm.ROOM[scene_vlm.ASKED[slot]]


def test_batches_depend_on_seed_and_step_alone_and_start_with_few_things(recipe):
    one, other = recipe.batch(7, 0.0), recipe.batch(7, 0.0)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert recipe.batch(0, 0.0)["weights"].tolist() == [recipe.tutor, recipe.guide]
    assert float(recipe.batch(0, 0.6)["weights"][0]) == 0 and float(recipe.batch(0, 1.0)["weights"][1]) == 0
    few, many = ((recipe.batch(5, at)["looks"] > 0).sum(1).float().mean() for at in (0.0, 0.9))
    assert few < many


def test_the_loss_reaches_encoder_projector_and_language_model(recipe):
    model = Tutored(tiny.scene_vlm())
    loss, logs = recipe.loss(model, recipe.batch(0, 0.0), 0.0)
    loss.backward()
    for name in ("net.embed_patches.weight", "net.projector.0.weight", "net.lm.lm_head.weight", "patch_head.weight",
                 "place_head.weight", "cell_head.weight"):
        assert float(model.get_parameter(name).grad.abs().sum()) > 0, name
    assert set(logs) == {"asked", "named", "placed", "found"}


def test_the_cells_are_those_of_the_things_that_are_named(recipe):
    batch, words = recipe.batch(2, 0.9), {i: word for word, i in IDS.items()}
    items = questions.cases(np.random.default_rng((0, 2)), 6, kinds=(), most=questions.MOST)
    checked = 0
    for row, place in (batch["cells"] >= 0).nonzero().tolist():
        at = int(scene_vlm.PLACED[place])
        look = " ".join(words[int(i)] for i in batch["ids"][row, at - 1 : at + 1])
        item = next(item for item in items[row].items if item.look == look)
        assert int(batch["cells"][row, place]) == item.cell
        checked += 1
    assert checked >= 6


def test_a_patch_is_named_by_what_is_drawn_in_it():
    item = questions.Item("red", "ring", 5, 3)  # second row, second column, lower right corner
    looks = scene_vlm.patch_looks([item]).reshape(8, 8)
    assert looks[3, 3] == scene_vlm.LOOKS["small red ring"] and (looks > 0).sum() == 1
    assert (scene_vlm.patch_looks([questions.Item("red", "ring", 5)]) > 0).sum() == 4


def test_blind_answers_are_better_than_chance_and_worse_than_seeing():
    blind = scene_vlm.blind_hits(scene_vlm.held_out(300), 2000)
    assert set(blind) == set(questions.KINDS)
    assert 0.4 < blind["side"].mean() < 0.7 and blind["colour"].mean() < 0.4


def test_half_precision_weights_come_back_as_they_were(tmp_path, recipe):
    from models.checkpoints.store import load
    net = tiny.scene_vlm().eval()
    recipe.save(net.half(), tmp_path)
    again = load(str(tmp_path), dtype="float32")
    assert torch.equal(again.model.projector[0].weight, net.float().projector[0].weight)
    assert again.tokenizer.convert_tokens_to_ids("ring") == IDS["ring"]
