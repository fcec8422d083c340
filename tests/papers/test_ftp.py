"""Future token prediction: what its decoder may see, what its words are, and every trap beside its mutants."""
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, embedding, one_hot

from models.engine.method import prepare, run, twin
from models.loops.sample.cached_lm import Reader, greedy
from models.papers.ftp import claim, record
from models.papers.ftp import recipe as recipes
from models.papers.ftp.method import FTP, HEADS, TRUNK
from models.papers.ftp.network import FutureDecoder, FutureReader, FutureStream
from models.trace.subject import SubjectError, from_text
from models.worlds.world import END
from tests.traps import as_, caught, learns_beside, moved, reaches, shifted, work_is_counted

IDS = torch.tensor([[0, *range(30, 41)]])
TEXT = from_text("A happy tale of the sea. Once a brave fox lived by the sea.")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def readers(tiny):
    trunk = tiny.bundle(TRUNK).model
    return [tiny.bundle(name).model.on(trunk) for name in (FTP, HEADS)]


class SeesEverything(FutureDecoder):
    """Mutant: cross-attention to the pseudo-tokens of all vectors."""

    def states(self, z, told, cache=None):
        inputs = torch.cat([self.start.expand(len(z), 1, -1), self.into(told)], 1)
        memory = self.expand(z).view(1, -1, self.width).repeat(len(z), 1, 1)
        return self.out(self.decoder(inputs_embeds=inputs, encoder_hidden_states=memory).last_hidden_state)


def test_the_decoder_sees_one_vector_and_no_other(readers):
    told = embedding(IDS[0, :6].view(2, 3), readers[0].table).repeat(3, 1, 1)  # [6, 3, D]

    def its_own_alone(network) -> bool:
        found = reaches(lambda z: network.states(z[0], told)[None], torch.randn(1, 6, 32))
        return np.array_equal(found, np.eye(6, dtype=bool))

    caught(its_own_alone, readers[0].network, as_(SeesEverything, readers[0].network))


class LooksAhead(FutureReader):
    """Mutant: an encoder in which words see those behind them."""

    def vectors(self, ids, cache=None):
        return self.body(ids, attention_mask=torch.zeros(1, 1, ids.shape[1], ids.shape[1])).last_hidden_state


def test_a_vector_knows_nothing_of_the_words_behind_it(readers):
    def causal(reader) -> bool:
        return np.array_equal(reaches(reader.vectors, IDS, size=400), np.tri(12, dtype=bool))

    for reader in readers:
        caught(causal, reader, LooksAhead(reader.base, reader.network))


def test_a_word_depends_on_those_before_it_and_not_by_independent_heads(readers):
    """The mutant is the control: heads without a decoder (Medusa), shown as the method."""
    def hears(reader) -> bool:
        z = reader.vectors(IDS)[:, -1]
        return np.array_equal(moved(lambda told: reader.logits(z, told), IDS[:, 1:8], 2, size=400), np.arange(8) > 2)

    caught(hears, *readers)


def test_words_written_one_by_one_are_those_of_one_pass_and_their_work_is_counted(readers):
    told = torch.tensor([[7, 8, 9]] * 3)
    for reader in readers:
        z = reader.vectors(IDS)[0, 3:6]

        def write(reader=reader, z=z):
            live, found = FutureStream(reader, z), []
            for word in (7, 8, 9):
                found.append(live.logits)
                live.push([word] * 3)
            return torch.stack([*found, live.logits], 1), live.macs

        assert torch.allclose(write()[0], reader.logits(z, told), atol=1e-3)
        work_is_counted(write, sum(write()[1]))


# --- training ---------------------------------------------------------------------------------------------------------

@pytest.fixture
def arms(tiny):
    def of(kind):
        made = kind(0)
        made.base, made.tok = tiny.fresh(TRUNK).requires_grad_(False), made.world.tokenizer()
        made.rows, made.length, made.learned_at = 2, 40, 6
        return made, made.network.beside(made.base, depth=2, rank=4)
    return of


def test_both_arms_learn_the_same_places_of_the_same_words_and_nothing_else_moves(arms):
    batches = []
    for kind in (recipes.TaleFTP, recipes.TaleHeads):
        made, model = arms(kind)
        batches.append(made.batch(3, 0.5))
        learns_beside(made, model, batches[0], rate=1e-2)
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in ("ids", "weight", "at"))


