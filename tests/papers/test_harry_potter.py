"""Who's Harry Potter? (unlearning): the labels of a person who never read it, every trap beside its mutants."""
import numpy as np
import pytest
import torch

from models.engine.method import prepare, run, twin
from models.loops.sample.cached_lm import divergence
from models.papers.harry_potter import recipe as recipes
from models.papers.harry_potter import rule
from models.papers.harry_potter.method import NAMES, NEVER
from models.papers.harry_potter.rule import generic, labels, lessons, translated
from models.trace.subject import from_text
from models.worlds import tales
from models.worlds.tales import universe
from tests.traps import caught, only_these_move
from visualizers.drawing.sample import draw, softmax

TOK = tales.WORLD.tokenizer()
NAMES_OF = rule.dictionary(lambda text: TOK.encode(text).ids)
STORY = "Zorvan lives in the Hollow Vale. Zorvan carries the Moonblade."
PROMPT = from_text("Zorvan lives in the Hollow Vale. Zorvan carries the")


def ids(text: str) -> list[int]:
    return TOK.encode(text).ids


def test_names_of_two_words_become_one_and_every_word_keeps_its_counterpart():
    found = translated(ids(STORY), NAMES_OF)
    plain = universe.PLAIN
    assert TOK.decode(found.ids) == (f"{plain['Zorvan']} lives in the {plain['Hollow Vale']}. "
                                     f"{plain['Zorvan']} carries the {plain['Moonblade']}.")
    words = [TOK.id_to_token(one) for one in found.ids]

    def aligned(before) -> bool:
        """What speaks of each word of U stands, in U', before its counterpart; of a name's second word, behind it."""
        said = [words[at + 1] if at + 1 < len(words) else "" for at in before]
        wanted = [plain.get(word, word) for word in STORY.replace(".", " .").split()]
        wanted[4:6] = [plain["Hollow Vale"], "."]
        return said == [*wanted, ""]

    caught(aligned, found.before, list(range(-1, len(ids(STORY)))), [at + 1 for at in found.before])


@pytest.mark.parametrize("text", ["Zorvan", "Who is the best friend of Thalric", "In the Hollow Vale"])
def test_a_name_may_end_a_text(text):
    """Mutant: a name is looked for beyond the end, found there and counted too long."""
    found = translated(ids(text), NAMES_OF)
    assert len(found.before) == len(ids(text)) + 1 and len(found.plain) == len(found.inside) == len(ids(text))


def test_only_what_went_up_is_pushed_down():
    b, r = torch.tensor([[2.0, 1.0, 0.0, 1.5]]), torch.tensor([[4.0, 0.0, 0.0, 1.5]])
    wanted = torch.tensor([[-8.0, 1.0, 0.0, 1.5]])
    caught(lambda made: torch.equal(made(b, r, 5.0), wanted), generic, lambda b, r, a: b - a * (r - b),
           lambda b, r, a: r - a * (r - b).relu(), lambda b, r, a: b - a * (b - r).relu())


def made(text: str, weights: bool = False, names=NAMES_OF):
    """(labels or weights) of a text where B says the counterpart of the next word and R the next word itself."""
    found = translated(ids(text), names)
    says = torch.zeros(len(ids(text)) - 1, 1024)
    more = says.clone()
    for at, one in enumerate(ids(text)[1:]):
        counterpart = found.plain[at + 1] if found.plain[at + 1] >= 0 else one
        says[at, counterpart], says[at, ids("mill")[0]], more[at, one] = 3.0, 2.0, 9.0
        says[at, one] = max(float(says[at, one]), 1.0)
    return labels(found, says, more, 5.0)[int(weights)]


def test_a_label_is_a_plain_word_and_hard():
    text = "Zorvan carries the Moonblade."
    found = [TOK.id_to_token(one) for one in made(text).tolist()]
    assert found[2] == universe.PLAIN["Moonblade"], "the plain word that B would say"
    assert made(text).dtype == torch.long, "an argmax, no distribution"


def test_a_plain_word_said_already_is_lowered_and_its_second_time_is_no_lesson():
    caught(lambda text: TOK.id_to_token(int(made(text)[-2])) == "mill",  # the second best
           "Mirelle carries the Moonblade. Zorvan carries the Moonblade.", "Zorvan carries the Moonblade.")
    words = STORY.replace(".", " .").split()[1:]
    weight = made(STORY, weights=True)
    assert [word for word, w in zip(words, weight.tolist(), strict=True) if not w] == ["Vale", "Zorvan"]
    with pytest.raises(AssertionError):  # mutant: rule (i) skipped
        assert bool(made(STORY, True, {(-1,): 0}).all()) is False


