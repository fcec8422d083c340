"""Lexinvariant's traps, each with the mutant that the same check rejects, its toy's exact reader and its recipes."""

import copy
from itertools import permutations

import numpy as np
import pytest
import torch

from models.claims import Lab
from models.engine.method import find, follow, prepare, run, twin
from models.papers.lexinvariant import claim, markov, record
from models.papers.lexinvariant.alphabet import COMMON, SYMBOLS, by_counting, encoded, key_of
from models.papers.lexinvariant.network import LexinvariantLM, drawn, tiny
from models.papers.lexinvariant.reading import EARLY, LATE, counting, looked, nats, solved, tallied
from models.papers.lexinvariant.recipe import MarkovCipher, StoryCipher, StoryPlain
from models.trace.subject import SubjectError, from_example, from_text
from tests.traps import as_, caught, learns, only_these_move, reaches

IDS = torch.tensor([[3, 7, 3, 3, 30, 7, 11, 3]])


def table() -> torch.Tensor:
    return torch.randn(1, 37, 40, generator=torch.Generator().manual_seed(0))


# --- the network ----------------------------------------------------------------------------------------------------

class Biased(LexinvariantLM):
    def logits(self, state, table):
        return super().logits(state, table) + torch.arange(self.vocab_size) / 10


class OwnHead(LexinvariantLM):
    def logits(self, state, table):
        return super().logits(state, torch.ones_like(table) * torch.arange(self.vocab_size)[:, None] / 10)


class OwnTable(LexinvariantLM):
    def states(self, ids, table):
        return super().states(ids, torch.randn(table.shape, generator=torch.Generator().manual_seed(4)))


class NewEverywhere(LexinvariantLM):
    def states(self, ids, table):
        wide = table.expand(ids.shape[1], -1, -1) + torch.randn(ids.shape[1], 1, 40)  # another vector at every place
        return super().states(torch.arange(ids.shape[1])[None], wide[torch.arange(ids.shape[1]), ids[0]][None])


def test_a_cipher_makes_no_difference():
    """Symbols and their vectors renamed together: what is expected is renamed, too, and nothing else. Mutants: a bias
    for each symbol, a learned output head, a learned table at the input."""
    net, key = tiny(37), torch.from_numpy(key_of("shuffled", 37, np.random.default_rng(0)))

    def invariant(net) -> bool:
        renamed = torch.empty_like(table())
        renamed[:, key] = table()
        return torch.allclose(net(key[IDS], renamed)[..., key], net(IDS, table()), atol=1e-5)

    caught(invariant, net, *(as_(mutant, net) for mutant in (Biased, OwnHead, OwnTable)))


def test_a_symbol_has_one_vector_in_a_text():
    """The same symbol throughout: all places are alike. Mutant: vectors drawn for every place."""
    net = tiny(37)

    def alike(net) -> bool:
        found = net(torch.full((1, 6), 9), table())
        return torch.allclose(found, found[:, :1].expand_as(found), atol=1e-5)

    caught(alike, net, as_(NewEverywhere, net))


def test_it_looks_back_only():
    net = tiny(37)
    assert np.array_equal(reaches(lambda ids: net(ids, table()), IDS, size=37), np.tri(8))


def test_nothing_but_the_ordinary_one_has_a_table():
    assert tiny(37).embed is None and not any("embed" in name for name, _ in tiny(37).named_parameters())
    plain = tiny(37, True)
    assert torch.equal(plain.vectors(2, torch.Generator())[1], plain.embed)


def test_probes_only_read():
    """Mutant: states that are not cut off, so that probes teach the network which letter is which."""
    class Teaching(LexinvariantLM):
        def deciphered(self, states):
            return torch.stack([state @ self.probe_in[0] for state in states])

    def reads(net) -> None:
        only_these_move(net, lambda net: net.deciphered(net.states(IDS, table())).square().sum(),
                        ("probe_in", "probe_out"))

    net = tiny(37)
    caught(reads, net, as_(Teaching, net))


# --- the recipes ----------------------------------------------------------------------------------------------------

@pytest.fixture
def recipe():
    made = StoryCipher()
    made.train = made.val = np.random.default_rng(0).integers(0, 37, 20_000).astype(np.uint8)
    made.length, made.short, made.tokens = 64, 32, 256
    return made


def test_vectors_are_fresh_in_every_row_and_every_step(recipe):
    """So no probe has seen a cipher that it is asked about. Mutant: one table for the whole run, which is nothing but
    a frozen random embedding."""
    def fresh(recipe) -> bool:
        net = tiny(37)
        net.vectors = lambda count, dice: used.append(recipe.vectors(count, dice)) or used[-1]
        used = []
        for step in range(3):
            torch.manual_seed(step)
            recipe.loss(net, recipe.batch(step, 1.0), 1.0)
        tables = [one.numpy().tobytes() for some in used for one in some]
        return len(set(tables)) == len(tables) == 3 * len(used[0])

    recipe.vectors = lambda count, dice: drawn(count, 37, 40, dice)
    other = copy.copy(recipe)
    other.vectors = lambda count, dice: drawn(count, 37, 40, torch.Generator().manual_seed(0))
    caught(fresh, recipe, other)


