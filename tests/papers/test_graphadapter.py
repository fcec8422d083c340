"""GraphAdapter: who hears whom, what leaks, what words count for, who learns; traps beside their mutants. That
probabilities are mixed and not logits is tested beside the mixture (tests/loops/test_mixed_lm.py)."""
import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.loops.sample import mixed_lm
from models.papers.graphadapter import recipe
from models.papers.graphadapter.network import HEADS, GraphAdapter
from models.papers.graphadapter.rule import word_weights
from models.papers.graphadapter.source import LinkedPage
from models.trace.params import ParamError
from models.trace.subject import SubjectError, from_text
from models.worlds import pages
from models.worlds.tales.words import NAMES
from tests.traps import as_, caught, learns, only_these_move, reaches

TEXT = from_text("Ben: Erik taught Ben to sing. You can meet Ben in the")
LINKS = np.array([[0, 1], [0, 2], [1, 2], [1, 3]])  # a triangle with a tail, and pages without a link
NEAR = torch.from_numpy(pages.web(0)._replace(links=LINKS).near(range(5)))
pytestmark = pytest.mark.usefixtures("one_thread")


class ForgetsPaths(GraphAdapter):
    """Mutant: a page is taken from its own neighbours, and still comes back over theirs."""

    def gathered(self, layer, x, seen, here, weights):
        return super().gathered(layer, x, NEAR >= 0 if layer == 0 else seen, here, weights)


def adapter(kind: str, **options) -> GraphAdapter:
    torch.manual_seed(3)
    return GraphAdapter("", "", kind, width=12, size=16, fused=8, **options).eval()


def reached(net: GraphAdapter) -> np.ndarray:
    """Which pages each of five hears [5, 5]."""
    return reaches(lambda says: net.heard(says[0], NEAR)[None], torch.randn(1, 5, 12))


@pytest.mark.parametrize("kind", ["sage", "gat"])
def test_a_page_hears_two_links_far_and_on_no_path_itself(kind):
    """Mutants: the reference's self-loop, by which the words to be predicted are told, and a way over the friends."""
    far = np.array([[0, 1, 1, 1, 0], [1, 0, 1, 1, 0], [1, 1, 0, 1, 0], [1, 1, 1, 0, 0], [0] * 5], bool)
    net, leaks = adapter(kind), adapter(kind, own=True)
    caught(lambda one: (reached(one) == far).all(), net, leaks, as_(ForgetsPaths, net))
    assert (reached(leaks) == far | np.eye(5, dtype=bool)).all()


def test_means_are_means_and_attention_sums_to_one():
    says, shares = torch.randn(5, 12), []
    sage, gat = adapter("sage", own=True), adapter("gat")
    a = sage.reads(says)
    inner = [sage.between(a[heard].mean(0)) for heard in ([1, 0, 2, 3], [0, 1, 2], [2, 0, 1], [3, 1])]
    assert torch.allclose(sage.heard(says, NEAR[1:2])[0], torch.stack(inner).mean(0), atol=1e-6)
    gat.heard(says, NEAR[1:2], shares)
    sums = [share.sum(-2) for share in shares]
    assert torch.allclose(sums[1], torch.ones(1, HEADS)) and torch.allclose(sums[0][0, 1:4], torch.ones(3, HEADS))
    assert shares[1].std(-1).max() > 1e-4 and not shares[1][0, 0].any(), "heads differ, and nobody hears himself"


def test_each_page_counts_alike_and_each_of_its_words_by_how_seldom_it_is():
    ids = [5, 5, 5, 7, 9, 9]

    def seldom(weigh) -> bool:
        found = weigh(ids)
        return np.isclose(found.sum(), 1) and np.allclose([found[:3].sum(), found[3]], 1 / 3)
    caught(seldom, word_weights, lambda words: np.full(6, 1 / 6), lambda words: 3 * word_weights(words))


@pytest.fixture
def trained(arms, monkeypatch):
    read: list = []  # once for all arms
    monkeypatch.setattr(recipe, "WEBS", [5])
    monkeypatch.setattr(recipe, "HELD", [5])
    monkeypatch.setattr(recipe.data, "kept", lambda path, make: read[0] if read else read.append(make()) or read[0])
    return list(map(arms, (recipe.GraphSage, recipe.GraphGat, recipe.GraphMlp, recipe.GraphRewired)))


