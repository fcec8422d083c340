"""Weights that know the world: their own examples, and that they were trained to chat is said. No template is run."""

import json

import pytest

from models.checkpoints import chat
from models.engine.method import find, prepare
from models.trace.subject import from_text
from tests.folders import saved

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
METHODS = ("sampling", "cntp", "byte-level", "attention", "lazyllm", "top-attention", "random-keep")
HOSTILE = "{% for x in range(10**12) %}{{ x }}{% endfor %}"


@pytest.fixture
def folder(tmp_path):
    return saved(tmp_path / "mine", "LlamaForCausalLM", max_position_embeddings=400)


def ids(folder, id: str = "sampling") -> list[str]:
    return [example.id for example in find(id).examples_for("text", str(folder))]


@pytest.mark.parametrize("id", METHODS)
def test_real_sentences_come_first_on_weights_that_are_not_ours(folder, id):
    """Mutant: toy notes for a model that knows the world."""
    method = find(id)
    worldly = [example.id for example in method.worldly]
    assert worldly and ids(folder, id)[0] == worldly[0]
    assert not {*worldly} & {e.id for e in method.examples_for(method.kind(), method.checkpoints[0])}
    assert prepare(id, checkpoint=str(folder)).subject.name == worldly[0]


@pytest.mark.parametrize("where", ["chat_template.jinja", "tokenizer_config.json"])
def test_a_chat_is_offered_where_the_template_has_its_marks(folder, where):
    assert "chat" not in ids(folder), "without a template its marks would be noise"
    if where.endswith("jinja"):
        (folder / where).write_text(CHATML)
    else:
        config = json.loads((folder / where).read_text())
        (folder / where).write_text(json.dumps(config | {"chat_template": CHATML}))
    assert "chat" in ids(folder)


def test_that_it_was_trained_to_chat_is_said(folder):
    assert prepare("sampling", from_text("the sea"), checkpoint=str(folder)).note == ""
    (folder / "chat_template.jinja").write_text(CHATML)
    assert "trained to chat" in prepare("sampling", from_text("the sea"), checkpoint=str(folder)).note
    typed = from_text("<|im_start|>user\nthe sea<|im_end|>")
    assert prepare("sampling", typed, checkpoint=str(folder)).note == ""
    assert prepare("sampling", from_text("the sea")).note == ""


@pytest.mark.parametrize("made", [HOSTILE, "x" * 2_000_000, b"\xff\xfe\x00", "[]"])
def test_no_template_is_run_whatever_it_says(folder, made):
    (folder / "chat_template.jinja").write_bytes(made if isinstance(made, bytes) else made.encode())
    assert "chat" not in ids(folder) and len(chat.template(str(folder))) <= chat.LONGEST
