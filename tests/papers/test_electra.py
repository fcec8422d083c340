"""ELECTRA: the traps its spec names, each with the mutant that the same check must refuse; then the page's records."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from models.engine.method import find, follow, prepare, run, twin
from models.engine.statistics import auc
from models.loops.mask import planting, words
from models.loops.mask.passages import passage
from models.papers.electra import method as electra
from models.trace import CODE
from models.trace.params import ParamError
from models.trace.subject import SubjectError, from_text
from tests import tiny as stand_ins

MASK, NEVER, V = 1, (0, 1, 2), 40


def batch(seed: int = 0, count: int = 4):
    """Texts [6, 20] with special tokens at both ends, what the generator sees, and the selected places [6, 4]."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, V, (6, 20), generator=generator)
    ids[:, 0], ids[:, -1] = 0, 2
    places = planting.select(ids, ids < 3, count, generator)
    return ids, planting.hide(ids, places, MASK, generator), places


@cache
def pair():
    from transformers import ElectraConfig

    from models.papers.electra.network import ElectraPair
    torch.manual_seed(3)
    sizes = {"vocab_size": V, "embedding_size": 16, "num_hidden_layers": 2, "intermediate_size": 32,
             "max_position_embeddings": 20, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
             "initializer_range": 0.3, "pad_token_id": 2, "attn_implementation": "eager"}
    return ElectraPair(ElectraConfig(hidden_size=8, num_attention_heads=1, **sizes),
                       ElectraConfig(hidden_size=24, num_attention_heads=4, **sizes)).eval()


def marks_what_differs(corrupt):
    """A draw that hits the original is labelled original, so there are fewer labels than selected places."""
    ids, _, places = batch()
    written = ids.gather(1, places).clone()
    written[:, 0] = 3 + (written[:, 0] - 2) % (V - 3)  # one place differs, the others are lucky
    fake, replaced = corrupt(ids, places, written)
    assert replaced.sum(1).tolist() == [1] * len(ids) and (fake != ids).sum(1).tolist() == [1] * len(ids)


def test_lucky_draws_are_labelled_original():
    marks_what_differs(planting.corrupt)

    def every_selected_place(ids, places, written):
        return planting.corrupt(ids, places, written)[0], torch.zeros_like(ids).scatter(1, places, 1).bool()

    with pytest.raises(AssertionError):
        marks_what_differs(every_selected_place)


def never_sees_a_mask(read, never=NEVER):
    """What the discriminator reads has no mask token and is the original outside the selected places."""
    ids, hidden, places = batch()
    logits = torch.zeros(*places.shape, V)
    logits[..., MASK] = 9.0  # a generator that likes to write the mask token
    seen = read(ids, hidden, places, planting.sample(logits, 1.0, never, torch.Generator().manual_seed(1)))
    outside = torch.ones_like(ids, dtype=torch.bool).scatter(1, places, False)
    assert not (seen == MASK).any() and torch.equal(seen[outside], ids[outside])


def test_no_mask_reaches_the_discriminator():
    def ours(ids, hidden, places, written):
        return planting.corrupt(ids, places, written)[0]

    never_sees_a_mask(ours)
    with pytest.raises(AssertionError):  # the generator's own input
        never_sees_a_mask(lambda ids, hidden, places, written: hidden)
    with pytest.raises(AssertionError):  # nothing is forbidden to the generator
        never_sees_a_mask(ours, never=())


def test_the_discriminator_is_trained_on_such_texts():
    ids, hidden, places = batch()
    read = []
    hook = pair().discriminator.electra.register_forward_pre_hook(lambda module, given: read.append(given[0]))
    with torch.no_grad():
        pair().losses(ids, hidden, places, NEVER)
    hook.remove()
    outside = torch.ones_like(ids, dtype=torch.bool).scatter(1, places, False)
    assert not torch.isin(read[0], torch.tensor(NEVER))[~outside].any() and torch.equal(read[0][outside], ids[outside])


