"""Clients of a federation: their styles, what the judge reads back, and what everybody may read."""
from collections import Counter

from models.worlds import federation as world
from models.worlds.tales import GRAMMARS
from tests.traps import caught


def test_every_note_is_told_in_its_clients_style():
    found = world.clients(60, 1)
    caught(lambda read: all(client.style in read(note) for client in found for note in client.notes), world.style_of,
           lambda note: world.style_of(note.replace(" lived ", " slept ")),
           lambda note: world.style_of(note.replace("winter", "farm").replace("sea", "farm")))
    assert all(1 <= len(client.notes) <= world.MOST for client in found)
    assert all(world.topic_of(note) == world.styles()[client.style].topic for client in found for note in client.notes)


def test_styles_differ_and_the_topics_are_told_as_often():
    assert len({style.heroes for style in world.styles()}) == world.STYLES
    shares = Counter(world.styles()[client.style].topic for client in world.clients(1500, 2))
    assert set(shares) == set(world.PRIVATE) and abs(shares["sea"] - shares["winter"]) < 150
    by_style = Counter(client.style for client in world.clients(1500, 2))
    assert by_style[0] > 2 * by_style[world.STYLES - 1], "some styles are commoner than others"
    tokenizer = GRAMMARS["stories"].tokenizer()
    assert all(tokenizer.token_to_id("<|unk|>") not in tokenizer.encode(note).ids
               for client in world.clients(40, 3) for note in client.notes)


def test_what_everybody_may_read_is_of_all_topics_and_is_no_note():
    texts = world.public(300, 4)
    named = Counter(map(world.topic_of, texts))
    assert len(named) >= 8 and sum(named[topic] for topic in world.PRIVATE) < 100
    assert not any(world.style_of(text) for text in texts[:100])
    assert world.public(5, 4) == texts[:5] and world.clients(5, 1) == world.clients(60, 1)[:5]


def test_a_text_that_is_cut_off_is_read_as_far_as_it_goes():
    note = next(note for client in world.clients(20, 1) for note in client.notes)
    words = note.split()
    assert set(world.style_of(note)) <= set(world.style_of(" ".join(words[:-4])))
    assert world.style_of(" ".join(words[:8])) == [], "nobody is told of yet"
    assert world.topic_of("A happy tale of the moon.") == "" and world.topic_of("The fox hid.") == ""
