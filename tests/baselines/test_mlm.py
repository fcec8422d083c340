"""The masked language model as a judge of planted words: each word is judged from all others."""

import pytest

from models.baselines.mlm.method import surprise
from models.checkpoints.store import load
from models.engine.method import prepare
from models.loops.mask import words
from models.loops.mask.passages import passage
from tests.traps import caught


def odds_of(text, planted, share, word):
    """Suspicion from probabilities [V] of all words and of the one that stands there."""
    odds = len(planted.at) / (text.count - len(planted.at)) * share.amax(-1) / word
    return odds / (1 + odds)


def test_a_word_is_judged_from_all_others(tiny):
    """The suspicion of a word must not change with that word's own look at itself."""
    job = prepare("mlm")
    text = passage(job)
    planted = words.plant(job, text, load("text-electra-1/generator").model)

    def hides_the_word_it_judges(judge):
        suspicion, _ = judge(job.model, text, planted)
        for at in (3, 10):
            masked = planted.fake.clone()
            masked[0, at] = text.tokenizer.mask_token_id
            share = job.model(masked).logits[0, at].softmax(-1)
            assert suspicion[at] == pytest.approx(float(odds_of(text, planted, share, share[planted.fake[0, at]])),
                                                  abs=1e-4)

    def in_one_look(model, text, planted):
        share = model(planted.fake).logits[0].softmax(-1)
        return odds_of(text, planted, share, share.gather(1, planted.fake[0][:, None])[:, 0]).numpy(), None

    caught(hides_the_word_it_judges, surprise, in_one_look)