def draws_from_the_distribution(sample):
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    for temperature in (0.5, 1.0, 2.0):
        drawn = sample(logits.expand(20_000, -1), temperature, (), torch.Generator().manual_seed(2))
        share = torch.bincount(drawn, minlength=4) / len(drawn)
        torch.testing.assert_close(share, (logits / temperature).softmax(0), atol=0.015, rtol=0)


def test_the_generator_is_sampled_not_asked_for_its_best():
    draws_from_the_distribution(planting.sample)
    for mutant in (lambda logits, *_: logits.argmax(-1), lambda logits, t, *rest: planting.sample(logits, 1.0, *rest)):
        with pytest.raises(AssertionError):
            draws_from_the_distribution(mutant)


def generator_feels_nothing(discriminator_loss):
    """Only the shared embedding table of the generator's parts feels the discriminator's loss."""
    pair().zero_grad()
    discriminator_loss(*batch()).backward()
    shared = ("embeddings.", "lm_head.weight")
    own = [p for name, p in pair().generator.named_parameters() if not any(word in name for word in shared)]
    felt = [p for p in own if p.grad is not None and p.grad.abs().max() > 0]
    pair().zero_grad()
    assert not felt and len(own) > 20


def test_no_gradient_flows_from_the_discriminator_to_the_generator():
    generator_feels_nothing(lambda *given: pair().losses(*given, NEVER)["discriminator"])

    def soft_words(ids, hidden, places):  # a GAN: the discriminator reads a mixture that remembers where it came from
        from models.backbones.electra import proposals
        table = pair().discriminator.electra.embeddings.word_embeddings.weight
        mixed = proposals(pair().generator, hidden, places).softmax(-1) @ table
        embedded = table[ids].scatter(1, places[..., None].expand(-1, -1, table.shape[1]), mixed)
        return pair().discriminator(inputs_embeds=embedded).logits.mean()

    with pytest.raises(AssertionError):
        generator_feels_nothing(soft_words)


def every_token_counts(loss):
    ids, hidden, places = batch(1)
    torch.manual_seed(5)
    found = loss(ids, hidden, places)
    torch.manual_seed(5)
    from models.backbones.electra import proposals
    logits = proposals(pair().generator, hidden, places)
    fake, replaced = planting.corrupt(ids, places, planting.sample(logits.detach(), 1.0, NEVER))
    each = binary_cross_entropy_with_logits(pair().discriminator(fake).logits, replaced.float(), reduction="none")
    assert each.shape == ids.shape
    truth = -logits.log_softmax(-1).gather(2, ids.gather(1, places)[..., None]).mean()
    torch.testing.assert_close(found, truth + 50 * each.mean())


def test_the_loss_is_the_papers():
    every_token_counts(lambda *given: pair().losses(*given, NEVER)["loss"])

    def selected_only(ids, hidden, places):  # "ELECTRA 15 %" of the ablation
        found = pair().losses(ids, hidden, places, NEVER)
        return found["generator"] + 50 * found["discriminator"] * ids.shape[1] / places.shape[1]

    def unweighted(*given):
        found = pair().losses(*given, NEVER)
        return found["generator"] + found["discriminator"]

    for mutant in (selected_only, unweighted):
        with pytest.raises(AssertionError):
            every_token_counts(mutant)


def rewards_order_alone(score):
    """A judge that calls everything original earns what a guess earns, a perfect one 1."""
    truth = np.arange(100) < 10
    assert score(np.zeros(100), truth) == pytest.approx(0.5) and score(truth * 0.1, truth) == 1


def test_the_judge_is_scored_by_area_not_accuracy():
    rewards_order_alone(auc)
    with pytest.raises(AssertionError):
        rewards_order_alone(lambda score, truth: float(np.mean((score >= 0.5) == truth)))
    assert auc([0.1, 0.4, 0.4, 0.9], [0, 0, 1, 1]) == pytest.approx(0.875) and np.isnan(auc([1, 2], [1, 1]))