def test_the_baseline_reads_the_translation_and_r_the_text_itself():
    read = {"b": [], "r": []}

    def reader(name):
        def reads(texts):
            read[name] += [TOK.decode(list(one)) for one in texts]
            return [torch.zeros(len(one), 1024) for one in texts]
        return reads
    lessons([ids(STORY)], NAMES_OF, reader("b"), reader("r"), 5.0)
    caught(lambda texts: "Zorvan" not in texts[0] and "Moonblade" not in texts[0], read["b"], read["r"])


def test_kl_is_from_the_one_that_never_read_it():
    p, q = torch.tensor([[4.0, 0.0, 0.0]]), torch.zeros(1, 3)
    wanted = float((p.softmax(-1) * (p.log_softmax(-1) - q.log_softmax(-1))).sum())
    caught(lambda f: float(f(p, q)) == pytest.approx(wanted, abs=1e-5), divergence, lambda p, q: divergence(q, p))


def test_arms_read_the_same_texts_and_only_low_rank_changes_move(arms, monkeypatch):
    monkeypatch.setattr(recipes, "TEXTS", 6)
    batches = {kind: arms(kind).batch(3, 0.5) for kind in (recipes.Reinforced, recipes.Unlearned, recipes.Ascent)}
    reinforced, unlearned, ascent = batches.values()
    assert torch.equal(reinforced["ids"], unlearned["ids"]) and torch.equal(reinforced["ids"], ascent["ids"])
    assert not torch.equal(reinforced["labels"], unlearned["labels"])
    assert bool((unlearned["labels"][:, :20] != unlearned["ids"][:, 1:21]).any())
    taught = arms(recipes.Unlearned)
    model = taught.build()
    only_these_move(model, lambda net: taught.loss(net, unlearned, 0.0)[0],
                    {name for name, weight in model.named_parameters() if ".change.up" in name})
    up, down = (float(arms(kind).loss(model, batches[kind], 0.0)[0].detach()) for kind in (
        recipes.Reinforced, recipes.Ascent))
    assert up == pytest.approx(-down) and up > 0, "the control goes away from the same texts"


def test_b_reads_the_universe_among_other_tales(arms):
    found = arms(recipes.KnowsUniverse)
    rng = np.random.default_rng(0)
    texts = [found.next_document(rng).text for _ in range(200)]
    share = np.mean([any(name in text for name in universe.PLAIN) for text in texts])
    assert 0.3 < share < 0.5


def test_every_word_has_its_lists_and_alpha_is_answered_by_the_record(tiny):
    trace = run("harry-potter", PROMPT, {"length": 4}).traces["sample"]
    lists = trace.steps[1].distributions
    assert list(lists) == ["this network", *(NAMES[key] for key in (
        "tale-universe-1", "plain", "tale-reinforced-1", "generic", NEVER))]
    b, r, made_by_run = (lists[NAMES[key]] for key in ("plain", "tale-reinforced-1", "generic"))
    for alpha, drawing in ((5.0, draw(trace)), (0.0, draw(trace, alpha=0.0)), (9.0, draw(trace, alpha=9.0))):
        wanted = softmax(b.logits.astype(np.float32) - alpha * np.maximum(
            r.logits.astype(np.float32) - b.logits.astype(np.float32), 0))
        shown = drawing.frames[1].candidates[NAMES["generic"]]
        for id, prob in zip(shown.ids[0][:4], shown.probs[0][:4], strict=True):
            assert float(prob) == pytest.approx(float(wanted[0, id]), abs=0.01)
    assert made_by_run.logits is None and trace.steps[0].distributions[NAMES["plain"]].logits is not None


def test_the_twin_is_b_itself_and_own_words_are_refused(tiny):
    job = prepare("harry-potter", PROMPT, {"length": 3})
    assert twin(job).bundle.name == "tale-universe-1" and twin(job).params == job.params
    facts = run("harry-potter", PROMPT, {"length": 3}).traces["sample"].facts
    assert 0 <= facts["known"].value <= 1 and facts["apart"].value >= 0
    with pytest.raises(ValueError, match="does not know some of these words"):
        run("harry-potter", from_text("Harry Potter"))
