"""What a visitor typed is what stands on every text canvas, in every tab: the record, the browser's payload and the
figure join to it at every step, whatever the tokenizer splits, drops or adds."""

import base64

import numpy as np
import pytest
import torch

from models.engine.method import follow, prepare
from models.trace.spelling import CONTINUED
from models.trace.subject import from_text
from tests.tokenizer_kinds import KINDS
from visualizers import draw
from visualizers.drawing.payload import NONE, pack

TYPED = "Müller 😀 saw\n\n東京, she 👍🏽 said</s> the sea"
RUNS = {"attention": {}, "sampling": {"length": 3}, "byte-level": {"length": 3},
        "lazyllm": {"length": 2}, "random-keep": {"length": 2}, "mdm": {"length": 4}, "electra": {}}


def traces(id: str, typed: str = TYPED, params: dict | None = None, **asked) -> dict:
    *_, last = follow(prepare(id, from_text(typed), {**RUNS[id], **(params or {})}, **asked))
    return {tab: trace for tab, trace in last.traces.items() if trace.canvas.kind == "text"}


def shown(payload: dict, step: int) -> str:
    """The text of one step as the player puts it together."""
    labels, frame = payload["layout"]["labels"], payload["frames"][step]
    ids = frame.get("texts", frame.get("ids"))
    if ids is None:
        return "".join(labels)
    held = np.frombuffer(base64.b64decode(payload["arrays"][ids]), "<u2")
    return "".join(label if word == NONE else payload["words"][word] for word, label in zip(held, labels))


@pytest.mark.parametrize("id", RUNS)
def test_what_was_typed_stands_on_the_canvas(tiny, id):
    """Mutants: names of single tokens joined; the vocabulary preferred to the label."""
    for tab, trace in traces(id).items():
        drawing, payload = draw(trace), pack(draw(trace))
        assert trace.canvas.text.startswith(TYPED)
        for step in range(len(trace.steps)):
            if tab != "mask" and id != "electra":  # there the words are replaced by others
                assert "".join(drawing.texts(step)).startswith(TYPED)
            assert shown(payload, step) == "".join(drawing.texts(step))


def test_blanks_are_left_out_and_words_around_them_stay(tiny):
    trace = traces("mdm", "Müller 😀 ___ went\n home")["unmask"]
    assert trace.canvas.text == "Müller 😀 went\n home" and trace.canvas.roles.count("fill") == 3


@pytest.mark.parametrize("kind", KINDS)
def test_the_lens_shows_the_text_for_every_tokenizer(tmp_path, kind):
    tokenizer = KINDS[kind]()
    save_model(tmp_path, tokenizer)
    found = traces("attention", checkpoint=str(tmp_path))["attend"]
    assert found.canvas.text == TYPED and len(found.canvas.labels) == len(tokenizer(TYPED)["input_ids"])
    assert found.vocabulary and not any("Ġ" in word or "▁" in word or "##" in word for word in found.vocabulary.values()
                                        if word not in "Ġ▁")


def save_model(folder, tokenizer) -> None:
    from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "max_position_embeddings": 256}
    masked = tokenizer.mask_token is not None
    model = BertForMaskedLM(BertConfig(**sizes)) if masked else LlamaForCausalLM(LlamaConfig(**sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def test_a_token_that_goes_on_with_a_character_shows_a_sign(tiny):
    from visualizers.export.canvas_mpl import readable
    from visualizers.export.figure import FigurePage
    trace = traces("attention")["attend"]
    pieces = FigurePage([draw(trace)], -1, "state", False).shown(0)
    drawn = "".join(map(readable, trace.canvas.labels))
    assert pieces.count(CONTINUED) >= 3 and "".join(pieces).replace(CONTINUED, "").replace("↵", "") == drawn
    assert "↵\n" in "".join(pieces)


def test_generated_bytes_of_one_character_read_as_it(tiny):
    """A character is read once its last part is there, in the text and in the trials of a step."""
    from models.loops.sample.text_record import TextRecord
    parts = ["<F0>", "<9F>", "<98>", "<80>", "!"]
    page = TextRecord(["a"], [9], 6, {}, lambda ids: [parts[i] for i in ids])
    for id in range(4):
        page.write([id], [parts[id]], {})
        assert page.labels[1 + id] == ("" if id == 3 else parts[id])
    assert "".join(page.labels) == "a😀"
