"""Words or vectors between agents: what a message holds, who sees what, what learns; traps beside their mutants."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.claims.harness import Budget, Metric, better
from models.claims.judging import uneven
from models.engine.method import run
from models.papers.agent_language import recipe as recipes
from models.papers.agent_language import record
from models.papers.agent_language.method import METHOD, channel
from models.papers.agent_language.network import StateChannel
from models.papers.agent_language.telling import ASK, CHANNELS, COLOURED, END, PLACED, SAID, TOLD, Channel, words
from models.trace.subject import SubjectError, from_text
from models.worlds import discs
from tests.traps import caught, only_these_move

BOARDS = discs.boards(3, 4)
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def base(tiny):
    return tiny.fresh("algo-discs-1").eval().requires_grad_(False)


def test_the_card_says_whose_the_argument_is_and_whose_the_experiment():
    caught(lambda card: all(said in card.summary + card.unverified for said in (
        "argues", "no algorithm and no experiment", "Our test", "our construction")), METHOD.card, replace(
            METHOD.card, summary="The paper sends vectors between agents."))


def test_four_bits_are_sixteen_messages_as_a_word_is():
    """Mutants: a mean of the codebook is handed over, and a whole vector."""
    code, leaky, states = StateChannel(32, 4), StateChannel(32, 4), torch.randn(400, 32)
    leaky.forward = lambda states: leaky.out(leaky.into(states).softmax(-1))
    caught(lambda one: len(one(states).detach().unique(dim=0)) <= len(discs.SAID), code, leaky, StateChannel(32))


def test_bits_are_counted_as_they_are_sent_and_no_vector_is_judged_at_equal_bits(base):
    """Mutant: 12,288 bits beside 16, and the difference called meaning."""
    sent = {name: record.pipe(name, words(base).chain(BOARDS, 4, 1)[0]) for name in CHANNELS}
    assert list(sent.values()) == [16, 4 * 16 * 32, 4 * 32 * 32, 16, 16, 16, 4 * 32 * 32]
    metric, scores = Metric("known", "bits", floor=0.0, ceiling=24.0), np.arange(24.0)

    def judged(name: str) -> bool:
        mine, word = (metric.arm(one, scores, checkpoints="algo-discs-1", budget=Budget(sent[one], "bits"))
                      for one in (name, "trained-words"))
        return not uneven(better(mine, word))
    caught(judged, "trained-bits", "trained-vectors")


class AllInSight(Channel):
    """Mutant: a question sees those before it, as in one long text."""

    def answers(self, heard):
        asked = self.between([END, TOLD], heard, [ASK, *range(PLACED.start, PLACED.stop)])
        return self.network(inputs_embeds=asked).logits[:, -discs.FIELDS:, COLOURED]


def test_an_answer_sees_the_message_and_its_own_place_alone(base):
    def alone(kind) -> bool:
        line = kind(base, words(base).send)
        heard = line.told(BOARDS)[:, :4]
        one = line.between([END, TOLD], heard, [ASK, PLACED.start + 5])
        return torch.allclose(line.answers(heard)[:, 5], base(inputs_embeds=one).logits[:, -1, COLOURED], atol=1e-5)
    caught(alone, Channel, AllInSight)


class Overheard(Channel):
    """Mutant: later senders have seen the board."""

    def chain(self, boards, slots, hops):
        return [super(Overheard, self).chain(boards, slots, 1)[0]] * hops  # noqa: UP008


@pytest.mark.parametrize("name", CHANNELS)
def test_the_next_hop_hears_the_message_and_nothing_else(tiny, base, name):
    made = vars(channel(name, base, tiny.fresh))

    def told_on(kind) -> bool:
        line, (first, second) = kind(**made), kind(**made).chain(BOARDS, 2, 2)
        return torch.allclose(line.speak(first.vectors, 2)[0], second.vectors, atol=1e-5)
    with torch.no_grad():
        caught(told_on, Channel, Overheard)


def test_a_frozen_sender_writes_the_same_words_whatever_is_handed_over(base):
    """Mutant: it reads on what it sent, which it was never trained for."""
    through = StateChannel(32)

    def same(trained: bool) -> bool:
        line = Channel(base, lambda state, logits: through(state), trained)
        return torch.equal(*(one.speak(line.told(BOARDS), 4)[1] for one in (line, words(base))))

    with torch.no_grad():
        caught(same, False, True)
        soft, said = words(base, soft=True).chain(BOARDS, 4, 1)[0][:2]
        assert torch.allclose(soft, said.softmax(-1) @ base.get_input_embeddings().weight[SAID], atol=1e-5)


@pytest.mark.parametrize(("kind", "learns"), [
    (recipes.TrainedWords, ["model."]), (recipes.TrainedBits, ["model.", "channel."]),
    (recipes.TrainedVectors, ["model.", "channel."]), (recipes.FrozenBits, ["into.", "out."]),
    (recipes.FrozenVectors, ["into."])])
def test_words_and_vectors_are_trained_end_to_end_on_the_same_boards_and_frozen_networks_are_not(
        arms, tiny, monkeypatch, kind, learns):
    """Mutants: only the vectors' network learns, or only its channel."""
    monkeypatch.setattr(recipes.Telling, "rows", 3)
    recipe = arms(kind)
    batch, same = recipe.batch(3, 0.0), recipes.TrainedWords(0).batch(3, 0.0)
    assert all(torch.equal(batch[key], same[key]) for key in same)
    assert not {tuple(board) for board in batch["boards"].tolist()} & set(discs.boards(102, 50))
    net = recipe.build()
    torch.manual_seed(0)
    caught(lambda names: only_these_move(net, lambda net: recipe.loss(net, batch, 0.0)[0], names), learns,
           ["channel"] if learns[0] == "model." else ["model."])
    assert not hasattr(recipe, "base") or not any(weight.requires_grad for weight in recipe.base.parameters())


def test_every_hop_is_shown_and_a_word_near_a_vector_is_marked_as_that(tiny):
    """Drift is not hidden, facts are the last receiver's. Mutants: the first receiver alone, words that were said."""
    trace, short, said = (run("agent-language", params={"channel": name, "hops": hops}).traces["sample"]
                          for name, hops in (("trained-vectors", 5), ("trained-vectors", 1), ("words", 5)))
    caught(lambda one: (len(one.steps), len(one.charts[1].series["known"]), len(one.charts[3].rows)) == (6, 5, 5)
           and all(step.picture is not None for step in one.steps), trace, short)
    assert trace.facts["last"].value == pytest.approx(trace.charts[1].series["known"][-1, 1], abs=1e-3)
    caught(lambda one: "not its meaning" in one.sentence and all(
        one.vocabulary[int(one.steps[1].ids[cell])].startswith("≈") for cell in record.SENT[:4]), trace, said)
    with pytest.raises(SubjectError, match="d3 has none yet"):
        run("agent-language", from_text(discs.told(BOARDS[0], range(11))))
