"""The masked language model as a judge of planted words: each word is judged from all others."""

import numpy as np
import pytest

from models.baselines.mlm.method import adding_up, surprise
from models.checkpoints.store import load
from models.engine.method import prepare
from models.loops.mask import words
from models.loops.mask.passages import passage
from tests.traps import caught


def test_a_word_is_judged_from_all_others(tiny):
    """The suspicion of a word must not change with that word's own look at itself."""
    job = prepare("mlm")
    text = passage(job)
    planted = words.plant(job, text, load("text-electra-1/generator").model)

    def hides_the_word_it_judges(judge):
        (suspicion, _), behind = judge(job.model, text, planted), []
        for at in (3, 10):
            masked = planted.fake.clone()
            masked[0, at] = text.tokenizer.mask_token_id
            share = job.model(masked).logits[0, at].softmax(-1)
            behind.append(float((share.max() / share[planted.fake[0, at]]).log()))
        apart = np.log(suspicion[[3, 10]] / (1 - suspicion[[3, 10]]))
        assert apart[1] - apart[0] == pytest.approx(behind[1] - behind[0], abs=1e-3)

    def in_one_look(model, text, planted):
        share = model(planted.fake).logits[0].log_softmax(-1)
        behind = share.amax(-1) - share.gather(1, planted.fake[0][:, None])[:, 0]
        return adding_up(behind.double().numpy(), len(planted.at)), None

    caught(hides_the_word_it_judges, surprise, in_one_look)


def test_suspicions_add_up_to_what_was_selected(tiny):
    """Mutant: the share of selected words as odds before the text was read, which made nearly every word suspicious."""
    def adds_up(judge):
        odds = np.array([0.0, 0.1, 5.0, 9.0, 30.0])
        found = judge(odds, 2)
        assert found.sum() == pytest.approx(2, abs=1e-6) and (np.diff(found) > 0).all()

    caught(adds_up, adding_up, lambda odds, count: 1 / (1 + (len(odds) - count) / count * np.exp(-odds)))
