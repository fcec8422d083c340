"""What worlds share: what is kept out of training stays out, an exam asks nothing twice, words are tokens."""
import numpy as np
import pytest

from models.worlds import arithmetic, routes
from models.worlds.world import END, Doc, World, drawn, exam, held_out, sifted, word_tokenizer

WORLDS = {"sums in words": arithmetic.WORLD, "sums in digits": routes.WORLD}


@pytest.mark.parametrize("name", WORLDS)
def test_training_never_draws_what_the_exam_asks(name):
    rng, asked = np.random.default_rng(0), {doc.prompt for doc in exam(WORLDS[name], 1, 40)}
    trained = {drawn(WORLDS[name], rng).prompt for _ in range(300)}
    assert len(asked) == 40 and not asked & trained
    assert all(map(held_out, asked)) and not any(map(held_out, trained))
    careless = {WORLDS[name].sample(rng).prompt for _ in range(300)}
    with pytest.raises(AssertionError):
        assert not any(map(held_out, careless))  # a generator without the rule would show some


@pytest.mark.parametrize("name", WORLDS)
def test_a_document_is_right_in_its_own_words(name):
    world, rng = WORLDS[name], np.random.default_rng(2)
    tok = world.tokenizer()
    for _ in range(20):
        doc = world.sample(rng)
        ids = tok.encode(doc.text).ids
        assert world.check(doc.text) and world.check(tok.decode(ids)) and tok.token_to_id("<|unk|>") not in ids
        assert not world.check(doc.text.replace(f"answer {doc.truth}", f"answer {doc.truth + 1}"))
        assert doc.text.startswith(doc.prompt) and doc.learned == (False, True)


def test_an_exam_leaves_out_what_it_is_told_and_ends_where_a_world_does():
    first = [doc.prompt for doc in exam(arithmetic.WORLD, 5, 20)]
    assert not set(first) & {doc.prompt for doc in exam(arithmetic.WORLD, 5, 20, without=first)}
    few = World(("a",), lambda rng: Doc(("P", "a"), (False, True)), lambda text: True)  # "P" is 80: kept out
    assert [doc.prompt for doc in exam(few, 0, 1)] == ["P"]
    with pytest.raises(ValueError, match="hardly 2"):
        exam(few, 0, 2)


def test_prompts_held_out_are_those_of_before():
    """The very prompts that the shipped cards and claims were measured on."""
    found = arithmetic.held_out(3)
    rng, alone = np.random.default_rng(5), []
    while len(alone) < 3:
        prompt = arithmetic.problem(rng)[0]
        alone += [prompt] if sum(map(ord, prompt)) % 10 == 0 else []
    assert found == alone


@pytest.mark.parametrize("split, text, words", [
    ("spaces", "one two ?", ["one", "two", "?"]), ("words", "one, two?", ["one", ",", "two", "?"]),
    ("signs", "12 +3", ["1", "2", "+", "3"])])
def test_words_are_tokens(split, text, words):
    tok = word_tokenizer(dict.fromkeys(words), split)
    assert tok.encode(text).tokens == words and tok.token_to_id("<|endoftext|>") == END


def test_what_is_made_is_told_how_many_there_are():
    assert sifted(lambda number: number, 3, lambda one: True) == [0, 1, 2]