def test_vectors_are_orthogonal_and_as_long_as_random_ones():
    found = drawn(3, 37, 40, torch.Generator().manual_seed(0))
    torch.testing.assert_close(found @ found.transpose(1, 2), 40 * torch.eye(37).expand(3, -1, -1), atol=1e-3, rtol=0)


def test_only_the_ordinary_one_is_built_with_a_table(recipe):
    assert StoryCipher().build().embed is None and MarkovCipher().build().embed is None
    assert StoryPlain().build().embed is not None


def test_it_begins_as_one_who_counts_what_followed():
    """Before a step of training it goes on with what followed before, whatever the vectors."""
    torch.manual_seed(0)
    ids, net = torch.tensor([[9, 4, 2, 7, 5, 30, 12] * 6]), LexinvariantLM(37)
    said = net(ids, net.vectors(1, torch.Generator().manual_seed(0)))[0, 14:-1].argmax(-1)
    assert (said == ids[0, 15:]).float().mean() > 0.5  # one in seven by chance


def test_the_recipe_learns(recipe):
    model, batch = LexinvariantLM(37, 128, 2, 2, 64, 40, 16, True), recipe.batch(0, 0.9)
    learns(model, lambda model: recipe.loss(model, batch, 0.9)[0], steps=12, rate=1e-2, below=0.9)
    rows = [recipe.batch(0, progress)["ids"].shape for progress in (0.2, 0.9)]
    assert rows == [(8, 33), (4, 65)]


# --- the toy's exact reader -----------------------------------------------------------------------------------------

def test_the_exact_reader_weighs_all_ciphers():
    """What comes next is p(text and it) / p(text), both means over all 120 ciphers. Mutants: all ciphers alike, and the
    one that changes nothing."""
    text = [0, 3, 1, 0, 3]

    def chance(ids) -> float:
        found = []
        for cipher in permutations(range(5)):
            real = [cipher[i] for i in ids]
            steps = [markov.TABLE[a, b] for a, b in zip(real, real[1:])]
            found.append(markov.stationary()[real[0]] * np.prod(steps))
        return float(np.mean(found))

    wanted = np.array([chance([*text, i]) for i in range(5)]) / chance(text)

    def right(found) -> bool:
        return np.allclose(found, wanted)

    rules = markov.TABLE[np.argsort(markov.CIPHERS, 1)[:, :, None], np.argsort(markov.CIPHERS, 1)[:, None]]
    caught(right, markov.exact(np.array(text))[1][-1], rules[:, text[-1]].mean(0), markov.TABLE[text[-1]])


def test_chains_follow_the_table():
    found = markov.chains(np.random.default_rng(0), 2000, 50)
    counts = np.zeros((5, 5))
    np.add.at(counts, (found[:, :-1].ravel(), found[:, 1:].ravel()), 1)
    assert np.abs(counts / counts.sum(1, keepdims=True) - markov.TABLE).max() < 0.02
    weight, _ = markov.exact(found[0])
    assert np.array_equal(markov.CIPHERS[weight[-1].argmax()], np.arange(5)) and np.allclose(weight.sum(1), 1)


# --- texts, ciphers, votes ------------------------------------------------------------------------------------------

def test_a_cipher_renames_letters_and_leaves_marks():
    assert encoded("Ab, É!").tolist() == [SYMBOLS.index(char) for char in "ab, !"]
    for kind in ("shuffled", "shifted", "none"):
        key = key_of(kind, 37, np.random.default_rng(1))
        assert sorted(key) == list(range(37)) and np.array_equal(key[26:], np.arange(26, 37))
    assert sorted(COMMON) == sorted(SYMBOLS)


def test_lists_are_read_back_into_real_letters():
    """Mutant: the key turned the wrong way round."""
    key = key_of("shuffled", 37, np.random.default_rng(2))
    text, real = record.CipherText(np.array([4, 9]), key), torch.randn(2, 37)
    written = torch.empty(2, 37)
    written[:, torch.from_numpy(key)] = real
    caught(lambda found: torch.equal(found, real), text.opened(written), written[:, np.argsort(key)])