def counts_the_generator(work):
    """The work of one training text, against what torch's own counter sees."""
    from torch.utils.flop_counter import FlopCounterMode
    ids, hidden, places = batch()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        pair().losses(ids, hidden, places, NEVER)
    counted = counter.get_total_flops() / 2 / len(ids)
    assert work(pair(), ids.shape[1], places.shape[1]) == pytest.approx(counted, rel=0.01)


def test_work_includes_the_generator():
    from models.backbones.electra import macs

    counts_the_generator(lambda p, n, k: macs(p.generator.config, n, k) + macs(p.discriminator.config, n))
    with pytest.raises(AssertionError):
        counts_the_generator(lambda p, n, k: macs(p.discriminator.config, n))


def test_the_control_gets_the_same_work():
    from models.papers.electra.recipe import TextElectra, TextMLM
    from models.papers.electra.recipe import config as config_of
    electra_work, mlm_work = TextElectra(0).macs(), TextMLM(0).macs()
    assert 1.1 < electra_work / mlm_work < 1.2  # so the control makes that many more steps
    assert config_of(64, 1).hidden_size == 64 and config_of(192, 4).embedding_size == 128


def test_only_the_embeddings_are_shared():
    generator, discriminator = (dict(part.named_parameters()) for part in (pair().generator, pair().discriminator))
    shared = {name for name in discriminator if any(discriminator[name] is p for p in generator.values())}
    assert shared and all(name.startswith("electra.embeddings.") for name in shared)
    assert generator["electra.embeddings.word_embeddings.weight"] is pair().generator.generator_lm_head.weight


def picks_ordinary_tokens(select):
    for seed in range(20):
        ids, _, _ = batch(seed)
        places = select(ids, ids < 3, 5, torch.Generator().manual_seed(seed))
        assert all(len(set(row)) == 5 for row in places.tolist()) and (ids.gather(1, places) >= 3).all()


def test_special_tokens_are_never_selected():
    picks_ordinary_tokens(planting.select)
    with pytest.raises(AssertionError):
        picks_ordinary_tokens(lambda ids, special, *rest: planting.select(ids, torch.zeros_like(special), *rest))


def test_some_selected_words_stay_to_be_seen():
    ids = torch.randint(3, V, (200, 50), generator=torch.Generator().manual_seed(0))
    places = torch.arange(50).expand(200, -1)
    seen = planting.hide(ids, places, MASK, torch.Generator().manual_seed(1))
    assert (seen == MASK).float().mean() == pytest.approx(0.85, abs=0.02)
    assert torch.equal(seen[seen != MASK], ids[seen != MASK])


# The claim's tasks


def says_what_was_done(make):
    """The label is 1 exactly where the text was changed."""
    rng, seen = np.random.default_rng(0), []
    for number in range(40):
        item = (f"The hen was {number} days old.", "She lived near the old mill.", 1)
        text, truth = make(item, rng)
        seen.append(truth)
        assert (text == " ".join(item[:2])) == (truth == (make.__name__ == "order"))
    assert 10 < sum(seen) < 30


def test_probes_know_their_truth():
    from models.papers.electra import claim
    for make in (claim.order, claim.neighbours, claim.left_out, claim.agreement):
        says_what_was_done(make)

    def always_broken(item, rng):
        words = " ".join(item[:2]).split()
        return " ".join(words[1:]), int(rng.integers(2))

    with pytest.raises(AssertionError):
        says_what_was_done(always_broken)
    assert claim.agreement(("He ran.", "She ran.", 0), np.random.default_rng(0)) is None
    assert claim.kind(" Was") == "small word" and claim.kind(",") == "mark" and claim.kind("ing") == "inside"


# The records


def step(trace, label: str):
    return next(one for one in trace.steps if label in one.label)


