"""MEAP: holes in the input and nothing else; every trap of the paper beside its mutants."""
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.backbones.text import read
from models.engine.method import prepare, run, twin
from models.loops.prune.loop import roles
from models.papers.meap import record
from models.papers.meap.haystack import chance, haystack
from models.papers.meap.recipe import MaskEnhanced, NextToken
from models.papers.meap.rule import punched
from models.trace.subject import SubjectError, from_text
from models.worlds.retrieval import truth
from tests import tiny as stand_ins
from tests.traps import caught, dice, reaches

BLANK = 1
NOTES = ("blue otter: 5820\nold owl: 3147\nquiet fox: 9064\n\n"
         "Question: What is the number of the quiet fox? Answer:")


def prepared(kind):
    made = kind()
    made.tok = stand_ins.text_tokenizer().backend_tokenizer
    made.train = np.random.default_rng(0).integers(3, 250, 20_000)
    made.filler = [f"The hen lived near mill {i}." for i in range(200)]
    return made


def test_holes_are_so_many_different_ones_of_each_row_and_never_the_last():
    ids = torch.arange(3, 403).repeat(4, 1)

    def holds(rule) -> bool:
        holes = torch.stack([rule(ids, 0.15, BLANK, dice(seed)) != ids for seed in range(40)])  # [40, B, L]
        return (bool((holes.sum(-1) == 60).all()) and not bool(holes[..., -1].any())
                and not torch.equal(holes[:, 0], holes[:, 1]))

    def by_chance(ids, share, blank, generator):
        return torch.where(torch.rand(ids.shape, generator=generator) < share, blank, ids)

    def everywhere(ids, share, blank, generator):
        return ids.scatter(1, torch.rand(ids.shape, generator=generator).topk(60).indices, blank)

    def one_set(ids, share, blank, generator):
        return punched(ids[:1], share, blank, generator).where(punched(ids[:1], share, blank, generator) == BLANK, ids)
    caught(holds, punched, by_chance, everywhere, one_set)
    assert int((punched(ids[:, :5], 0.01, BLANK, dice(0)) == BLANK).sum()) == 4  # at least one in each row


def test_both_arms_read_the_same_batches_and_both_know_the_hole():
    """[MASK] is a noise key to the control, so that probes do not feed it an untrained embedding."""
    meap, plain = (prepared(kind).batch(3, 0.5) for kind in (MaskEnhanced, NextToken))
    caught(lambda other: torch.equal(other["ids"], meap["ids"]) and torch.equal(other["answer"], meap["answer"]),
           plain, prepared(NextToken).batch(4, 0.5))
    whole = type("Whole", (NextToken,), {"batch": lambda self, *at: {
        **super(NextToken, self).batch(*at), "seen": super(NextToken, self).batch(*at)["ids"][:, :-1]}})
    caught(lambda kind: bool((prepared(kind).batch(3, 0.5)["seen"] == BLANK).any(1).all()), NextToken, whole)
    assert (meap["seen"] == BLANK).sum(1).tolist() == [76] * 8 and (plain["seen"] == BLANK).sum(1).tolist() == [1] * 8


def test_the_loss_is_on_every_place_and_its_targets_have_no_holes():
    recipe, model = prepared(MaskEnhanced), stand_ins.bundle("text-meap-2").model
    batch = recipe.batch(0, 0.2)
    ids, seen, answer = batch["ids"], batch["seen"], batch["answer"][2:, 1:]
    with torch.no_grad():
        logits = model(seen).logits
        each = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(8, -1)
        wanted = float(each[:2].mean() + each[2:][answer].mean())

    def only_holes(model, batch, progress):
        hidden = (seen == BLANK)[:2]
        return each[:2][hidden].mean() + each[2:][answer].mean(), {}

    def masked_targets(model, batch, progress):
        targets = torch.cat([seen, ids[:, -1:]], 1)
        return recipe.loss(model, {**batch, "ids": targets, "seen": seen}, progress)

    def whole_input(model, batch, progress):
        return recipe.loss(model, {key: batch[key] for key in ("ids", "answer")}, progress)
    caught(lambda loss: float(loss(model, batch, 0.2)[0]) == pytest.approx(wanted, abs=1e-4), recipe.loss, only_holes,
           masked_targets, whole_input)


