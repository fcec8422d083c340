"""Judging networks of the tales: what stands behind a prompt, padded or not, and what a network writes there."""
import numpy as np
import torch

from models.claims.tale_lab import (
    asked_behind,
    encoded,
    foreseen,
    held_out_texts,
    nats,
    next_words,
    pooled,
    read,
    right,
    schooled,
    student,
    taught,
    written,
)
from models.worlds import tales
from models.worlds.tales import facts
from models.worlds.world import END
from tests import tiny
from tests.traps import caught


def test_a_text_reads_the_same_beside_a_longer_one():
    model, words = tiny.tale()
    rows = [[END, *encoded(words, text)] for text in ("Mia lives in", "The ball is in the basket. Where is")]
    alone = [read(model, [row])[0] for row in rows]
    for mine, other in zip(read(model, rows), alone, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-4, rtol=1e-4)


def test_the_likeliest_word_behind_a_prompt_is_judged():
    model, words = tiny.tale()
    asked = facts.clozes()[:3]
    logits = next_words(model, words, asked)
    told = torch.full_like(logits, 0.0)
    told[range(3), [encoded(words, one.right[0])[0] for one in asked]] = 9.0
    caught(lambda found: right(words, found, asked).all(), told, logits, told.roll(1, 0))


def test_nats_are_per_word_and_count_the_end():
    model, words = tiny.tale()
    ids = torch.tensor([[END, *encoded(words, "Mia sleeps."), END]])
    with torch.no_grad():
        wanted = torch.nn.functional.cross_entropy(model(ids).logits[0, :-1], ids[0, 1:])
    assert np.isclose(nats(model, words, ["Mia sleeps."])[0], float(wanted), atol=1e-4)
    assert all(tales.check(text) for text in held_out_texts(5))


def test_what_is_written_is_the_greedy_text_of_the_library():
    model, words = tiny.tale()
    prompts = ["Mia lives in the", "Tom", "Who is Anna?"]

    def library(prompt: str) -> str:
        ids = torch.tensor([[END, *encoded(words, prompt)]])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False)
        return words.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    caught(lambda found: found == [library(one) for one in prompts], written(model, words, prompts, longest=6),
           written(model, words, prompts[::-1], longest=6))
    draws = [written(model, words, prompts, longest=6, temperature=2.0, seed=seed) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_a_few_steps_teach_and_every_look_comes():
    model, words = tiny.tale()
    row, seen = [END, *encoded(words, "Mia sleeps."), END], []
    before = nats(model, words, ["Mia sleeps."])[0]
    taught(model, [row], 5, seen.append, rate=3e-3)
    assert seen == [0, 1, 2, 3, 4, 5] and nats(model, words, ["Mia sleeps."])[0] < before


def test_states_are_averaged_over_words_alone_and_layers_above_are_not_run():
    model, _ = tiny.tale()
    rows = [[7, 8, 9], [7, 8, 9, 10, 11, 12]]
    with torch.no_grad():
        states = [model.model(torch.tensor([row]), output_hidden_states=True).hidden_states[1][0] for row in rows]
    wanted = torch.stack([model.model.norm(one).mean(0) for one in states]).detach()
    caught(lambda found: torch.allclose(found, wanted, atol=1e-4), pooled(model, rows, 1), pooled(model, rows, 2),
           pooled(model, [[*rows[0], 12, 12, 12], rows[1]], 1))
    assert len(model.model.layers) == 3


def test_a_student_is_taught_as_a_copy_and_says_the_next_words():
    known, other = [20, 21, 22, 23, 24], [20, 30, 31, 32, 33]
    pupil = student(64, [known], 40, width=16)
    after = schooled(pupil, [other], 60, 1e-2, seed=1)
    caught(lambda net: foreseen(net, [other], 1) == 1.0, after, pupil)
    assert foreseen(pupil, [known], 1) > 0.9, "the pupil itself has read nothing more"
    half = [*other[:3], 50, 51]
    caught(lambda told: foreseen(after, [half], told) == 0.0, 3, 1)


def test_questions_behind_a_text_see_it_and_not_each_other():
    """Mutants: the last word of the text, and a question that follows another."""
    model, words = tiny.tale()
    texts = ["You can meet Ben in the mill.", "Mia carries the ring. Mia knows the song of sun. Who carries it? Mia."]
    asked = [["Where does Ben live? In the", "What does Ben carry? The"], ["Who is a friend of Mia?", "Who lives"]]

    def behind(text: str, question: str):
        ids = [END, *encoded(words, f"{text} {question}")]
        return model.model(torch.tensor([ids])).last_hidden_state[0, -1]
    for text, some, (ids, states, ends) in zip(texts, asked, asked_behind(model, words, texts, asked), strict=True):
        assert ids == [END, *encoded(words, text)] and len(states) == len(ids)
        right_ones = torch.stack([behind(text, one) for one in some])
        caught(lambda found, one=right_ones: torch.allclose(found, one, atol=1e-4), ends, states[-1].expand(2, -1),
               torch.stack([right_ones[0], behind(text, " ".join(some))]))
