"""SmolLM2 through every method that takes a causal model, MiniLM in the lens; about 40 seconds of one core. Skipped
with the reason where their packages cannot be had (tools/public_weights.py)."""

import pytest
import torch

from models.checkpoints import packaged
from models.checkpoints.store import load
from models.engine.method import prepare, run, twin
from models.trace.subject import from_text

pytestmark = pytest.mark.public
CAUSAL = {"attention": {"steps": 8}, "sampling": {"length": 6}, "cntp": {"length": 6}, "byte-level": {"length": 3},
          "lazyllm": {"length": 3}, "top-attention": {"length": 3}, "random-keep": {"length": 3}}
TEXT = "Question: What is the capital of France?\nAnswer: The capital of France is"


@pytest.fixture
def smollm2(public):
    return public("smollm2")


def test_it_was_dequantised_right(smollm2):
    """It knows the capital, by its own text and by its chat template: wrong scales or turned positions would not."""
    bundle = load(smollm2)
    words = bundle.tokenizer
    chat = words.apply_chat_template([{"role": "user", "content": "What is the capital of France?"}], tokenize=False,
                                     add_generation_prompt=True)
    said = [words.decode(bundle.model.generate(**words(text, return_tensors="pt"), max_new_tokens=12, do_sample=False,
                                               pad_token_id=0)[0]) for text in (TEXT, chat)]
    assert all("Paris" in one.rsplit("France", 1)[-1] or "is Paris" in one for one in said), said


def test_its_digits_are_words_of_their_own(smollm2):
    words = load(smollm2).tokenizer
    cut = words.tokenize(" in 1984, x12y \u0664\u0662")
    assert cut[:6] == ["\u0120in", "\u0120", "1", "9", "8", "4"]
    assert words.decode(words("tabs\t and 1 2  3\n\n").input_ids) == "tabs\t and 1 2  3\n\n"


@pytest.mark.parametrize("method", CAUSAL)
def test_methods_run_on_it(smollm2, method):
    """On these weights, with their revision stamped; the records are whole."""
    result = run(method, from_text(TEXT), CAUSAL[method], checkpoint=smollm2)
    for trace in result.traces.values():
        assert trace.provenance.revision == packaged.TABLE[smollm2].sha256[:12]
        assert trace.provenance.grade == "paper's rule on public weights (dequantised)"
        assert trace.sentence and len(trace.steps)


def test_it_finds_the_capital_when_sampled(smollm2):
    trace = run("sampling", from_text(TEXT), {"length": 1, "temperature": 0.0}, checkpoint=smollm2).traces["sample"]
    assert trace.vocabulary[int(trace.steps[-1].ids[-1])] == " Paris"


def test_the_lens_sees_what_eager_sees(smollm2):
    from models.backbones.instrument import observe
    from models.baselines.attention.claim import eager_maps
    job = prepare("attention", from_text(TEXT), checkpoint=smollm2)
    ids = torch.tensor([job.tokenizer(TEXT)["input_ids"]])
    with torch.no_grad(), observe(job.model, want={"stats", "qk"}) as seen:
        job.model(ids, use_cache=False)
    for call, maps in zip(seen, eager_maps(job, ids), strict=True):
        torch.testing.assert_close(call.entropy[0], torch.special.entr(maps).sum(-1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", ("byte-level", "lazyllm", "top-attention"))
def test_the_baseline_stands_on_the_same_weights(smollm2, method):
    assert twin(prepare(method, from_text(TEXT), checkpoint=smollm2)).bundle.name == smollm2


def test_the_lens_opens_an_encoder_without_a_head(public):
    """MiniLM: every layer and head, words as they were typed, no prediction to explain."""
    trace = run("attention", from_text("The nurse said she was late."), checkpoint=public("minilm")).traces["attend"]
    assert trace.heads.entropy.shape[:2] == (6, 12)
    assert [label.strip() for label in trace.canvas.labels] == [
        "[CLS]", "The", "nurse", "said", "she", "was", "late", ".", "[SEP]"]
    assert trace.provenance.checkpoint == "minilm" and "rho_ablation" not in trace.facts


def test_a_model_that_was_not_made_here_says_how(tmp_path, monkeypatch):
    monkeypatch.setenv("TOKENSCOPE_PUBLIC", str(tmp_path))
    from models.checkpoints.verify import CheckpointError
    with pytest.raises(CheckpointError, match="python tools/public_weights.py minilm"):
        load("minilm", dtype="bfloat16")