def test_states_say_what_happened(tiny):
    trace = run("electra", params={"temperature": 0.2}, seed=4).traces["mask"]
    original = step(run("electra", params={"writer": "copy"}, seed=4).traces["mask"], "wrote").ids
    wrote, verdict = step(trace, "wrote"), step(trace, "verdict")
    assert np.array_equal(wrote.ids != original, wrote.state == CODE["new"])
    flagged = verdict.fields["suspicion"] >= 0.5
    fake = wrote.state == CODE["new"]
    for state, which in (("accepted", fake & flagged), ("new", fake & ~flagged), ("refused", ~fake & flagged)):
        assert np.array_equal(verdict.state == CODE[state], which)


def test_a_copy_leaves_nothing_to_find(tiny):
    facts = run("electra", params={"writer": "copy"}).traces["mask"].facts
    assert facts["replaced"].value == 0 and "auc" not in facts and "accuracy" not in str(facts).lower()


def test_the_visitors_words_are_the_ones_replaced(tiny):
    job = prepare("electra")
    count, = words.budget(job)
    trace = run("electra", choice=(tuple(range(5, 5 + count)),)).traces["mask"]
    assert set(step(trace, "selected").where("masked", "reused")) == set(range(5, 5 + count))
    for wrong in (tuple(range(count - 1)), (*range(count - 1), 9_999), (*range(count - 1), 0)):
        with pytest.raises(ParamError, match="words"):
            run("electra", choice=(wrong,))


def test_a_visitors_own_replacement_is_judged(tiny):
    trace = run("electra", from_text("The little red hen lived near a mill."), {"own": "hen = cat"}).traces["mask"]
    wrote = step(trace, "wrote")
    assert trace.vocabulary[wrote.ids[wrote.where("new")[0]]].strip() == "cat" and trace.facts["replaced"].value == 1
    for wrong in ("fox = hen", "hen", "hen = ", "red = an extraordinarily long replacement"):
        with pytest.raises(ParamError, match="own"):
            run("electra", from_text("The little red hen lived near a mill."), {"own": wrong})


def test_a_text_opens_on_the_verdict_and_photos_where_most_is_hidden(tiny):
    from visualizers import draw
    trace = run("electra", params={"threshold": 0.05}).traces["mask"]
    drawing = draw(trace)
    assert trace.steps[drawing.view["start"]].label == "the verdict"
    assert dict(drawing.legend)["accepted"] == "replaced, and found"
    photo = run("mae").traces["mask"]
    assert draw(photo).view["start"] == 0 and dict(draw(photo).legend)["new"] == "reconstructed"


def test_the_control_reads_the_same_planted_text(tiny):
    job = prepare("electra", params={"mask_rate": 0.3, "temperature": 1.5}, seed=7)
    ours, theirs = ([*follow(one)][-1].traces["mask"] for one in (job, twin(job)))
    assert np.array_equal(step(ours, "wrote").ids, step(theirs, "wrote").ids)
    assert ours.facts["taught"].value == 100 and theirs.facts["taught"].value == pytest.approx(30, abs=1)
    assert step(theirs, "suspicious").cost.calls == theirs.canvas.size


def hides_the_word_it_judges(surprise):
    """The control's suspicion of a word must not change with that word's own look at itself."""
    job = prepare("mlm")
    text = passage(job)
    planted = words.plant(job, text, electra.load("text-electra-1/generator").model)
    suspicion, _ = surprise(job.model, text, planted)
    for at in (3, 10):
        masked = planted.fake.clone()
        masked[0, at] = text.tokenizer.mask_token_id
        share = job.model(masked).logits[0, at].softmax(-1)
        odds = len(planted.at) / (text.count - len(planted.at)) * share.max() / share[planted.fake[0, at]]
        assert suspicion[at] == pytest.approx(float(odds / (1 + odds)), abs=1e-4)


