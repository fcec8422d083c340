"""Boards of three rows and four columns with a disc in every field, told in facts of two words.

    told red b2 blue c1 tell red b2 blue c1 .     what was heard is told on, in the order in which it was heard
    told red b2 blue c1 ask c1 blue a3 green      and asked for; of a field that was not told every answer is as good

Twelve places and four colours: a word is one of sixteen, 4 bits, and a fact of two words tells 2 bits. Fields are
independent of each other, so what is known of a board is the sum of what is known of its fields.
"""
import re
from functools import partial

import numpy as np

from models.worlds.boards import FlatBoard
from models.worlds.world import Doc, World, held_out, sifted

ROWS, COLUMNS = 3, 4
COLOURS = {"red": (208, 52, 44), "blue": (44, 92, 200), "green": (38, 140, 70), "yellow": (236, 186, 40)}
PLACES = tuple(f"{column}{row + 1}" for row in range(ROWS) for column in "abcd")  # row by row, as a board's fields
SAID = (*PLACES, *COLOURS)  # the words that a message may have
TOLD, TELL, ASK, STOP = "told", "tell", "ask", "."
WORDS = (*SAID, TOLD, TELL, ASK, STOP)
FIELDS, LOOKS = len(PLACES), len(COLOURS)
FIRST = 4  # id of the first word: the special tokens stand before it
BITS = FIELDS * 2  # of a board
MOST = 6  # facts of a message
UNTOLD, ASKED = 2, 8  # fields that are asked for though nobody told them; and those that are asked for at most

Board = tuple[int, ...]  # the colour 0-3 of each field


def board(rng: np.random.Generator, out: bool = False) -> Board:
    """A board to train on, or one that is kept out."""
    while True:
        found = tuple(rng.integers(LOOKS, size=FIELDS).tolist())
        if held_out(told(found)) == out:
            return found


def boards(seed: int, count: int) -> list[Board]:
    """Different boards that no training draws."""
    rng, known = np.random.default_rng(seed), set()

    def new(found: Board) -> bool:
        fresh = found not in known
        known.add(found)
        return fresh

    return sifted(lambda number: board(rng, out=True), count, new)


def told(found: Board, fields=range(FIELDS)) -> str:
    """The facts of some of a board's fields: "red a1 blue b1"."""
    return " ".join(f"{list(COLOURS)[found[field]]} {PLACES[field]}" for field in fields)


def sample(rng: np.random.Generator, few: int = 0) -> Doc:
    """Some or all facts of a board, and what is to be done with them: tell them on, or answer for every field that was
    told and for some that were not. few: so many facts at most, for who begins to learn."""
    whole, order = board(rng), rng.permutation(FIELDS)
    count = FIELDS if not few and rng.random() < 0.4 else int(rng.integers(1, (few or MOST) + 1))
    begun = f"{TOLD} {told(whole, order[:count])}"
    if rng.random() < 0.3:
        said = f"{told(whole, order[:min(count, MOST)])} {STOP}"
        return Doc((f"{begun} {TELL}", said), (False, True), said)
    asked = rng.permutation(order[: count + (not few) * UNTOLD])[:ASKED]
    words = [word for field in asked for word in (PLACES[field], list(COLOURS)[whole[field]])]
    return Doc((f"{begun} {ASK} {words[0]}", *words[1:]), (False, *[True, False] * (len(asked) - 1), True), words[1])


def facts(text: str) -> dict[str, str]:
    """{place: colour} of facts; ValueError where the words are none, or a field is told twice."""
    words = text.split()
    found = dict(zip(words[1::2], words[::2]))
    if len(words) % 2 or not set(found) <= set(PLACES) or not set(found.values()) <= set(COLOURS):
        raise ValueError('a fact is a colour and a place, as in "red b2"')
    if 2 * len(found) < len(words):
        raise ValueError("a field is told twice")
    return found


def check(text: str) -> bool:
    """Whether a text tells on what it was told, all or the first six facts in their order, or answers its first
    question as it was told; of a field that was not told any colour is right."""
    parts = re.fullmatch(rf"{TOLD} (.+) ({TELL}|{ASK}) (.+)", " ".join(text.split()))
    try:
        known = facts(parts[1])
        if parts[2] == TELL:
            said, stop, _ = parts[3].partition(f" {STOP}")
            return bool(stop) and list(facts(said).items()) == list(known.items())[:MOST]
        place, colour = parts[3].split()[:2]
        return facts(f"{colour} {place}") == {place: known.get(place, colour)}
    except (TypeError, ValueError):
        return False


def read(text: str) -> Board:
    """A board from a visitor's words; ValueError with a sentence that says what is missing."""
    found = facts(re.sub(r"[,;.]", " ", text.lower()))
    if missing := [place for place in PLACES if place not in found]:
        raise ValueError(f"every field needs its disc; {', '.join(missing)} has none yet")
    return tuple(list(COLOURS).index(found[place]) for place in PLACES)


def known(chances: np.ndarray, boards) -> np.ndarray:
    """Bits [..., F] that someone is right about, from the chances [..., F, C] that he gives each colour: 2 and the log
    of the true one's, below 0 where he is sure of a wrong one. Their sum is at most what he knows of the board."""
    return 2 + np.log2(np.clip(true_chance(chances, boards), 1e-30, None))


def true_chance(chances: np.ndarray, boards) -> np.ndarray:
    """Chance [..., F] of each field's true colour."""
    return np.take_along_axis(chances, np.asarray(boards)[..., None], -1)[..., 0]


def believed(chances: np.ndarray, boards) -> np.ndarray:
    """Which fields [2, ..., F] someone knows, and of which he is wrong and takes it for known: one colour has more than
    half of the chance."""
    true = chances.argmax(-1) == np.asarray(boards)
    return (chances.max(-1) > 0.5) & np.stack([true, ~true])


def paint(picture: FlatBoard, cells, chances: np.ndarray) -> None:
    """A board as someone sees it, in some cells of a picture: discs are as large as he is sure of them."""
    for cell, row in zip(cells, chances, strict=True):
        picture.dot(cell, list(COLOURS.values())[int(row.argmax())], radius=0.44 * float(row.max()) - 0.03)


WORLD = World(WORDS, sample, check)
FIRST_WORLD = World(WORDS, partial(sample, few=3), check)
