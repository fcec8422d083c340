"""Linked pages: every page is right by the judge of portraits, and friends, not the page, tell what it will say."""
import numpy as np

from models.worlds import pages, tales
from models.worlds.tales import folk
from models.worlds.tales.words import NAMES
from models.worlds.world import UNKNOWN
from tests.traps import caught


def values(web: pages.Web, page: int) -> list[tuple[str, bool]]:
    """What a portrait says of each relation, and whether it is its circle's."""
    truth = web.docs[page].truth
    if truth is None:
        return []
    return [(name, getattr(truth, name).split()[-1] in web.shared(page)) for name in ("home", "treasure", "song",
                                                                                    "friend", "teacher")]


def test_every_page_is_right_and_about_its_own_person():
    words = tales.WORLD.tokenizer()
    for seed in range(6):
        web = pages.web(seed)
        assert len(web.docs) == pages.PAGES == len(NAMES) and np.bincount(web.circles).tolist() == [5] * 8
        for name, doc in zip(NAMES, web.docs, strict=True):
            assert folk.check(doc.text) and name in doc.text.replace(".", " ").replace("?", " ").split()
            assert UNKNOWN not in words.encode(doc.text).ids and (doc.truth is None or doc.truth.who == name)


def test_links_are_friends_and_rewired_ones_are_not():
    """Mutant: the same links again."""
    same, other, told = [], [], []
    for seed in range(20):
        web = pages.web(seed)
        told += [own for page in range(pages.PAGES) for _, own in values(web, page)]
        mixed = web.rewired(seed).links
        assert mixed.shape == web.links.shape and len(np.unique(mixed, axis=0)) == len(mixed)
        same.append((web.circles[web.links[:, 0]] == web.circles[web.links[:, 1]]).mean())
        other.append((web.circles[mixed[:, 0]] == web.circles[mixed[:, 1]]).mean())
    assert 0.7 < np.mean(same) < 0.85 and 0.88 < np.mean(told) < 0.95
    caught(lambda share: share < 0.2, np.mean(other), np.mean(same))
    near = pages.web(3).every()
    assert all(page in near[b] and b != page for page, others in enumerate(near) for b in others)
    assert 4 < np.mean([len(others) for others in near]) < 6


def test_what_a_circle_has_in_common_is_another_in_every_web():
    homes = {web.common[web.circles[9]]["home"] for web in map(pages.web, range(24))}
    assert len(homes) > 6
    assert all((a == b).all() for a, b in zip(pages.web(5).links, pages.web(5).links)), "and the same each time"


def test_only_first_mentions_of_what_a_circle_shares_count():
    """Mutant: every mention."""
    web = pages.web(4)
    own, other = sorted(web.shared(3))[:2]
    words = [own, "the", own, other, NAMES[3]]
    caught(lambda found: found == [True, False, False, True, False], web.firsts(3, words),
           [word in web.shared(3) for word in words])


def test_near_are_two_links_and_fewer_where_links_are_cut():
    web = pages.web(5)
    linked = web.every()
    page = int(np.argmax([len(others) for others in linked]))
    near, first = web.near([page])[0], linked[page][0]
    assert near[:, 0][near[:, 0] >= 0].tolist() == [page, *linked[page]]
    assert all(set(row[row >= 0]) == {row[0], *linked[row[0]]} for row in near if row[0] >= 0)
    assert (web.near([page], 1)[0, :, 1:] == -1).all() and web.near([page], 0)[0].max(1)[1:].max() == -1
    fewer = web.cut(page, [first])
    assert len(fewer.links) == len(web.links) - 1 and page not in fewer.every()[first]