def test_attention_stays_causal_and_a_hole_is_a_key_like_any_other(tiny):
    job = prepare("meap", from_text(NOTES))
    ids = punched(torch.tensor([job.tokenizer.encode(NOTES)[:14]]), 0.3, BLANK, dice(0))
    size = len(job.tokenizer)

    def without_holes(some):
        return job.model(some, attention_mask=(ids != BLANK).long(), use_cache=False).logits[:, :-1]

    def both_ways(some):
        return job.model(some.flip(1), use_cache=False).logits.flip(1)[:, :-1]
    caught(lambda f: np.array_equal(reaches(f, ids, size=size, atol=1e-5), np.tri(13, 14, dtype=bool)),
           lambda some: record.reading(job, some)[None], without_holes, both_ways)


def test_the_first_token_is_counted_apart_wherever_the_answer_stands():
    hay = haystack(NOTES).moved(0.0, 9)
    text = read(stand_ins.text_tokenizer(), hay.text)

    def sound(kinds) -> bool:
        each = np.sum([*kinds.values()], 0)
        return bool((each == 1).all()) and int(kinds[record.KEYS[2]].sum()) == 1 and not kinds[record.KEYS[0]][0]
    kinds = record.groups(roles(hay.text, text))
    merged = {**kinds, record.KEYS[0]: kinds[record.KEYS[0]] | kinds[record.KEYS[2]]}
    caught(sound, kinds, merged, {**merged, record.KEYS[2]: np.zeros(len(text), bool)})
    read_back = "".join(label for label, inside in zip(text.labels, kinds[record.KEYS[0]]) if inside)
    assert hay.needle.endswith(read_back.strip()) and "9064" in read_back and "3147" not in read_back


@pytest.mark.parametrize("depth, first", [(0.0, "quiet fox"), (1.0, "blue otter"), (0.5, "blue otter")])
def test_a_needle_is_moved_and_nothing_else_changes(depth, first):
    found = haystack(NOTES).moved(depth, 9)
    lines = NOTES.split("\n\n")[0].split("\n")
    assert found.text.startswith(first) and sorted(found.text.split("\n\n")[0].split("\n")) == sorted(lines)
    caught(lambda hay: truth(hay.text)[0] == hay.answer == "9064", found, replace(found, needle="quiet fox: 1111"))
    assert haystack(NOTES).text == NOTES and found.moved(1.0, 1).text.count("\n") == 3


def test_texts_without_an_answer_are_refused():
    for text in ("Once upon a time.", NOTES.replace("quiet fox:", "quiet hen:")):
        with pytest.raises(SubjectError, match="ends in one of the three questions"):
            haystack(text)


def test_exact_is_what_greedy_decoding_writes():
    bundle = stand_ins.bundle("text-meap-2")
    prompt = bundle.tokenizer.encode(NOTES)
    ids = torch.tensor([prompt])
    said = bundle.model.generate(ids, max_new_tokens=4, do_sample=False, attention_mask=torch.ones_like(ids),
                                 eos_token_id=None, pad_token_id=2)[0, ids.shape[1] :].tolist()
    caught(lambda answer: chance(bundle.model, prompt, answer)[1], said, [said[0], said[1], said[2], said[3] + 1],
           [said[0] + 1, *said[1:]])
    logp = bundle.model(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    wanted = logp[range(4), said].sum().exp()
    assert chance(bundle.model, prompt, said)[0] == pytest.approx(float(wanted.detach()), rel=1e-3)


def test_concentration_is_measured_from_even_to_one():
    one, even = np.eye(8)[0], np.full(8, 1 / 8)
    caught(lambda f: f(even) == pytest.approx(0.0) and f(one) == pytest.approx(1 - 1 / 8), record.gini,
           lambda share: share.max(-1), lambda share: -record.gini(share))


def test_only_the_training_view_has_holes_and_the_twin_reads_the_same_prompt(tiny):
    some, none = (run("meap", from_text(NOTES), {"share": share}).traces for share in (0.4, 0.05))
    np.testing.assert_array_equal(some["attend"].heads.entropy, none["attend"].heads.entropy)
    states = [step.state for step in some["mask"].steps]
    assert len(np.unique(states[0])) == 1 and len(np.unique(states[1])) == 2
    loss = some["mask"].steps[2].fields["loss"]
    caught(lambda field: bool(np.isfinite(field[1:].astype(float)).all()), loss,
           np.where(states[1] == states[1].max(), loss, np.nan))
    job = prepare("meap", from_text(NOTES))
    assert twin(job).subject == job.subject and twin(job).params == job.params
