"""Words that are put in, beside a network's own: who is over leaves the batch, and the others go on as if alone."""
import numpy as np
import pytest
import torch

from models.loops.sample.cached_lm import Stream
from models.loops.sample.put_words import PutText, written_side_by_side
from tests.tiny import bundle
from tests.traps import caught

PROMPTS = ("@node #0 problem a: 12 + 9 b: 3 * 9 c: a - b ;", "@node #0 problem a: 1 + 2 b: a + 3 c: b + 4 ;")
pytestmark = pytest.mark.usefixtures("one_thread")


class Short(PutText):
    """So many words, the likeliest; at one place another is put."""

    heat, most, at = 0.0, 12, 99

    @property
    def over(self):
        return super().over or len(self.words) >= self.most

    def put(self, scores, ids):
        return "fine" if len(self.words) == self.at else None


class Three(Short):
    most = 3


class Changed(Short):
    at = 2


def told(*kinds, prompts=PROMPTS):
    made = [kind() for kind in kinds]
    network = bundle("tree-dot-1")
    with torch.inference_mode():
        written_side_by_side(Stream(network.model), network.tokenizer, prompts[: len(kinds)], made, torch.Generator())
    return made


def test_texts_side_by_side_are_those_that_stand_alone():
    alone, (short, beside) = told(Short, prompts=PROMPTS[1:])[0], told(Three, Short)
    assert beside.words == alone.words and len(short.words) == 3 and len(beside.words) == 12
    for text in (short, beside):
        assert len(text.scores) == len(text.costs) == len(text.words)
    assert np.allclose(beside.scores[-1], alone.scores[-1], atol=1e-4)


def test_a_word_that_is_put_is_what_the_network_goes_on_from():
    plain, changed = told(Short)[0], told(Changed)[0]

    def goes_on(text):
        return text.words[:3] == [*plain.words[:2], "fine"] and not torch.allclose(text.scores[3], plain.scores[3])
    caught(goes_on, changed, plain)
    assert torch.allclose(changed.scores[2], plain.scores[2]), "its scores are those before it was put"
