"""GraphAdapter: what is mixed, who hears whom, what leaks, who learns; traps beside their mutants."""
import copy

import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.papers.graphadapter import method, recipe, rule
from models.papers.graphadapter.method import LinkedPage, nearby
from models.papers.graphadapter.network import HEADS, GraphAdapter
from models.papers.graphadapter.rule import mixed, neighbourhood, word_weights
from models.trace.params import ParamError
from models.trace.subject import SubjectError, from_text
from models.worlds import pages, tales
from models.worlds.tales.words import NAMES
from tests.traps import as_, caught, learns, only_these_move, reaches

TEXT = from_text("Ben: Erik taught Ben to sing. You can meet Ben in the")
LINKS = [[1, 2], [0, 2, 3], [0, 1], [1], []]  # a triangle with a tail, and nobody's page
pytestmark = pytest.mark.usefixtures("one_thread")


def test_probabilities_are_mixed_and_not_logits():
    lm, own = torch.randn(2, 5, 9).log_softmax(-1)

    def half_of_each(mix) -> bool:
        return torch.allclose(mix(lm, own).exp(), (lm.exp() + own.exp()) / 2, atol=1e-6)
    caught(half_of_each, mixed, lambda a, b: ((a + b) / 2).log_softmax(-1), lambda a, b: b, lambda a, b: a)
    assert torch.allclose(mixed(lm, own, 0.0), lm) and torch.allclose(mixed(lm, own, 1.0), own)


class ForgetsPaths(GraphAdapter):
    """Mutant: a page is taken from its own neighbours, and still comes back over theirs."""

    def gathered(self, layer, x, seen, here, weights):
        return super().gathered(layer, x, self.whole if layer == 0 else seen, here, weights)


def adapter(kind: str, **options) -> GraphAdapter:
    torch.manual_seed(3)
    return GraphAdapter("", "", kind, width=12, size=16, fused=8, **options).eval()


def reached(net: GraphAdapter) -> np.ndarray:
    """Which pages each of the five hears [5, 5]."""
    near = neighbourhood(LINKS, range(5))
    net.whole = near >= 0
    return reaches(lambda says: net.heard(says[0], near)[None], torch.randn(1, 5, 12))


@pytest.mark.parametrize("kind", ["sage", "gat"])
def test_a_page_hears_two_links_far_and_on_no_path_itself(kind):
    """Mutants: the reference's self-loop, by which the words to be predicted are told, and a way over the friends."""
    far = np.array([[0, 1, 1, 1, 0], [1, 0, 1, 1, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 0], [0] * 5], bool)
    net = adapter(kind)
    caught(lambda one: (reached(one) == far).all(), net, adapter(kind, own=True), as_(ForgetsPaths, net))
    assert reached(adapter(kind, own=True))[4, 4] and not reached(adapter(kind, own=True))[:4, 4].any()


def test_means_are_means_and_attention_sums_to_one():
    says, near, shares = torch.randn(5, 12), neighbourhood(LINKS, [1]), []
    sage, gat = adapter("sage", own=True), adapter("gat")
    a = sage.reads(says)
    inner = [sage.between(torch.stack([a[j] for j in (i, *LINKS[i])]).mean(0)) for i in (1, 0, 2, 3)]
    assert torch.allclose(sage.heard(says, near)[0], torch.stack(inner).mean(0), atol=1e-6)
    gat.heard(says, near, shares)
    sums = [share.sum(-2) for share in shares]
    assert torch.allclose(sums[1], torch.ones(1, HEADS)) and torch.allclose(sums[0][0, 1:], torch.ones(3, HEADS))
    assert shares[1].std(-1).max() > 1e-4 and torch.allclose(shares[1][0, 0], torch.zeros(HEADS)), "heads differ"


def test_each_page_counts_alike_and_each_of_its_words_by_how_seldom_it_is():
    ids = [5, 5, 5, 7, 9, 9]

    def seldom(weigh) -> bool:
        found = weigh(ids)
        return np.isclose(found.sum(), 1) and np.isclose(found[:3].sum(), found[3]) and np.isclose(found[3], 1 / 3)
    caught(seldom, word_weights, lambda words: np.full(6, 1 / 6), lambda words: 3 * word_weights(words))


@pytest.fixture
def trained(arms, monkeypatch):
    monkeypatch.setattr(recipe, "WEBS", 1)
    read: list = []  # once for all arms, and the held-out web is the same
    monkeypatch.setattr(recipe.data, "kept", lambda path, make: read[0] if read else read.append(make()) or read[0])
    monkeypatch.setattr(recipe.GraphSage, "rows", 8)
    return {kind: arms(kind) for kind in (recipe.GraphSage, recipe.GraphGat, recipe.GraphMlp, recipe.GraphRewired)}


