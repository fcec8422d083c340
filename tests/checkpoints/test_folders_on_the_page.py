"""A visitor's folder on the page: it runs, is called what it is, or is refused; nothing runs in its place."""

import pytest

from models.engine.method import find
from models.serving import links
from models.trace import OWN
from tests.folders import saved


@pytest.fixture
def desk(tiny, monkeypatch):
    """The Attend tab's events, and what the page says."""
    import gradio as gr

    from visualizers.page.tab_handlers import Desk
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    with gr.Blocks():
        made = Desk("attend", [find("attention"), find("lazyllm")])
    made.said = said
    return made


def pressed(desk, id: str, checkpoint: str, text: str = "") -> list[dict]:
    """Enter in the menu, then Run."""
    list(desk.fetch(id, checkpoint))
    settings = {"attribution": False} if id == "attention" else {}
    return list(desk.run(id, {"selected": ""}, text, None, 1, checkpoint, [], settings))


@pytest.mark.parametrize("typed", ["text-mdm-l", "/etc", "a/b", "", "\x00", "x" * 3000, "~nobody", "text-mlm-1"])
def test_what_cannot_be_had_is_refused_on_enter_and_on_run(desk, typed):
    """Mutants: the default checkpoint in its place, from the menu or from the run."""
    steps = pressed(desk, "attention", typed)
    assert len(desk.said) == 2 and all(5 < len(one) for one in desk.said)
    assert not any(desk.panel.strip in step for step in steps)
    assert desk.panel.checkpoint not in list(desk.fetch("attention", typed))[-1]


def test_a_folder_runs_under_its_own_name_and_its_link_carries_no_path(desk, tmp_path):
    folder = saved(tmp_path / "mine", "ViTModel")
    steps = pressed(desk, "attention", str(folder))
    strip = str([step[desk.panel.strip] for step in steps if desk.panel.strip in step])
    query = next(step[desk.panel.query] for step in steps if desk.panel.query in step)
    assert not desk.said and OWN in strip and "'mine'" in strip and str(tmp_path) not in strip + query
    assert f"checkpoint={links.FOLDER}" in query


def test_a_folder_that_the_method_does_not_take_is_refused_with_the_classes(desk, tmp_path):
    pressed(desk, "lazyllm", str(saved(tmp_path / "bert", "BertModel")), "the sea")
    assert len(desk.said) == 2 and "LlamaForCausalLM" in desk.said[0] and "BertModel" in desk.said[0]


def test_where_others_reach_the_page_no_folder_is_looked_at(desk, tmp_path, monkeypatch):
    """Mutant: a page that is served to a network tells its visitors what lies on its disk."""
    monkeypatch.setenv("TOKENSCOPE_FOLDERS", "0")
    pressed(desk, "attention", str(saved(tmp_path / "mine", "ViTModel")))
    assert len(desk.said) == 2 and "no checkpoint" in desk.said[0]


def test_a_method_with_one_checkpoint_of_its_own_takes_a_folder_too(tiny, tmp_path, monkeypatch):
    """Mutant: its menu was hidden, and a folder that came by link was replaced by the only checkpoint, unsaid."""
    import gradio as gr

    from visualizers.page.panel import one_only
    from visualizers.page.tab_handlers import Desk
    monkeypatch.setenv("TOKENSCOPE_PUBLIC", str(tmp_path / "none"))
    with gr.Blocks():
        desk = Desk("sample", [find("byte-level"), find("lantern")])
    folder = str(saved(tmp_path / "mine", "LlamaForCausalLM"))
    asked = desk.ask("byte-level", {}, "the sea", None, 1, folder, [], {"length": 2})
    assert asked.checkpoint == folder and not one_only(find("byte-level")) and one_only(find("lantern"))
    monkeypatch.setenv("TOKENSCOPE_FOLDERS", "0")
    assert one_only(find("byte-level")), "where no folder is looked at there is nothing to choose"


def test_public_weights_stand_in_the_menu_once_they_are_made(tiny, tmp_path, monkeypatch):
    from visualizers.page.panel import _menu
    monkeypatch.setenv("TOKENSCOPE_PUBLIC", str(tmp_path))
    assert "smollm2" not in dict((name, words) for words, name in _menu(find("sampling")))
    (saved(tmp_path / "smollm2", "LlamaForCausalLM") / "card.json").write_text("{}")
    menu = {name: words for words, name in _menu(find("sampling"))}
    assert "SmolLM2-135M-Instruct" in menu["smollm2"] and "Apache-2.0" in menu["smollm2"]
    assert "smollm2" in dict((name, words) for words, name in _menu(find("attention")))
    assert "smollm2" not in dict((name, words) for words, name in _menu(find("maskgit"))), "it takes no such class"