def test_word_k_is_taught_the_word_k_places_behind():
    """Mutants: what the vector has read itself, or one too far."""
    rows, at = torch.arange(40)[None], torch.tensor([0, 5, 9])
    caught(lambda f: torch.equal(f(rows, at, 4)[1], torch.tensor([6, 7, 8, 9])), recipes.future,
           shifted(recipes.future, 1), shifted(recipes.future, -1))


def test_near_words_count_more_and_another_text_not_at_all(arms, monkeypatch):
    made, model = arms(recipes.TaleFTP)
    monkeypatch.setattr(recipes, "cross_entropy", lambda logits, words, reduction: (words == 77).float())

    def cost(place, end=99) -> float:
        """Of a row in which one word costs something."""
        ids = torch.full((1, 41), 50).index_fill_(1, torch.tensor([place]), 77)
        ids[0, end:end + 1] = END
        return float(made.loss(model, {"ids": ids, "weight": torch.ones(1, 41), "at": torch.tensor([4])}, 0.0)[0])

    assert cost(6) / cost(5) == pytest.approx(0.8) and cost(12) / cost(5) == pytest.approx(0.8 ** 7)
    assert cost(9, end=8) == 0 < cost(7, end=8)


# --- method, records, claim -------------------------------------------------------------------------------------------

def test_the_trunk_alone_writes_its_own_text(tiny):
    source = Reader(prepare("ftp", TEXT).bundle, TEXT, 12, whole=True)
    wrote = run("ftp", TEXT, {"writer": "trunk", "length": 12, "at_once": 5}).traces["sample"].steps[-1].ids
    assert [id for id in wrote[len(source.prompt):].tolist() if id >= 0] == greedy(source, 12)[0]


def test_every_vector_writes_as_many_words_as_asked_and_every_word_has_its_lists(tiny):
    job = prepare("ftp", TEXT, {"length": 10, "at_once": 4})
    trace = run("ftp", TEXT, {"length": 10, "at_once": 4}).traces["sample"]
    assert [len(step.distributions[record.WAYS["decoder"]].positions) for step in trace.steps[1:]] == [4, 4, 2]
    assert twin(job).params == dataclasses.replace(job.params, writer="heads")
    assert list(trace.steps[0].distributions) == ["said 1 word before", *(f"said {k} words before" for k in (2, 4, 8))]
    four = trace.steps[0].distributions["said 4 words before"]
    assert four.positions[0] == 4 and (four.chosen == trace.steps[0].ids[4:-10]).all()
    assert trace.cost.calls == 1 + 3, "the text once by the trunk, then one reading for every vector"
    ids = torch.from_numpy(trace.steps[-1].ids).long()
    nats = torch.nn.functional.cross_entropy(job.model(ids[None]).logits[0, :-1], ids[1:], reduction="none")[-10:]
    assert trace.facts["odd"].value == pytest.approx(float(nats.mean()), abs=1e-3), "of what was written alone"


def test_the_decoder_looks_at_pseudo_tokens_alone(tiny):
    trace = run("ftp", TEXT).traces["attend"]
    rows = np.stack([trace.rows.row(0, 0, query) for query in range(8)])
    assert np.abs(rows[:, 8:].sum(1) - 1).max() < 0.05 and rows[:, :8].max() == 0
    assert len(run("ftp", TEXT, {"writer": "heads"}).traces["attend"].steps) == 2, "the layers that the heads stand on"


def test_what_all_vectors_share_does_not_make_them_alike():
    """Mutant: cosine with the mean left in."""
    z = torch.randn(30, 16, generator=torch.Generator().manual_seed(0))
    caught(lambda measure: float(abs(measure(z + 9).mean() - measure(z).mean())) < 0.01, record.adjacent,
           lambda z: cosine_similarity(z[1:], z[:-1], dim=-1).numpy())


def test_a_text_of_a_few_words_is_refused(tiny):
    with pytest.raises(SubjectError, match="at least 10"):
        run("ftp", from_text("A happy tale."))


def test_hits_are_of_the_word_four_ahead_and_losses_of_the_next():
    ids, at = IDS[0].tolist(), torch.tensor(claim.places(IDS[0].tolist()))
    caught(lambda k: claim.hit(one_hot(IDS[0, at + k], 400).float(), ids) == 100, 4, 3, 1)
    sure = 30 * one_hot(IDS[0], 400).float()
    caught(lambda logits: claim.nats(logits, ids) < 1e-3, sure[1:], sure[:-1])