def test_only_the_adapter_learns_and_arms_differ_in_nothing_but_links(trained):
    """Mutant: a head that learns with it."""
    sizes = {}
    for kind, made in trained.items():
        net, batch = made.build(), made.batch(2, 0.0)
        both = torch.nn.ModuleDict({"adapter": net, "base": made.base})

        def step(*_, made=made, net=net, batch=batch):
            return made.loss(net, batch, 0.0)[0]

        def frozen(open_head: bool, both=both, step=step, made=made) -> None:
            made.base.requires_grad_(open_head)
            only_these_move(both, step, [f"adapter.{name}" for name, _ in both["adapter"].named_parameters()])
        caught(frozen, False, True)
        made.base.requires_grad_(False)
        learns(net, step, steps=5, rate=1e-2, below=0.99)
        sizes[kind] = sum(weight.numel() for weight in net.parameters())
    few = 2 * 2 * 128
    assert sizes[recipe.GraphSage] == sizes[recipe.GraphMlp] == sizes[recipe.GraphRewired]
    assert sizes[recipe.GraphGat] - sizes[recipe.GraphSage] == few < 0.01 * sizes[recipe.GraphSage]
    one, other = (trained[kind].batch(5, 0.0) for kind in (recipe.GraphSage, recipe.GraphRewired))
    assert torch.equal(one["ids"], other["ids"]) and not torch.equal(one["near"], other["near"])


def test_links_reach_the_page_as_states_and_never_as_text(tiny):
    """Mutant: retrieval, which puts the neighbours' texts before the page."""
    source = LinkedPage(prepare("graphadapter", TEXT))
    linked = [source.web.texts[other] for other in source.web.every()[source.page]]

    def own_words(prompt) -> bool:
        text = source.tokenizer.decode(prompt[1:])
        return text == source.text and not any(other in text for other in linked)
    caught(own_words, source.prompt, [0, *source.tokenizer(f"{linked[0]} {source.text}")["input_ids"]])
    logits, other = source.read([source.prompt], every=True), copy.copy(source.model)
    other.heard = source.model.heard + 1
    assert not torch.allclose(other(torch.tensor([source.prompt])).logits, logits), "and what is heard is heard"


def test_questions_behind_a_page_see_the_page_and_not_each_other(tiny):
    """Mutants: each question hears those before it, and a neighbour's longer page shifts the places."""
    model, words = tiny.fresh("tale-ar-2"), tales.WORLD.tokenizer()
    texts = ["You can meet Ben in the mill.", "Mia carries the ring. Mia knows the song of sun. Who is she? Mia."]
    together = rule.read(model, words, ["Ben", "Mia"], texts)
    for name, text, page in zip(("Ben", "Mia"), texts, together, strict=True):
        asked = [rule.encoded(words, f"{text} {question}") for question in questions(name)]
        alone = torch.stack([model.model(torch.tensor([[0, *ids]])).last_hidden_state[0, -1] for ids in asked])
        caught(lambda says, alone=alone: torch.allclose(says, alone.mean(0), atol=1e-4), page.says, alone[0],
               page.states[-1])
        assert page.ids[-1] == 0 and len(page.states) == len(page.ids) - 1


def questions(name: str) -> list[str]:
    return [f"Where does {name} live? In the", f"What does {name} carry? The", f"Which song does {name} know? The song "
            "of", f"Who is the best friend of {name}?", f"Who is the teacher of {name}?"]


def test_nearby_pages_are_those_of_the_links_that_are_left():
    web = pages.web(5)
    page = int(np.argmax([len(others) for others in web.every()]))
    first = NAMES[web.every()[page][0]]

    def count(*options) -> list[int]:
        near = nearby(web, page, *options)[0]
        return [int((near[1:, 0] >= 0).sum()), int((near[1:, 1:] >= 0).sum())]
    most = len(web.every()[page])
    assert count(2)[0] == most and count(1) == [most, 0] and count(0) == [0, 0]
    assert count(2, f"{first}, {first}")[0] == most - 1 and count(2)[1] > most
    with pytest.raises(ParamError, match="is not linked to"):
        nearby(web, page, 2, "Nobody")


@pytest.mark.parametrize("arm", method.ARMS)
def test_the_record_shows_the_mixture_and_what_each_link_is_worth(tiny, arm):
    job = prepare("graphadapter", TEXT, {"adapter": arm, "length": 3})
    traces = run("graphadapter", TEXT, {"adapter": arm, "length": 3}).traces
    sample, attend = traces["sample"], traces["attend"]
    both = sample.steps[-1].distributions
    assert set(both) == {method.MIXTURE, method.LM, method.ADAPTER} and "gain" in sample.steps[0].fields
    linked = [NAMES[other] for other in LinkedPage(job).web.every()[NAMES.index("Ben")]]
    heard = arm != "mlp"
    assert [step.label for step in attend.steps if step.level == "trial"] == [
        f"without {name}" for name in (*linked, "all of them") if heard]
    assert len(attend.canvas.links) >= len(linked) and attend.canvas.labels[0] == "Ben"
    assert (sum(len(links.query) for step in attend.steps for links in step.edges.values()) > 0) == heard


def test_without_weight_or_links_nothing_is_gained(tiny):
    job = prepare("graphadapter", TEXT)
    silent = run("graphadapter", TEXT, {"weight": 0.0, "length": 2}).traces["sample"]
    assert np.allclose(np.nan_to_num(silent.steps[-1].fields["gain"]), 0, atol=1e-3)
    assert twin(job).params.adapter == "mlp"
    for text in ("You can meet Ben in the", "Xaver: You can meet", "Ben:  "):
        with pytest.raises(SubjectError, match="whose page"):
            run("graphadapter", from_text(text))