def test_the_control_judges_a_word_from_all_others(tiny):
    from models.baselines.mlm.method import surprise
    hides_the_word_it_judges(surprise)

    def in_one_look(model, text, planted):
        share = model(planted.fake).logits[0].softmax(-1)
        odds = len(planted.at) / (text.count - len(planted.at)) * share.amax(-1)
        return (odds / (odds + share.gather(1, planted.fake[0][:, None])[:, 0])).numpy(), None

    with pytest.raises(AssertionError):
        hides_the_word_it_judges(in_one_look)


def test_attention_of_both_texts_stands_side_by_side(tiny):
    trace = run("electra", params={"query": 4}).traces["attend"]
    assert len(trace.heads.names) == len(trace.steps) == 4
    assert "planted" in trace.heads.names[0] and "original" in trace.heads.names[-1]
    assert (trace.steps[0].ids != trace.steps[-1].ids).any() and trace.steps[0].state[4] == CODE["new"]


def test_proposals_are_the_generators(tiny):
    trace = run("electra", seed=2, params={"temperature": 2.0}).traces["sample"]
    mask = run("electra", seed=2, params={"temperature": 2.0}).traces["mask"]
    wrote = step(mask, "wrote")
    for row, one in enumerate(trace.steps):
        warped = one.distributions["warped"]
        assert np.allclose(warped.top_probs[0], wrote.distributions["writer"].top_probs[row], atol=1e-5)
        assert warped.chosen[0] == wrote.ids[warped.positions[0]]
        assert one.distributions["raw"].entropy[0] <= warped.entropy[0] + 1e-4  # heat spreads


def test_texts_that_do_not_fit_are_refused(tiny):
    for text in ("word " * 900, "a"):
        with pytest.raises(SubjectError):
            run("electra", from_text(text))


@pytest.fixture
def hub_folder(tmp_path):
    """A pair in the layout of google/electra-small-*: two folders, an uncased WordPiece with [CLS] and [SEP]."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "hen", "walk", "##ed", "to", "mill", "."]
    made = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
                                        sep_token="[SEP]", mask_token="[MASK]")
    for kind, name in (("ElectraForPreTraining", "small-discriminator"), ("ElectraForMaskedLM", "small-generator")):
        model = stand_ins.fresh({"ElectraForPreTraining": "text-electra-1", "ElectraForMaskedLM": "text-mlm-1"}[kind])
        model.resize_token_embeddings(len(pieces))
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return tmp_path / "small-discriminator"


def test_a_pair_in_the_hubs_layout_runs_by_the_same_code(hub_folder):
    text = from_text("The hen walked to the mill.")
    traces = run("electra", text, {"mask_rate": 0.3}, checkpoint=str(hub_folder)).traces
    assert traces["mask"].canvas.labels[1:5] == (" the", " hen", " walk", "ed")
    selected = step(traces["mask"], "selected")
    assert not set(selected.where("masked-random", "reused")) & {0, traces["mask"].canvas.size - 1}
    assert step(traces["mask"], "verdict").fields["suspicion"][0] == 0


@pytest.mark.weights
def test_shipped_discriminator_notices_plausible_words(shipped):
    shipped("text-electra-1", "text-mlm-1")
    found = {writer: np.nanmean([run("electra", find_example(e), {"writer": writer, "mask_rate": 0.25}, seed=seed)
                                 .traces["mask"].facts["auc"].value for e in (0, 1, 2) for seed in range(4)])
             for writer in ("trained", "uniform")}
    assert found["trained"] > 0.6 and found["uniform"] > found["trained"]


def find_example(number: int):
    from models.trace.subject import from_example
    return from_example(find("electra").examples[number], "text")


@pytest.mark.weights
def test_first_step_and_last_step_in_time(shipped, one_thread):
    """Processor time on one core, because a shared machine's wall clock says little."""
    import time
    shipped("text-electra-1")
    job = dataclasses.replace(prepare("electra"), seed=1)
    list(job.method.run(job))  # warm
    began = time.process_time()
    list(job.method.run(job))
    assert time.process_time() - began < 2
