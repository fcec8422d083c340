"""SmolLM2, a real public model, through every method that takes a causal one; about half a minute of one core. Skipped
with the reason where its package cannot be had (tools/public_weights.py)."""

import json
from pathlib import Path

import pytest
import torch

from models.checkpoints.store import load
from models.engine.method import run
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
    card = json.loads((Path(smollm2) / "card.json").read_text("utf-8"))
    for trace in result.traces.values():
        assert trace.provenance.revision == card["sha256"][:12]
        assert trace.sentence and len(trace.steps)


def test_it_finds_the_capital_when_sampled(smollm2):
    trace = run("sampling", from_text(TEXT), {"length": 1, "temperature": 0.0}, checkpoint=smollm2).traces["sample"]
    assert trace.vocabulary[int(trace.steps[-1].ids[-1])] == " Paris"


def test_the_lens_sees_what_eager_sees(smollm2):
    from models.backbones.instrument import observe
    from models.baselines.attention.claim import eager_maps
    from models.engine.method import prepare
    job = prepare("attention", from_text(TEXT), checkpoint=smollm2)
    ids = torch.tensor([job.tokenizer(TEXT)["input_ids"]])
    with torch.no_grad(), observe(job.model, want={"stats", "qk"}) as seen:
        job.model(ids, use_cache=False)
    for call, maps in zip(seen, eager_maps(job, ids), strict=True):
        torch.testing.assert_close(call.entropy[0], torch.special.entr(maps).sum(-1), atol=1e-4, rtol=1e-4)
