"""Whatever stands behind the page's address is followed or refused in one sentence.

`make test` tries 100 links, `make fuzz` 2,000: sound ones of every method with one to three of their parts made odd.
FUZZ_FIRST=number FUZZ_LINKS=1 makes one again.
"""

import os
import random
from urllib.parse import parse_qsl

import pytest

from models.engine.method import find, offered
from models.serving import links
from models.serving.errors import CLEAR, told
from models.serving.session import Ask
from models.trace import TABS
from models.trace.params import schema

COUNT, FIRST = int(os.environ.get("FUZZ_LINKS", 100)), int(os.environ.get("FUZZ_FIRST", 0))
ODD = ("", "²", "--5", "--1", "-", "-0", "٥", "1e9", "1e999", "nan", "inf", "0x10", "９", "1_000", " 7", "7 ", "None",
       "2147483648", "9" * 400, "null", "True", "[]", "{}", "../../etc/passwd", "/etc", "~", "~nobody/x", "\x00", "%00",
       "%ff", "\ud800", "🎈" * 50, "<script>alert(1)</script>", "'; drop", "a.b.c.d", "...", "text-mdm-l", "own-folder",
       "3.17.512", "2.0", "41", "41,,", "2.0,9.9", "a" * 5000)
NAMES = ("tab", "method", "seed", "example", "checkpoint", "beside", "step", "own", "p.", "p.__class__", "p.steps",
         "p.own", "keep", "off", "put", "\x00", "p." + "x" * 400)


def link(dice: random.Random) -> dict[str, str]:
    """The parts of a link of some method, some of them odd."""
    method = find(dice.choice(sorted(offered())))
    tab = dice.choice(method.card.tabs)
    parts = dict(parse_qsl(links.to_query(Ask(method.id, tab, seed=dice.randrange(9))), keep_blank_values=True))
    parts["checkpoint"] = dice.choice(method.choices)
    names = [*NAMES, *parts, *(f"p.{name}" for name in schema(method.params)["properties"])]
    for _ in range(dice.randrange(1, 4)):
        name = dice.choice(names)
        parts[name] = dice.choice([*ODD, *TABS, method.id, str(dice.randrange(-3, 99))])
        if not dice.randrange(6):
            parts.pop(dice.choice(sorted(parts)))
    return parts


@pytest.mark.slow
def test_any_link_is_followed_or_refused_in_a_sentence():
    followed = 0
    for number in range(FIRST, FIRST + COUNT):
        parts = link(random.Random(number))
        try:
            ask = links.from_query(parts)
        except CLEAR as error:
            said = told(error)
            assert 5 < len(said) < 600 and said.isprintable(), f"link {number} {parts}: {said}"
        except BaseException as error:
            raise AssertionError(f"link {number} {parts}: {type(error).__name__}: {error}") from error
        else:
            followed += 1
            again = links.from_query(dict(parse_qsl(links.to_query(ask), keep_blank_values=True)))
            usual = find(ask.method).checkpoints[0]
            assert (again.method, again.checkpoint or usual) == (ask.method, ask.checkpoint or usual), parts
    assert COUNT < 50 or 0.02 * COUNT < followed < 0.9 * COUNT  # the two kinds of ends are both met
