"""Diagram of Thought: roles that the network names, edges that its text says, nodes that stay as they are, and a critic
that is no checker; every trap beside its mutants."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.engine.method import follow, prepare, run, twin
from models.loops.sample.cached_lm import Stream
from models.loops.sample.put_words import written_side_by_side
from models.papers.diagram_of_thought import claim, method
from models.papers.diagram_of_thought import recipe as recipes
from models.papers.diagram_of_thought.record import Picture
from models.papers.diagram_of_thought.speech import Speech
from models.trace import STATES
from models.trace.params import ParamError
from models.trace.subject import SubjectError, from_text
from models.worlds import trees
from models.worlds.dialogues import ROLES, dialogue, read
from models.worlds.world import END, SPECIALS, drawn
from tests.tiny import bundle, recited
from tests.traps import caught
from tests.worlds.test_dialogues import ASKED, FINE, FIRST, FOUND, SLIP, STRAYED, TEXT

pytestmark = pytest.mark.usefixtures("one_thread")


def spoken(text: str, speech: Speech | None = None) -> Speech:
    """What a network says that recites a text, whatever is put in between."""
    (model, tokenizer), speech = recited(f"{ASKED.prompt} {text}"), speech or Speech()
    speech.warm = 0.0
    with torch.inference_mode():
        written_side_by_side(Stream(model), tokenizer, [ASKED.prompt], [speech], torch.Generator())
    return speech


def test_the_network_names_every_role_itself():
    """Two propositions in a row, and a critic of the older one: mutants are loops that choose roles."""
    second = "@node #2 proposer @edge #0 #2 use a: 12 + 9 = 1"
    text = f"{FIRST} {second} @node #3 critic @edge #1 #3 critique fine @status #1 validated"

    class Alternating(Speech):
        def put(self, scores, ids):
            return ROLES[self.words.count("@node") % 2 - 1] if self.words[-2:-1] == ["@node"] else None

    class NeverTwice(Speech):
        def put(self, scores, ids):
            return "critic" if self.words[-2:] == ["@node", "#2"] else None
    caught(lambda speech: spoken(text, speech).words == [*text.split(), SPECIALS[END]], Speech(), Alternating(),
           NeverTwice())
    assert method.METHOD.companions == (), "nobody else is asked"


def test_the_critic_is_the_network_and_never_the_checker(monkeypatch):
    """A wrong verdict stands, whatever the checker says of it; the mutant lets the checker speak."""
    text = " ".join((SLIP.replace("#3", "#1"), FINE))

    class Oracle(Speech):
        def put(self, scores, ids):
            before = self.words[-2:-1] if self.role == "critic" else []
            return {"=": "ones", "@status": "invalidated"}.get("".join(before))

    def stands(speech):
        made = read(ASKED, spoken(text, speech).words)
        return made.holds(1) and not made.true(made.nodes[1]) and not made.right(made.nodes[2])
    caught(stands, Speech(), Oracle())
    before = [spoken(TEXT, Speech(slips=frozenset({1}))).words for _ in range(2)]
    monkeypatch.setattr(trees.Tree, "true", lambda *_: pytest.fail("the stream asks the checker"))
    assert spoken(TEXT, Speech(slips=frozenset({1}))).words == before[0] == before[1]


def test_a_planted_slip_is_wrong_and_counted_apart_from_the_networks_own():
    speech = spoken(TEXT, Speech(slips=frozenset({0})))
    made = read(ASKED, speech.words)
    assert not made.true(made.nodes[1]) and speech.planted == [speech.words.index("=") + 1]
    found = claim.StreamsOfExam([speech], [made])

    def own(rows):
        return rows[0].tolist() == [1, 2, 1, 1]  # 3 was refuted, 7 does not use what the planted one says, 5 is right
    caught(own, found.judged(), found.judged(True), claim.StreamsOfExam([replace(speech, planted=[])], [made]).judged())
    assert found.judged(True).tolist() == [[0, 1, 0, 0]]


def test_wrong_propositions_carry_no_loss_and_every_other_word_does(arms):
    made, rng = arms(recipes.Dialogue), np.random.default_rng(0)
    docs = [drawn(made.world, rng) for _ in range(24)]

    def told(encode):
        for doc in docs:
            ids, learned = encode(doc)
            words = [made.tok.id_to_token(id) for id in ids]
            first = len(doc.prompt.split())
            found = read(doc.truth, words[first:])
            silent = {at for node in found.propositions if not found.true(node) for at in range(
                first + node.words.stop - 6, first + node.words.stop)} | {*range(first)}
            if [at for at, flag in enumerate(learned) if not flag] != sorted(at for at in silent if at < len(ids)):
                return False
        return True
    caught(told, made.encoded, *(lambda doc, first=first: made.encoded(replace(
        doc, learned=(first, *[True] * (len(doc.learned) - 1)))) for first in (False, True)))


def test_the_arms_read_as_many_tokens_and_differ_in_the_critic_alone(arms):
    made = [arms(kind) for kind in (recipes.Dialogue, recipes.ShuffledCritic, recipes.ChainOfThought)]
    tokens = [np.mean([int((one.batch(step, 0.0)["ids"] != 2).sum()) for step in range(8)]) for one in made]
    assert max(tokens) < 1.06 * min(tokens) and len({one.shape for one in made}) == 1

    def informed(recipe):
        rng, rows = np.random.default_rng(4), np.zeros(4)
        for doc in (drawn(recipe.world, rng) for _ in range(90)):
            one = read(doc.truth, doc.text[len(doc.prompt) + 1 :].split())
            rows += claim.StreamsOfExam([Speech()], [one]).judged()[0]
        return (rows[0] / rows[1] + rows[2] / rows[3]) / 2
    caught(lambda one: informed(one) == 1.0, made[0], made[1])
    assert abs(informed(made[1]) - 0.5) < 0.1
    doc = dialogue(np.random.default_rng(2), shuffled=True)
    assert not read(doc.truth, doc.text[len(doc.prompt) + 1 :].split()).errors, "what follows a verdict follows from it"


def test_right_answers_from_wrong_graphs_are_counted():
    strayed, sound = (claim.StreamsOfExam([Speech()], [read(ASKED, text.split())]) for text in (STRAYED, TEXT))
    assert strayed.strays.tolist() == [[1, 3]] and strayed.right_but_wrong.tolist() == [100] == strayed.right.tolist()
    assert sound.strays.tolist() == [[0, 4]] and sound.right_but_wrong.tolist() == [0]


def test_chains_that_vote_have_at_least_as_many_tokens():
    chains = [claim.StreamsOfExam([Speech(words=["answer"] * 20)], [read(ASKED, ["answer", one])])
              for one in ("3", "14", "14", "3", "3")]
    assert claim.voted(chains, np.array([55]))[0] == 100 and claim.voted(chains, np.array([55]))[1] == 60
    assert claim.voted(chains, np.array([20]))[0] == 0 and claim.voted(chains, np.array([90]))[0] == 0


def test_a_visitor_speaks_in_the_critics_place(tiny):
    speech = spoken(TEXT, Speech(verdicts=["validated", "validated"]))
    assert read(ASKED, speech.words, speech.waits).nodes[4].said.endswith("fine") and speech.waits
    assert spoken(TEXT, Speech(verdicts=[])).words[-2:] == ["=", "7"], "nothing is decided before the visitor does"
    free = spoken(TEXT, Speech(verdicts=["validated", "invalidated", "validated", "validated"]))
    assert not free.waits and free.words[-2:] == ["14", SPECIALS[END]] and "ones" in free.words
    waiting = read(ASKED, speech.words, True)
    assert max(waiting.nodes) == 6 and waiting.nodes[6].status is None and waiting.nodes[6].parents() == [5]
    *_, last = (event for event in Picture(waiting, speech, bundle(method.DOT).tokenizer.get_vocab()).steps())
    assert last.step.fields["true"].tolist()[3] == 0 and np.isnan(last.step.fields["true"][5]), "it gives nothing away"
    job = prepare("diagram-of-thought", from_text("1 + 2 + 3 + 4"), choice=((7,),))
    with pytest.raises(ParamError, match="Each verdict must be"):
        list(follow(job))


@pytest.mark.parametrize("checkpoint, params", [
    (method.DOT, {"slips": 3, "temperature": 1.5, "critic": 1.5}), (method.DOT, {"nodes": 4, "temperature": 0.0}),
    (method.SHUFFLED, {"slips": 0}), (method.COT, {})])
def test_whatever_a_network_says_is_shown(tiny, checkpoint, params):
    found = run("diagram-of-thought", from_text("19 - 5 + 8 - 16"), params, checkpoint=checkpoint).traces["sample"]
    assert found.facts["tokens"].value > 0 and found.sentence.endswith((".", "right.", "wrong."))
    with pytest.raises(SubjectError, match="An expression has 3 operations"):
        run("diagram-of-thought", from_text("19 - 5 + 8"))


def test_the_picture_has_the_links_of_the_text_and_the_control_is_the_chain(tiny):
    text = " ".join((FIRST, FINE, SLIP.replace("@edge #0", "@edge #1"), FOUND))
    picture = Picture(read(ASKED, text.split()), spoken(text), bundle(method.DOT).tokenizer.get_vocab())
    steps = [event.step for event in picture.steps() if hasattr(event, "step")]
    assert picture.page.canvas.links.tolist() == [[0, 1], [1, 2], [1, 3], [3, 4]] and picture.page.canvas.directed
    assert [[STATES[code] for code in step.state] for step in steps][-1] == [
        "context", "accepted", "known", "refused", "new"]
    assert steps[3].fields["true"].tolist()[1:4] == [1, pytest.approx(np.nan, nan_ok=True), 0], "the checker's own word"
    assert twin(prepare("diagram-of-thought")).bundle.name == method.COT
