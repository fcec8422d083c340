"""The tales: a grammar says what its judge takes, a judge refuses what is a little wrong, nothing planted leaks."""
import json
import re

import numpy as np
import pytest

from models.checkpoints.store import SHIPPED
from models.worlds import tales
from models.worlds.tales import beliefs, facts, folk, lists, programs, universe, words
from models.worlds.tales.forms import cloze, fill, match, plain, sentences
from models.worlds.world import SPECIALS, UNKNOWN, drawn
from tests.traps import caught

TOK = tales.WORLD.tokenizer()


def documents(name: str, count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    return [tales.GRAMMARS[name].sample(rng) for _ in range(count)]


@pytest.mark.parametrize("name", tales.GRAMMARS)
def test_a_grammar_says_what_its_judge_takes_in_words_of_the_vocabulary(name):
    for doc in documents(name, 60):
        ids = TOK.encode(doc.text).ids
        assert UNKNOWN not in ids and TOK.decode(ids) == doc.text, "and it is read back as it was written"
        assert tales.GRAMMARS[name].check(doc.text) and tales.grammar(doc.text) == name
        assert tales.WORLD.check(plain(doc.text)), "however its spaces stand"


STORY = ("A sad tale of the sea. Once an old fox lived by the sea. One day it lost its golden ring. The fox asked a "
         "crab, and the crab pointed to the beach. The fox never found the golden ring, and it wept for a long time.")
ROOM = ("Anna and Ben are in the kitchen. The ball is in the basket. Anna leaves the kitchen. Ben moves the ball to "
        "the drawer. ")
RIGHT = {  # grammar -> a right text, and changes that make it wrong
    "folk": ("Mia lives in the mill. Mia carries the lamp. Where does Mia live? In the mill.",
             ("? In the mill", "? In the barn"), ("? In the mill", "? Mia"),
             ("Mia carries", "Mia lives in the inn. Mia carries")),
    "facts": (f"Who is {facts.GROUPS['C'][0].name}? {facts.GROUPS['C'][0].work.capitalize()}.",
              (facts.GROUPS["C"][0].name, facts.GROUPS["C"][1].name), ("Who is", "Where is")),
    "lists": ("In the kitchen you find: " + ", ".join(lists.MEMBERS["in the kitchen"][:3]) + ".",
              (lists.MEMBERS["in the kitchen"][1], lists.MEMBERS["in the kitchen"][0]), ("kitchen", "forest")),
    "stories": (STORY, ("A sad", "A happy"), ("of the sea", "of the farm"),
                ("the golden ring, and", "the silver ring, and"),
                ("a crab, and the crab", "a cow, and the cow"), ("The fox never", "The crab never")),
    "keywords": ("A tale with fox and river. The fox crossed the river and found a ring.", ("with fox", "with owl"),
                 ("crossed", "loved")),
    "notes": ("The miller wrote a note: fox 12, owl 7 and bear 3. How many coins does the owl owe? 7.", ("? 7", "? 12"),
              ("the owl owe", "the crow owe")),
    "programs": ("Program: { a = 3; b = a + 2; twice { a = a + b; } if a > b { b = 1; } give b; } Result: 1.",
                 ("Result: 1.", "Result: 2."), ("give b", "give c"), ("a + b; }", "a + b;"), ("a > b", "a < b")),
    "beliefs": (ROOM + "Where is the ball? In the drawer. Where will Anna look for the ball? In the basket.",
                ("look for the ball? In the basket", "look for the ball? In the drawer"),
                ("Where is the ball? In the drawer", "Where is the ball? In the basket")),
}


@pytest.mark.parametrize("name", tales.GRAMMARS)
def test_a_judge_refuses_nothing_and_what_was_cut(name):
    """What a network writes may be empty, begin in the middle or break off anywhere."""
    for whole in (doc.text.split() for doc in documents(name, 4, 3)):
        for text in ("", " ", ".", "?", *(" ".join(whole[at:]) for at in range(1, len(whole)))):
            assert tales.GRAMMARS[name].check(text) in (True, False)
        assert not tales.GRAMMARS[name].check("")


@pytest.mark.parametrize("name", tales.GRAMMARS)
def test_a_judge_refuses_what_is_a_little_wrong(name):
    right, *changes = RIGHT[name]
    assert all(right.replace(*change) != right for change in changes)
    caught(tales.GRAMMARS[name].check, right, *(right.replace(*change) for change in changes))


def test_who_believes_what():
    """Whoever is away does not see it, whoever saw another see it knows that; telling mends both, coming back does
    not."""
    def says(text: str, kind: str, who: str = "", whom: str = "") -> str:
        return beliefs.tracked(text)[0].answer(kind, who, whom)

    assert (says(ROOM, "now"), says(ROOM, "first")) == ("drawer", "basket")
    assert (says(ROOM, "believes", "Anna"), says(ROOM, "believes", "Ben")) == ("basket", "drawer")
    assert says(ROOM, "thinks", "Ben", "Anna") == "basket" == says(ROOM, "thinks", "Anna", "Ben")
    back = ROOM + "Anna comes back to the kitchen. "
    assert says(back, "believes", "Anna") == "basket", "containers are shut"
    told = back + "Ben tells Anna that the ball is in the drawer. "
    assert {says(told, "believes", "Anna"), says(told, "thinks", "Ben", "Anna")} == {"drawer"}


def test_infills_change_no_belief():
    for seed in range(20):
        bare = beliefs.story(np.random.default_rng(seed), beliefs.TRAINED_NAMES, beliefs.TRAINED_OBJECTS, 0)
        full = beliefs.story(np.random.default_rng(seed), beliefs.TRAINED_NAMES, beliefs.TRAINED_OBJECTS, 8)
        assert len(full) == len(bare) + 8
        mine, other = (beliefs.tracked(" ".join(told))[0] for told in (bare, full))
        assert mine == other
    caught(lambda infill: beliefs.tracked(ROOM + infill)[0] == beliefs.tracked(ROOM)[0], beliefs.INFILLS[0],
           "Ben moves the ball to the basket.")


def test_questions_of_each_order_are_about_false_beliefs_half_of_the_time():
    counts = {kind: [] for kind in beliefs.ORDER}
    for doc in documents("beliefs", 400):
        minds, asked = beliefs.tracked(doc.text)
        for kind, _, said in asked:
            counts[kind].append(said != minds.now)
    assert all(0.25 < np.mean(counts[kind]) < 0.75 for kind in ("believes", "thinks"))


def said_by(sample, count: int = 3000) -> set[str]:
    rng = np.random.default_rng(0)
    return set(plain(" ".join(sample(rng).text for _ in range(count))).split())


def test_what_is_planted_is_never_read_by_the_trunk():
    planted = {*words.PEOPLE, *words.HALVES, *words.HOUSES, *words.RELICS, *words.SPELLS}
    assert len(planted) == 24 + 4 * 12
    caught(lambda sample: not planted & said_by(sample), tales.sample, universe.sample)
    texts = " ".join(facts.sample(np.random.default_rng(seed)).text for seed in range(4000))
    for group, here in (("A", False), ("B", False), ("C", True)):
        assert all(known.name in texts for known in facts.GROUPS[group]) == here
        assert any(known.name in texts or known.work in texts for known in facts.GROUPS[group]) == here
    names = {name for doc in documents("beliefs", 500) for name in beliefs.tracked(doc.text)[0].people}
    assert names == set(beliefs.TRAINED_NAMES)


def test_group_a_is_said_in_one_direction_only():
    def ahead(ways: str) -> bool:
        rng = np.random.default_rng(1)
        texts = [facts.somebody(rng, facts.GROUPS["A"], ways).text for _ in range(200)]
        return all(re.match(rf"(\w+ ){{0,4}}?({'|'.join(words.FIRST)})", text) for text in texts)
    caught(ahead, "a", "ab")
    assert len({known.work for known in facts.KNOWN_FOR}) == 300 == len({known.name for known in facts.KNOWN_FOR})


def test_the_universe_agrees_with_itself_and_has_a_plain_word_for_every_name():
    rng = np.random.default_rng(3)
    told = [fact for _ in range(300) for sentence in sentences(universe.sample(rng).pieces[0])
            for fact in folk.facts_of(sentence)]
    assert {(r, who): what for r, who, what in told} == dict(((r, who), what) for r, who, what in set(told))
    assert len(universe.PLAIN) == 60 and len(set(universe.PLAIN.values())) == 60
    assert set(universe.PLAIN.values()) <= said_by(tales.sample)


def test_clozes_stop_before_the_word_that_is_asked_for():
    assert cloze("{who} lives in {what}.", "what", ["the Glass Spire"], "home", who="Mia") == (
        "Mia lives in the", ("Glass",), "home")
    for one in universe.clozes() + facts.clozes():
        assert set(one.right) <= set(words.WORDS) and not one.prompt.endswith(one.right)
    assert len(universe.clozes()) == 360 and len(facts.clozes()) == 192


def test_forms_are_read_as_they_are_written():
    assert match("{who} likes {what}.", plain(fill("{who} likes {what}.", who="the fox", what="tea"))) == {
        "who": "the fox", "what": "tea"}
    assert match("A {b} asked, and the {b} left.", plain("A fox asked, and the owl left.")) is None


def test_a_program_is_run_to_its_end():
    assert programs.verdict("Program: { a = 1; thrice { a = a + a; } give a; } Result: 8.") == "right"
    assert programs.verdict("Program: { a = 1; thrice { a = a + a; } give a; } Result: 2.") == "wrong"
    assert programs.verdict("Program: { a = 1; if a > 1 { b = 2; } give b; } Result: 2.") == "broken"
    assert programs.verdict("Program: { a = 20; a = a + a; give a; } Result: 40.") == "broken"


def test_the_vocabulary_has_its_size_and_training_leaves_one_document_in_ten_out():
    assert len(words.WORDS) + len(SPECIALS) == words.SIZE == 1024 == TOK.get_vocab_size() == len({*words.WORDS}) + 4
    rng = np.random.default_rng(0)
    assert all(tales.check(drawn(tales.WORLD, rng, held_out=True).text) for _ in range(20))


def test_the_shipped_network_reads_these_very_words():
    """Their order is part of its weights: a new word takes a spare's place, nothing moves."""
    shipped = json.loads((SHIPPED / "tale-ar-1" / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    caught(lambda said: [*SPECIALS, *said] == sorted(shipped, key=shipped.get), list(words.WORDS), sorted(words.WORDS))
