"""What a visitor sees of public checkpoints: the menu, the progress, links, and what a Space preloads."""

from pathlib import Path

import pytest

from models.checkpoints import hub, store
from models.checkpoints.store import CheckpointError
from models.engine.method import find, prepare
from models.serving import links, session
from tests import fake_hub
from tests.checkpoints.public import AMUSED, ELECTRA, GPT2, SMOL, WRITER, fetch
from tools import space


def test_the_menu_says_size_and_licence_and_what_must_be_fetched(here):
    size = f"{hub.TABLE[GPT2].bytes / 1e6:.0f} MB"
    assert hub.title(GPT2) == f"{GPT2} ({size} to fetch, MIT)" and hub.title("text-ar-1") == "text-ar-1"
    fetch(GPT2)
    assert hub.title(GPT2) == f"{GPT2} ({size}, MIT)"


def test_the_page_shows_progress_then_the_new_menu_or_a_sentence(here, monkeypatch):
    import gradio as gr

    from visualizers.page.tab_handlers import FETCH, MODEL, Desk
    assert FETCH["concurrency_id"] != MODEL["concurrency_id"]  # a download never holds up the runs of others
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    with gr.Blocks():
        desk = Desk("sample", [find("sampling")])
    menu, status = desk.panel.checkpoint, desk.panel.status
    here.hold = 0.3
    *waiting, last = desk.fetch("sampling", GPT2)
    assert "fetching 0 of" in str(waiting[0][status]) and last[status] == [] and not said
    assert "to fetch" not in dict((name, words) for words, name in last[menu]["choices"])[GPT2]
    here.status, here.error = 403, "GatedRepo"
    last = list(desk.fetch("sampling", SMOL))[-1]
    assert last[status] == [] and "agreement" in said[0]
    assert last[menu]["value"] == "text-ar-1" and last[desk.panel.picker]["items"], "the menu leaves what is missing"
    assert len(list(desk.fetch("sampling", "text-ar-1"))) == len(list(desk.fetch("sampling", "../x"))) == 1


def test_a_link_to_a_public_checkpoint_is_followed_and_others_are_not(here):
    ask = session.Ask("sampling", "sample", checkpoint=GPT2)
    query = dict(pair.split("=") for pair in links.to_query(ask).split("&"))
    assert query["checkpoint"] == "openai-community%2Fgpt2"
    assert links.from_query({"method": "sampling", "checkpoint": GPT2}).checkpoint == GPT2
    for name in ("openai-community/gpt2-xl", "facebook/vit-mae-base", "../../etc", "openai-community/../gpt2"):
        with pytest.raises(ValueError, match="no checkpoint"):
            links.from_query({"method": "sampling", "checkpoint": name})


@pytest.mark.parametrize("name", ["../secrets", "/etc", "a/b", "openai-community/gpt2/../../x", "x" * 5000, "\x00",
                                  "https://huggingface.co/openai-community/gpt2", "text-ar-1/..", "."])
def test_no_other_name_reaches_the_hub_or_the_disk(here, name, monkeypatch):
    monkeypatch.setenv("SPACE_ID", "a/b")
    with pytest.raises(CheckpointError, match="no checkpoint"):
        prepare("sampling", checkpoint=name)
    assert fetch(name) == [] and not here.asked


def test_the_baseline_stands_on_the_same_public_weights(here, one_thread):
    fetch(SMOL)
    first = prepare("lazyllm", checkpoint=SMOL, params={"length": 2})
    assert session.beside(first, "random-keep").bundle.name == SMOL


def test_a_space_that_preloads_a_public_checkpoint_names_its_files_and_commit():
    import yaml
    root = Path(__file__).resolve().parents[2]
    found = yaml.safe_load((root / "Spacefile").read_text()) | {"preload": ["text-ar-1", GPT2]}
    front = yaml.safe_load(space.front_matter(space.declared(yaml.safe_dump(found))).split("---")[1])
    assert front["models"] == [GPT2] and "preload" not in front
    assert front["preload_from_hub"] == [f"{GPT2} config.json,model.safetensors,tokenizer.json,tokenizer_config.json "
                                         f"{hub.TABLE[GPT2].revision}"]


def test_a_space_preloads_all_parts_and_never_what_nobody_pinned(here, monkeypatch, layouts):
    import yaml
    root = Path(__file__).resolve().parents[2]
    front = space.fetched([AMUSED, ELECTRA])
    assert front["models"] == [AMUSED, WRITER, ELECTRA]
    for line, name in zip(front["preload_from_hub"], front["models"]):
        repo, files, revision = line.split()
        assert (repo, revision) == (name, hub.TABLE[name].revision)
        assert all((layouts[name] / file).is_file() for file in files.split(","))
    monkeypatch.setattr(hub, "TABLE", fake_hub.served(layouts)[0])
    found = yaml.safe_load((root / "Spacefile").read_text()) | {"preload": [AMUSED]}
    with pytest.raises(space.SpaceError, match="Neither shipped nor pinned"):
        space.declared(yaml.safe_dump(found))


def test_preloading_goes_on_when_one_cannot_be_had(here, caplog):
    here.status, here.error = 403, "GatedRepo"
    store.preload(GPT2)
    assert "not preloaded" in caplog.text and "agreement" in caplog.text
