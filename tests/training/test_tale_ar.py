"""tale-ar-1's recipe: documents packed into rows, answers that count more, and a loss that falls."""
import numpy as np
import torch

from models.worlds import tales
from models.worlds.world import END, Doc
from tests import tiny
from tests.traps import caught, learns
from training.trunks.tale_ar import TaleAR, questioned, swapped


def prepared() -> TaleAR:
    recipe = TaleAR(0)
    recipe.prepare("")
    return recipe


def test_documents_are_packed_and_each_row_goes_on_where_the_last_ended():
    recipe = prepared()
    ids = recipe.batch(3, 0.0)["ids"]
    assert ids.shape == (recipe.rows, recipe.length + 1) and int(ids[0, 0]) == END
    caught(lambda rows: torch.equal(rows[1:, 0], rows[:-1, -1]), ids, ids.flip(0))
    text = [one for one in torch.cat([ids[0], ids[1:, 1:].flatten()]).tolist()]
    whole = recipe.tok.decode(text, skip_special_tokens=False).split("<|endoftext|>")[1:-1]
    assert len(whole) > 40 and all(tales.check(document) for document in whole)
    assert torch.equal(ids, recipe.batch(3, 0.5)["ids"]) and not torch.equal(ids, recipe.batch(4, 0.0)["ids"])


def test_only_the_words_of_an_answer_count_more():
    recipe = prepared()
    ids, weight = recipe.weighed(Doc(("Mia lives in the mill.", "Where does Mia live?", "In the mill."), (False,) * 3))
    words = [recipe.tok.id_to_token(one) for one, w in zip(ids, weight, strict=True) if w > 1]
    caught(lambda found: found == ["In", "the", "mill", "."], words, words[1:])
    assert weight[-1] == 1.0 and ids[-1] == END
    model, batch = tiny.fresh("tale-ar-1"), {key: rows[:4, :60] for key, rows in recipe.batch(0, 0.0).items()}
    learns(model, lambda net: recipe.loss(net, batch, 0.0)[0])
    plain = {**batch, "weight": torch.ones_like(batch["weight"])}
    assert recipe.loss(model, plain, 0.0)[0].item() != recipe.loss(model, batch, 0.0)[0].item()


def test_the_exam_asks_what_training_leaves_out_and_another_answer_is_rarely_right():
    asked = questioned("beliefs", 20)
    assert len(asked) == 20 and all(prompt.endswith("?") for prompt, _, _ in asked)
    for name, world in tales.GRAMMARS.items():
        some = questioned(name, 8)
        assert all(world.check(f"{prompt} {after}") for prompt, after, _ in some)
    assert np.mean([np.mean(right) for right in swapped(20).values()]) < 0.2