def test_only_the_adapter_learns_and_arms_differ_in_nothing_but_links(trained):
    """Mutant: a head that learns with it."""
    sizes, batch = [], trained[0].batch(2, 0.0)
    for made in trained:
        net = made.build()
        sizes.append(sum(weight.numel() for weight in net.parameters()))
        both = torch.nn.ModuleDict({"adapter": net, "base": made.base})

        def step(*_, made=made, net=net):
            return made.loss(net, made.batch(2, 0.0), 0.0)[0]

        def frozen(open_head: bool, both=both, step=step, made=made) -> None:
            made.base.requires_grad_(open_head)
            only_these_move(both, step, [f"adapter.{name}" for name, _ in both["adapter"].named_parameters()])
        caught(frozen, False, True)
        made.base.requires_grad_(False)
        learns(net, step, steps=6, rate=1e-3, below=0.99)
        assert torch.equal(made.batch(2, 0.0)["ids"], batch["ids"])
    assert sizes[0] == sizes[2] == sizes[3] and sizes[1] - sizes[0] == 512 < 0.01 * sizes[0]
    assert not torch.equal(batch["friends"][:, :, 1:2], batch["rewired"][:, :, 1:2])
    assert torch.isclose(batch["weight"].sum(), torch.tensor(40.0))
    nats = made.nats(net, batch := made.batch(2, 0.0))  # mutant: every word of a web counts alike
    caught(lambda found: torch.isclose(made.loss(net, batch, 0.0)[0], found), (nats * batch["weight"]).sum() / 40,
           nats.mean())
    assert batch["ids"][:-1][batch["of"].diff() == 1].eq(0).all(), "a page ends with its end"


def test_links_reach_the_page_as_states_and_never_as_text(tiny):
    """Mutant: retrieval, which puts a neighbour's text before the page."""
    source = LinkedPage(prepare("graphadapter", TEXT))
    linked = [source.web.texts[other] for other in source.web.every()[source.page]]

    def own_words(prompt) -> bool:
        text = source.tokenizer.decode(prompt[1:])
        return text == source.text and not any(other in text for other in linked)
    caught(own_words, source.prompt, [0, *source.tokenizer(f"{linked[0]} {source.text}")["input_ids"]])
    usual, nobody, states = source.heard(source.near()), source.heard(source.near(range(40))), torch.randn(1, 3, 32)
    assert not nobody.any() and not torch.allclose(source.beside(states, usual), source.beside(states, nobody))


@pytest.mark.parametrize("arm", ["sage", "gat", "mlp"])
def test_the_record_shows_the_mixture_and_what_each_link_is_worth(tiny, arm):
    traces = run("graphadapter", TEXT, {"adapter": arm, "length": 3}).traces
    sample, attend = traces["sample"], traces["attend"]
    assert set(sample.steps[-1].distributions) == {mixed_lm.MIXTURE, mixed_lm.LM, mixed_lm.BESIDE}
    likeliest = sample.steps[-1].distributions[mixed_lm.MIXTURE].top_ids[0, 0]
    assert f"\u201c{sample.vocabulary[int(likeliest)].strip()}\u201d" in sample.steps[-1].note
    source, heard = LinkedPage(prepare("graphadapter", TEXT, {"adapter": arm})), arm != "mlp"
    linked = [NAMES[other] for other in source.web.every()[source.page] if heard]
    assert [step.label for step in attend.steps if step.level == "trial"] == [
        f"without {name}" for name in (*linked, "any link")]
    assert attend.canvas.labels[0] == "Ben" and len(attend.canvas.links) >= len(linked)
    assert (sum(len(links.query) for step in attend.steps for links in step.edges.values()) > 0) == heard


def test_without_weight_nothing_is_gained_and_strange_pages_are_refused(tiny):
    silent = run("graphadapter", TEXT, {"weight": 0.0, "length": 2}).traces["sample"]
    assert np.allclose(np.nan_to_num(silent.steps[-1].fields["gain"]), 0, atol=1e-3)
    assert twin(prepare("graphadapter", TEXT)).params.adapter == "mlp"
    for text in ("You can meet Ben in the", "Xaver: You can meet", "Ben:  "):
        with pytest.raises(SubjectError, match="whose page"):
            run("graphadapter", from_text(text))
    with pytest.raises(ParamError, match="is not linked to Ben"):
        run("graphadapter", TEXT, {"without": "Nobody"})
