"""ELECTRA: the traps its spec names, each with the mutant that the same check must refuse; then the page's records."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from models.backbones.electra import macs, proposals
from models.engine.method import find, follow, prepare, run, twin
from models.loops.mask import planting
from models.papers.electra import claim
from models.trace import CODE
from models.trace.subject import from_text
from tests import tiny as stand_ins
from tests.traps import caught, moving, multiply_adds

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


def test_the_discriminator_is_trained_on_such_texts():
    ids, hidden, places = batch()
    read = []
    hook = pair().discriminator.electra.register_forward_pre_hook(lambda module, given: read.append(given[0]))
    with torch.no_grad():
        pair().losses(ids, hidden, places, NEVER)
    hook.remove()
    outside = torch.ones_like(ids, dtype=torch.bool).scatter(1, places, False)
    assert not torch.isin(read[0], torch.tensor(NEVER))[~outside].any() and torch.equal(read[0][outside], ids[outside])


def test_no_gradient_flows_from_the_discriminator_to_the_generator():
    """Only the shared embedding table of the generator's parts feels the discriminator's loss. Mutant: a GAN, whose
    discriminator reads a mixture that remembers where it came from."""
    def soft_words(both, ids, hidden, places):
        table = both.discriminator.electra.embeddings.word_embeddings.weight
        mixed = proposals(both.generator, hidden, places).softmax(-1) @ table
        embedded = table[ids].scatter(1, places[..., None].expand(-1, -1, table.shape[1]), mixed)
        return both.discriminator(inputs_embeds=embedded).logits.mean()

    def generator_feels_nothing(loss):
        felt = moving(pair(), lambda both: loss(both, *batch()))
        assert any(name.startswith("discriminator.") for name in felt)
        assert not [name for name in felt if name.startswith("generator.")]  # shared weights bear the other's name

    caught(generator_feels_nothing, lambda both, *given: both.losses(*given, NEVER)["discriminator"], soft_words)


def test_the_loss_is_the_papers():
    """Mutants: the selected tokens alone ("ELECTRA 15 %" of the ablation); no weight of 50."""
    ids, hidden, places = batch(1)
    torch.manual_seed(5)
    logits = proposals(pair().generator, hidden, places)
    fake, replaced = planting.corrupt(ids, places, planting.sample(logits.detach(), 1.0, NEVER))
    each = binary_cross_entropy_with_logits(pair().discriminator(fake).logits, replaced.float(), reduction="none")
    truth = -logits.log_softmax(-1).gather(2, ids.gather(1, places)[..., None]).mean()

    def every_token_counts(loss):
        torch.manual_seed(5)
        torch.testing.assert_close(loss(pair().losses(ids, hidden, places, NEVER)), truth + 50 * each.mean())

    assert each.shape == ids.shape
    caught(every_token_counts, lambda found: found["loss"], lambda found: found["generator"] + found["discriminator"],
           lambda found: found["generator"] + 50 * found["discriminator"] * ids.shape[1] / places.shape[1])


def test_work_includes_the_generator():
    ids, hidden, places = batch()
    counted = multiply_adds(lambda: pair().losses(ids, hidden, places, NEVER)) / len(ids)

    def counts_both(work):
        assert work(pair(), ids.shape[1], places.shape[1]) == pytest.approx(counted, rel=0.01)

    caught(counts_both, lambda both, n, k: macs(both.generator.config, n, k) + macs(both.discriminator.config, n),
           lambda both, n, k: macs(both.discriminator.config, n))


def test_the_control_gets_the_same_work():
    from models.papers.electra.recipe import TextElectra
    from training.trunks.text_mlm import TextMLM
    from training.trunks.text_mlm import config as config_of
    electra_work, mlm_work = TextElectra(0).macs(), TextMLM(0).macs()
    assert 1.1 < electra_work / mlm_work < 1.2  # so the control makes that many more steps
    assert config_of(64, 1).hidden_size == 64 and config_of(192, 4).embedding_size == 128


def test_only_the_embeddings_are_shared():
    generator, discriminator = (dict(part.named_parameters()) for part in (pair().generator, pair().discriminator))
    shared = {name for name in discriminator if any(discriminator[name] is p for p in generator.values())}
    assert shared and all(name.startswith("electra.embeddings.") for name in shared)
    assert generator["electra.embeddings.word_embeddings.weight"] is pair().generator.generator_lm_head.weight


# The claim's tasks


def test_probes_know_their_truth():
    """The label is 1 exactly where the text was changed (order: where it was not)."""
    def says_what_was_done(make):
        rng, seen = np.random.default_rng(0), []
        for number in range(40):
            item = (f"The hen was {number} days old.", "She lived near the old mill.", 1)
            text, truth = make(item, rng)
            seen.append(truth)
            assert (text == " ".join(item[:2])) == (truth == (make.__name__ == "order"))
        assert 10 < sum(seen) < 30

    def always_broken(item, rng):
        return " ".join(" ".join(item[:2]).split()[1:]), int(rng.integers(2))

    for make in (claim.order, claim.neighbours, claim.left_out, claim.agreement):
        caught(says_what_was_done, make, always_broken)
    assert claim.agreement(("He ran.", "She ran.", 0), np.random.default_rng(0)) is None
    assert claim.kind(" Was") == "small word" and claim.kind(",") == "mark" and claim.kind("ing") == "inside"


# The records


def step(trace, label: str):
    return next(one for one in trace.steps if label in one.label)


def test_a_text_opens_on_the_verdict_and_photos_on_what_was_rebuilt(tiny):
    from visualizers import draw
    trace = run("electra", params={"threshold": 0.05}).traces["mask"]
    drawing = draw(trace)
    assert trace.steps[drawing.view["start"]].label == "the verdict"
    assert dict(drawing.legend)["accepted"] == "replaced, and found"
    photo = run("mae").traces["mask"]
    start = draw(photo).view["start"]
    assert photo.steps[start].label == "how wrong each patch is" and dict(draw(photo).legend)["new"] == "predicted"


def test_the_control_reads_the_same_planted_text(tiny):
    job = prepare("electra", params={"mask_rate": 0.3, "temperature": 1.5}, seed=7)
    ours, theirs = ([*follow(one)][-1].traces["mask"] for one in (job, twin(job)))
    assert np.array_equal(step(ours, "wrote").ids, step(theirs, "wrote").ids)
    assert ours.facts["taught"].value == 100 and theirs.facts["taught"].value == pytest.approx(30, abs=1)
    assert step(theirs, "suspicious").cost.calls == theirs.canvas.size


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
    assert traces["mask"].canvas.labels[1:5] == ("The", " hen", " walk", "ed")
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
