"""SentenceVAE: who sees which clause, what is read again, what is charged, and every trap beside its mutants."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from models.engine.method import prepare, run
from models.loops.sample.cached_lm import Reader, greedy
from models.papers.sentencevae import claim, method, record
from models.papers.sentencevae import recipe as recipes
from models.papers.sentencevae.network import ClauseStream, cut, rows_of, targets
from models.trace.subject import from_text
from models.worlds.world import END, PAD
from tests.traps import caught, learns_beside, multiply_adds, reaches

CLAUSES = [[30, 31, 32], [33, 34], [35, 36, 37, 38], [39]]
ROWS = rows_of(CLAUSES)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def readers(tiny):
    trunk = tiny.bundle(method.TRUNK).model
    return [tiny.bundle(name).model.on(trunk) for name in (method.CODER, method.SLLM)]


def test_clauses_end_behind_marks_with_their_quotes_and_after_24_words():
    words = ("He", " said", ":", ' "', "No", "!", '"', *["so"] * 30)
    caught(lambda f: list(map(len, f(words))) == [4, 3, 24, 6], cut, lambda words: [range(3), range(3, 37)])


def test_a_vector_knows_nothing_of_the_clauses_behind_it_and_is_all_of_its_own(readers):
    """Mutant: no mask between clauses, so that a vector knows the clause that it is to predict."""
    (reader, lm), e = readers, readers[0].encode(ROWS)
    caught(lambda predict: np.array_equal(reaches(predict, torch.randn(1, 5, 32)), np.tri(5, dtype=bool)), lm.predict,
           lambda e: lm.body(inputs_embeds=e, attention_mask=torch.zeros(1, 1, 5, 5)).last_hidden_state)
    assert torch.equal(e, reader.encode(ROWS)), "a VAE in name only"
    assert torch.allclose(e[1:2], reader.encode(ROWS[1:2, :3]), atol=1e-5), "padding counts for nothing"
    assert np.array_equal(reaches(lambda ids: reader.logits(e[:1], ids), ROWS[2:3], size=400), np.tri(5, dtype=bool))
    assert np.array_equal(reaches(lambda z: reader.logits(z[0], ROWS)[None], e[None]), np.eye(4, dtype=bool))


def test_what_was_written_is_encoded_anew_and_all_work_is_counted(readers, monkeypatch):
    """Mutants: the predicted vector is fed back as the next input; the decoder's passes cost nothing."""
    reader, predict, inputs, z = readers[1], readers[1].predict, [], []
    job = SimpleNamespace(params=method.Params(length=60, temperature=1.0), generator=torch.Generator)
    monkeypatch.setattr(reader.network.another_head, "forward", lambda z: torch.tensor([[0.0, 9.0]]))

    def written(back: bool = False):
        def spied(e, cache):
            inputs.append(z[-1] if back and z else e)
            z.append(predict(inputs[-1], cache)[:, -1:])
            return z[-1]
        inputs.clear(), z.clear()
        monkeypatch.setattr(reader, "predict", spied)
        return list(method.by_clauses(job, reader, CLAUSES))

    def encoded_anew(back: bool) -> bool:
        said = [[id for id in trial.ids if id != END] for trial, *_ in written(back)]
        return all(torch.allclose(e, reader.encode(rows_of([ids])), atol=1e-5) for e, ids in zip(inputs[1:], said))

    caught(encoded_anew, False, True)
    passes = written()
    assert [held for *_, held, _ in passes] == list(range(4, 4 + len(passes))) != [4]
    reader.network.encoder.train()  # its plain path, which can be counted
    counted, decoded = multiply_adds(written), reader.work(0, sum(len(trial.ids) for trial, *_ in passes), len(passes))
    total = sum(cost.macs for _, cost, *_ in passes)
    caught(lambda macs: abs(macs / counted - 1) < 0.1, total, total - decoded)


def test_ends_and_stops_are_charged_and_words_one_by_one_are_those_of_one_pass(readers, tiny):
    """Mutants: words alone; a head that is asked one clause too early; a text's end that is free."""
    reader, words = readers[1], 0.0
    z = reader.predict(reader.encode(ROWS)[None])[0]
    for n in (1, 2, 3):
        live = ClauseStream(reader, z[n - 1 : n].detach())
        for id in [*CLAUSES[n], END]:
            words += cross_entropy(live.logits, torch.tensor([id]))
            live.push([id])
    head = reader.network.another_head(z)
    stops = [cross_entropy(head, torch.tensor(said), reduction="sum") for said in ([1, 1, 1, 0], [1, 1, 0, 1])]
    caught(lambda cost: torch.allclose(cost, reader.story_nats(ROWS), atol=1e-3), words + stops[0], words,
           words + stops[1])
    assert targets(ROWS)[1].tolist() == [33, 34, END, PAD, PAD]
    model, ids = tiny.bundle(method.TRUNK).model, torch.tensor([END, *sum(CLAUSES, []), END])
    nats = cross_entropy(model(ids[None]).logits[0, :-1], ids[1:], reduction="none")
    caught(lambda some: torch.allclose(claim.token_nats(model, ROWS), some.sum(), atol=1e-3), nats[3:], nats[3:-1])


def test_each_stage_learns_by_the_focal_loss_and_the_trunk_stays(tiny):
    for made in (recipes.TaleClause(0), recipes.TaleSLLM(0)):
        made.base, made.tok, made.rows = tiny.fresh(method.TRUNK).requires_grad_(False), made.world.tokenizer(), 2
        learns_beside(made, tiny.fresh(made.name), made.batch(3, 0.5), rate=1e-2)
    p = torch.tensor([0.2, 0.1, 0.7])
    caught(lambda f: abs(float(f(p.log().expand(2, 3), torch.tensor([1, PAD])) + 0.9 ** 2 * p[1].log())) < 1e-5,
           recipes.focal, lambda logits, word: cross_entropy(logits[:1], word[:1]))


def test_clauses_collapse_into_their_marks_and_each_has_its_own_words(tiny):
    text = from_text("A happy tale of the sea. Once a brave fox lived by the sea, and it was glad.")
    traces, job = run("sentencevae", text).traces, prepare("sentencevae", text)
    last = traces["prune"].steps[-1]
    assert [last.where(name).size for name in ("merged", "dropped")] == [3, 18]
    assert [len(step.edges["sum"].key) for step in traces["prune"].steps[1:]] == [7, 9, 5]
    (said,) = traces["sample"].steps[0].distributions.values()
    caught(lambda ids: np.array_equal(said.chosen, ids), last.ids[8:], last.ids[7:-1])
    caught(lambda job: torch.equal(record.disturbed(job, ROWS.float()), ROWS.float()), job,
           *(prepare("sentencevae", text, {name: 1.0}) for name in ("noise", "blend")))
    wrote = run("sentencevae", text, {"writer": "words"}).traces["unmask"]
    alone, _ = greedy(Reader(job.bundle, text, 36, whole=True), 36)
    assert wrote.steps[-1].ids[22:].tolist() == alone and wrote.facts["places"].value == 0