def test_surprise_is_of_the_next_character_and_counted_from_one():
    net, ids = tiny(37), np.random.default_rng(0).integers(0, 37, (2, 512))
    found = nats(looked(net, ids, torch.Generator().manual_seed(0))[0], ids)
    logits = net(torch.from_numpy(ids), net.vectors(2, torch.Generator().manual_seed(0)))
    wanted = torch.nn.functional.cross_entropy(logits[0, :-1], torch.from_numpy(ids[0, 1:]), reduction="none")
    np.testing.assert_allclose(found[0], wanted.detach().numpy(), atol=1e-4)
    places = np.arange(2, 513)
    assert places[EARLY][[0, -1]].tolist() == [16, 64] and places[LATE][[0, -1]].tolist() == [384, 512]


def test_votes_are_those_so_far_and_counting_needs_none():
    said = torch.full((4, 37), -9.0)
    said[[0, 1, 2, 3], [5, 8, 5, 5]] = 9.0
    votes = tallied(said, np.array([2, 2, 6, 2]))
    assert votes[1, 2].argmax() in (5, 8) and votes[3, 2].argmax() == 5 and not votes[1, 6].any()
    key = np.arange(37)
    key[[5, 2]] = key[[2, 5]]
    assert solved(votes[1] * 0 + np.eye(37), np.eye(37)[2] + np.eye(37)[7], np.arange(37)) == 1
    assert solved(np.eye(37), np.eye(37)[2] + np.eye(37)[7], key) == 0.5
    assert by_counting(np.array([1, 5, 0]))[1] == SYMBOLS.index(next(char for char in COMMON if char in SYMBOLS[:3]))
    found = counting(np.array([[1, 1, 1, 0]]), 2)
    np.testing.assert_allclose(np.exp(-found[0]), [1.5 / 2, 2.5 / 3, 0.5 / 4])


def test_heads_are_split_by_what_stands_where():
    """a b c a: from the last place the first is its symbol, the second followed it."""
    found = record.relations(np.array([0, 1, 2, 0]))
    assert [np.flatnonzero(kind[3]).tolist() for kind in found] == [[0], [1], [2], [3]]
    assert not (found & ~np.tri(4, dtype=bool)).any()


# --- method, records, claim -----------------------------------------------------------------------------------------

def test_the_ordinary_network_stands_beside(tiny):
    job = prepare("lexinvariant")
    assert (find("lexinvariant").card.arxiv, twin(job).bundle.name) == ("2305.16349", "story-plain-1")
    *_, mine = follow(job)
    steps = mine.traces["sample"].steps
    assert len(steps) == record.PIECES and len(steps[0].distributions) == 4
    assert len(steps[-1].where("accepted", "visible")) == 462 and len(steps[0].where("context")) > 400
    *_, other = follow(twin(prepare("lexinvariant", from_text("the little princess opened the door"))))
    assert len(other.traces["sample"].steps[-1].distributions) == 3


def test_the_first_piece_waits_for_one_draw_alone(tiny, monkeypatch):
    read, states = [], LexinvariantLM.states
    monkeypatch.setattr(LexinvariantLM, "states", lambda net, ids, on: read.append(len(ids)) or states(net, ids, on))
    steps = follow(prepare("lexinvariant"))
    next(steps)
    assert read == [1, 1, 1]  # this network, and the ordinary one without and under the cipher
    list(steps)
    assert read[3] == record.DRAWS - 1


def test_the_toy_stands_beside_the_exact_reader(tiny):
    chain = from_example(find("lexinvariant").examples[-1], "text")
    trace = run("lexinvariant", chain, checkpoint="markov-lexinvariant-1").traces["sample"]
    assert trace.facts["apart"].value > 0 and any("120 ciphers" in chart.title for chart in trace.charts)
    with pytest.raises(SubjectError, match="a to e"):
        run("lexinvariant", from_text("a fox and a hen in a deep green wood"), checkpoint="markov-lexinvariant-1")


def test_a_text_without_a_letter_has_nothing_to_decipher(tiny):
    trace = run("lexinvariant", from_text("!?" * 20)).traces["sample"]
    assert trace.facts["solved"].value == 0 and "nan" not in trace.sentence


@pytest.mark.parametrize("text, why", [("room 12, please, and a bed for the night", "leave out"),
                                       ("a", "32 to 512"), ("a " * 300, "32 to 512")])
def test_texts_that_it_cannot_read_are_refused(tiny, text, why):
    with pytest.raises(SubjectError, match=why):
        run("lexinvariant", from_text(text))


def test_the_claim_measures_in_its_quick_form(tiny):
    found = claim.measure(Lab(quick=True))
    assert "gap to the ordinary network, at 384-512 over at 16-64" in {row.name for row in found.rows}
    assert len(found.controls) == 3  # one of them: it deciphers more than counting alone
    for text, answer in claim.tasks(4):
        shots = [one.split("-") for one in (text + answer).split(", ")]
        if len(answer) == 1:
            assert dict(shots[:-1])[shots[-1][0]] == answer
        else:
            order = [shots[0][0].index(char) for char in shots[0][1]]
            assert all("".join(a[i] for i in order) == b for a, b in shots)
