"""Every term that stopped a reader is explained where it stands: by pointer, by keyboard, and on a phone by a tap."""

import json
import re

import pytest
from playwright.sync_api import expect

from models import claims
from models.engine.method import atlas
from models.trace.subject import ASSETS
from visualizers.page import nodes

# What readers stumbled over (the audit of the page).
STUMBLED = (
    "nats", "AUC", "rho", "rank correlation", "linear probe", "eager attention", "convergence delta", "warpers",
    "nucleus", "perplexity", "chi-square per degree of freedom", "total variation", "q(x)", "p(x)", "PSNR",
    "exam difficulty",
    "suspicion", "kernel paths", "gathered submanifold convolution", "token rows", "(token, layer) pairs",
    "waiting states", "static", "knobs", "share of the gap closed", "chimeras", "lit codes", "favourite",
    "fed with fillers", "gate", "phase 2")
# Short names that stand for themselves: models of papers, files, units.
NAMES = re.compile(r"\d+[A-Z]-H2|I-JEPA|LLaVA-OneVision|LlamaGen|MAGE|MAR|SimMIM|MASK|MID|GPU|MB|NOTES|README|LM|MATH")
SHORT = re.compile(r"(?<![\w-])[A-Za-z0-9-]*[A-Z][A-Za-z0-9-]*[A-Z][A-Za-z0-9-]*")


def test_every_term_that_stopped_a_reader_is_in_the_glossary():
    forms = [form.lower() for entry in nodes.glossary() for form in entry.get("forms", ())]
    assert not [term for term in STUMBLED if term.lower() not in forms]
    assert len(forms) == len(set(forms)), "one meaning a form"
    assert any(re.fullmatch(entry["pattern"], "22+10") for entry in nodes.glossary() if "pattern" in entry)


def unexplained(text: str) -> set[str]:
    """Abbreviations in a text that neither the glossary nor a method's title explains."""
    titles = " ".join(f"{m.card.title} {m.id}" for m in atlas().values()).lower()
    forms = {form.lower() for entry in nodes.glossary() for form in entry.get("forms", ())}
    patterns = [entry["pattern"] for entry in nodes.glossary() if "pattern" in entry]
    return {word for word in SHORT.findall(text) if word.lower() not in forms and not NAMES.fullmatch(word)
            and word.lower().rstrip("s") not in titles and not any(re.fullmatch(one, word) for one in patterns)}


@pytest.mark.parametrize("id", atlas())
def test_an_abbreviation_on_a_card_or_in_a_claim_is_explained(id):
    card, found = atlas()[id].card, claims.read(id)
    said = [card.summary, card.look_at, card.not_covered, card.unverified]
    if found:
        said += [found["paper"], found["here"], *(row["name"] for row in (*found["rows"], *found["context"]))]
    assert not unexplained(" ".join(said))


def test_the_rule_sees_an_abbreviation():
    assert unexplained("its DPO, by LoRA, and a WGAN") == {"WGAN"}


def test_a_term_says_more_than_its_own_name():
    for entry in nodes.glossary():
        assert len(entry["says"]) > 30 and entry["says"] != entry["term"]
    assert json.loads((ASSETS / "glossary.json").read_text("utf-8"))


@pytest.mark.browser
def test_a_term_is_explained_by_pointer_and_by_keyboard(visit):
    page = visit("?tab=sample")
    term = page.locator("#sample-player .term, #sample-claim .term").first
    term.wait_for()
    before = page.locator("#sample-player").inner_text()
    term.hover()
    expect(page.locator(".says")).to_contain_text(term.get_attribute("data-term"))
    page.mouse.move(0, 0)
    expect(page.locator(".says")).to_have_count(0)
    term.focus()
    expect(page.locator(".says")).to_be_visible()
    assert term.get_attribute("aria-describedby") == "term-says"
    page.keyboard.press("Escape")
    expect(page.locator(".says")).to_have_count(0)
    assert page.locator("#sample-player").inner_text() == before, "marking a term changes no word"


@pytest.mark.browser
def test_a_term_is_explained_by_a_tap(visit):
    page = visit("?tab=unmask", width=390, height=844, has_touch=True)
    term = page.locator("#unmask-player .term").first
    term.wait_for()
    term.tap()
    box = page.locator(".says").bounding_box()
    assert 0 <= box["x"] and box["x"] + box["width"] <= 390
