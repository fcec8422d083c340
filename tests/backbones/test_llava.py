"""VFlowOpt on a LLaVA-OneVision: the adapter is the library's own model, and the traps of the method hold there too.

The reference is transformers itself: its features of one picture without detail crops (which it packs like that when
there are two), in its own forward pass. Each test says which mistake it catches, or keeps it beside the right way.
"""
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.backbones.pictures import normalise, square
from models.backbones.text import names
from models.checkpoints import hub, store
from models.checkpoints.store import CheckpointError
from models.engine.method import find, follow, prepare, twin
from models.loops.prune import pictures
from models.loops.prune.photo_questions import EXAMPLES, USUAL
from models.loops.prune.pictures import answer_logits, encoded, everything, last_state, prefill
from models.papers.vflowopt import method as vflowopt
from models.papers.vflowopt.method import Knobs, entropy, plan, unsearched
from models.trace.subject import Subject, SubjectError, from_example
from models.worlds.questions import Question
from tests import tiny
from tests.fake_llava import PATCH, SIDE, SPECIAL, TEMPLATE, llava
from visualizers.page import panel

KNOBS = Knobs(0.4, 0.6, 1.2, 3.0, 0.3)
COUNT = (SIDE // PATCH) ** 2
ASKED = "What lies on the saucer?"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return llava(tmp_path_factory.mktemp("hub") / "tiny" / "llava")


@pytest.fixture(scope="module")
def bundle(folder):
    return store.load(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def model(bundle):
    return bundle.model


@pytest.fixture(scope="module")
def theirs(folder):
    """The library's own class on the same files."""
    from transformers import LlavaOnevisionForConditionalGeneration
    return LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def image():
    return from_example(EXAMPLES[0], "photo").image


@pytest.fixture(scope="module")
def seen(bundle, image):
    return encoded(bundle.model, bundle.tokenizer, bundle.model.cut(image), Question("photo", ASKED, ""))


@pytest.fixture
def public(folder, bundle, monkeypatch):
    """The stand-in under a public name, which the three methods of the tab offer."""
    monkeypatch.chdir(folder.parent.parent)
    monkeypatch.setattr(hub, "offered", lambda method: ("tiny/llava",))
    store.register("tiny/llava", lambda: replace(bundle, name="tiny/llava", own=False))
    yield "tiny/llava"
    store._makers.clear()
    store.unload()


def finished(job):
    *_, last = follow(job)
    return last.traces["prune"]


# ---- the adapter is the library's model ------------------------------------------------------------------------------

@torch.no_grad()
def reference(theirs, image, ids):
    """The library's logits [V] of the next token, for one base view in a prompt with one <image>."""
    pixels = torch.tensor(square(image, SIDE)).permute(2, 0, 1)[None] / 127.5 - 1  # 62 wide, from -1 to 1
    two = {"pixel_values": pixels[:, None].expand(2, 1, -1, -1, -1), "batch_num_images": torch.tensor([2]),
           "image_sizes": torch.tensor([[SIDE, SIDE]] * 2)}
    found = theirs.get_image_features(**two)
    found.pooler_output = found.pooler_output[:1]
    at = ids.index(theirs.config.image_token_id)
    expanded = [*ids[:at], *[ids[at]] * len(found.pooler_output[0]), *ids[at + 1 :]]
    return theirs(input_ids=torch.tensor([expanded]), mm_encoder_outputs={"image": found}).logits[0, -1]


@torch.no_grad()
def mine(model, features, before, behind):
    """The same from parts that a mistake may have changed."""
    hidden = torch.cat([before, model.visual(features), behind], 1)
    return model.lm_head(model.model.language_model(inputs_embeds=hidden).last_hidden_state[0, -1])


@torch.no_grad()
def test_nothing_pruned_is_the_librarys_own_forward(model, theirs, image, seen):
    wanted = reference(theirs, image, seen.ids)
    state = last_state(model, prefill(model, everything(seen), seen.ids)[1])
    found = answer_logits(model, state)
    spoken = found.isfinite()  # rows without a token have no probability here
    assert spoken.float().mean() > 0.9
    torch.testing.assert_close(found[spoken], wanted[spoken], atol=1e-4, rtol=0)

    before, behind = model.around(seen.ids)
    tower = model.model.vision_tower
    normed = tower(model.prepared(seen.picture)).last_hidden_state
    for mistake in (mine(model, seen.features, before, behind[:, 1:]),  # no image_newline
                    mine(model, seen.features, torch.cat([before, behind[:, :1]], 1), behind[:, 1:]),  # in front
                    mine(model, normed, before, behind),  # after the encoder's last norm
                    mine(model, seen.features, before[:, :0], torch.cat([before, behind], 1))):  # picture first
        assert (mistake - wanted)[spoken].abs().max() > 0.01
    torch.testing.assert_close(mine(model, seen.features, before, behind)[spoken], wanted[spoken], atol=1e-4, rtol=0)


def test_pixels_that_fill_no_patch_are_left_over(model, image):
    """Mutant: entropy or the picture's marks over all 62 pixels, where patches cover 56."""
    whole, covered = square(image, SIDE), model.cut(image)
    assert covered.shape == (56, 56, 3) and np.array_equal(whole[:56, :56], covered)
    with torch.no_grad():
        both = [model.encode(model.prepared(picture)) for picture in (whole, covered)]
    torch.testing.assert_close(*both)
    assert entropy(covered, model.grid).shape == (COUNT,)
    with pytest.raises(ValueError):
        entropy(whole, model.grid)


def test_colours_are_what_the_librarys_processor_makes_of_them(model, folder, image):
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
    processor = LlavaOnevisionImageProcessorPil.from_pretrained(folder)
    whole = square(image, SIDE)
    base = torch.as_tensor(np.asarray(processor([whole], return_tensors="pt")["pixel_values"][0][0]))
    torch.testing.assert_close(model.prepared(whole)[0], base, atol=1e-5, rtol=0)
    assert not torch.allclose(normalise(whole[None])[0], base, atol=0.1), "the mistake: ImageNet's colours"


def test_the_prompt_is_the_repositorys_chat_with_one_place_for_the_picture(model, bundle):
    words = bundle.tokenizer
    ids = model.prompt(words, ASKED)
    said = [{"type": "image"}, {"type": "text", "text": f"{ASKED}\nAnswer the question using a single word or phrase."}]
    chat = words.apply_chat_template([{"role": "user", "content": said}], chat_template=TEMPLATE, tokenize=False,
                                     add_generation_prompt=True)
    assert ids == words(chat, add_special_tokens=False)["input_ids"]
    assert ids.count(model.config.image_token_id) == 1
    assert chat.startswith("<|im_start|>user <image>\nWhat") and chat.endswith("<|im_end|><|im_start|>assistant\n")


@pytest.mark.parametrize("token", SPECIAL)
def test_signs_of_the_chat_are_no_part_of_a_question(model, bundle, token):
    """Mutant: a second <image> in the question would stand for a second picture."""
    with pytest.raises(SubjectError, match="leave .* out of the question"):
        model.prompt(bundle.tokenizer, f"What {token} is this?")


def test_importance_is_taken_from_the_last_layer_of_the_encoder(folder, model, seen):
    from transformers import LlavaOnevisionForConditionalGeneration
    eager = LlavaOnevisionForConditionalGeneration.from_pretrained(folder, dtype=torch.float32,
                                                                   attn_implementation="eager").eval()
    with torch.no_grad():
        out = eager.model.vision_tower(model.prepared(seen.picture), output_attentions=True)
    first, last = (layer[0].mean(0) for layer in out.attentions)
    torch.testing.assert_close(seen.attention, last, atol=1e-5, rtol=0)
    assert not torch.allclose(seen.attention, first, atol=1e-2)


# ---- the traps of the method -----------------------------------------------------------------------------------------

def test_the_sequence_is_really_shorter_and_nothing_around_the_picture_leaves(model, seen):
    made = plan(seen, KNOBS, 0.25)
    pruner, now = prefill(model, made, seen.ids)
    counts, words = made.counts(4), len(seen.ids)  # one <image> less, one image_newline more
    around = {*range(seen.first), *range(seen.first + COUNT, COUNT + words)}
    assert seen.first == seen.ids.index(model.config.image_token_id) > 0 and counts[-1] < counts[0] < COUNT
    for sheet in now.sheets:
        assert len(sheet.rows) == len(sheet.alive) == counts[sheet.layer] + words
        assert around <= set(sheet.alive.tolist())
    per_token = 2 * 2 * 8 * 4  # keys and values, two heads of 8, four bytes
    assert pruner.store.bytes == per_token * (sum(counts) + 4 * words)
    whole, _ = prefill(model, everything(seen), seen.ids)
    assert whole.store.bytes == per_token * 4 * (COUNT + words), "the mistake: masking would leave all of these"


@torch.no_grad()
def plain(model, made, seen, numbered):
    """The pruned prefill by the library's own layers on shortened tensors: the last state [D]. numbered(places) -> the
    positions of the tokens that are left."""
    lm, (before, behind), first = model.model.language_model, model.around(seen.ids), seen.first
    places = [*range(first), *(first + made.kept).tolist(), *range(first + COUNT, COUNT + len(seen.ids))]
    hidden = torch.cat([before, model.visual(made.features), behind], 1)
    for layer in range(4):
        if layer in made.cuts:
            visual = [p for p in places if first <= p < first + COUNT]
            lowest = sorted(visual, key=lambda p: float(made.importance[p - first]))[: made.cuts[layer]]
            stay = [i for i, p in enumerate(places) if p not in lowest]
            hidden, places = hidden[:, stay], [places[i] for i in stay]
        angles = lm.rotary_emb(hidden, torch.tensor(numbered(places))[None])
        hidden = lm.layers[layer](hidden, position_embeddings=angles)
    return lm.norm(hidden)[0, -1]


def test_survivors_keep_their_places(model, seen):
    made = plan(seen, KNOBS, 0.25)
    found = last_state(model, prefill(model, made, seen.ids)[1])
    torch.testing.assert_close(found, plain(model, made, seen, list), atol=1e-4, rtol=0)
    closed = plain(model, made, seen, lambda places: list(range(len(places))))  # the mistake: gaps closed
    unshifted = plain(model, made, seen, lambda places: [  # the mistake: patches counted from 0, not behind the prompt
        p - seen.first if seen.first <= p < seen.first + COUNT else p for p in places])
    assert not torch.allclose(found, closed, atol=1e-2) and not torch.allclose(found, unshifted, atol=1e-2)


def test_the_cuts_take_patches_by_their_own_importance(model, seen):
    """Mutant: places of the sequence looked up in the importance of patches, off by the words before them."""
    made = plan(seen, KNOBS, 0.25)
    _, now = prefill(model, made, seen.ids)
    left = [sheet.left - seen.first for sheet in now.sheets if len(sheet.left)]
    assert [len(gone) for gone in left] == list(made.cuts.values())
    alive = made.kept
    for gone in left:
        stay = alive[~torch.isin(alive, gone)]
        assert made.importance[gone].max() <= made.importance[stay].min()
        assert not torch.equal(gone, stay[: len(gone)])
        alive = stay


def test_recycled_tokens_and_no_others_count_in_the_budget(seen):
    made = plan(seen, replace(KNOBS, r0=0.3, r1=0.8), 0.25)
    alone = COUNT - round(COUNT * 0.7) - int(COUNT / 3.0**2)
    assert len(made.kept) == alone + len(made.groups) > alone
    assert made.counts(4)[0] == len(made.kept)
    uncounted = sum(n - len(made.groups) for n in made.counts(4)) / (4 * COUNT)  # the mistake
    assert uncounted < made.share(4, COUNT)
    assert everything(seen).share(4, COUNT) == 1.0, "the mistake: image_newline or the prompt counted among patches"


def test_a_folded_token_is_made_of_features_before_the_projector(model, seen):
    made = plan(seen, KNOBS, 0.25)
    group = max(made.groups, key=lambda g: len(g.members))
    at = made.kept.tolist().index(group.target)
    weights = torch.tensor(group.weights)[:, None]
    wanted = (weights * seen.features[0, list(group.members)]).sum(0)
    torch.testing.assert_close(made.features[0, at], wanted)
    behind = (weights * model.visual(seen.features)[0, list(group.members)]).sum(0)  # the mistake: it is not linear
    assert not torch.allclose(model.visual(made.features)[0, at], behind, atol=1e-2)


# ---- the record ------------------------------------------------------------------------------------------------------

def test_a_photo_is_pruned_and_says_that_nobody_searched(public):
    trace = finished(prepare("vflowopt", checkpoint=public, seed=1))
    assert trace.canvas.shape == (7, 7) and trace.canvas.picture.shape == (56, 56, 3)
    assert trace.provenance.checkpoint == public and trace.provenance.subject == "coffee"
    assert vflowopt.UNSEARCHED in trace.sentence and ASKED in trace.sentence
    assert "answer" not in trace.facts and "right" not in trace.sentence, "nobody knows the right answer"
    assert trace.facts["budget"].value == pytest.approx(25, abs=3)
    labels = [step.label for step in trace.steps]
    assert labels[:5] == ["the picture", "relevance", "entropy", "importance", "what enters"]
    alive = [len(step.where("known", "recycled")) for step in trace.steps[4:]]
    assert alive == sorted(alive, reverse=True) and alive[-1] < alive[0] < COUNT
    assert vflowopt.UNSEARCHED not in finished(prepare("vflowopt", None, {"knobs": "default"}, checkpoint=public)
                                               ).sentence


def test_searched_means_unsearched_where_the_weights_bring_no_search(public):
    job = prepare("vflowopt", checkpoint=public)
    seen = pictures.view(job)
    found, made = vflowopt.own_plan(job, seen), plan(seen, unsearched(0.25, 4), 0.25)
    assert found.cuts == made.cuts and torch.equal(found.kept, made.kept)


def test_the_last_words_attention_is_drawn_on_the_patches_that_it_reads(public):
    """Mutant: the first numbers of the row, which belong to the prompt's first words."""
    job = prepare("vflowopt", checkpoint=public, seed=1)
    view = pictures.view(job)
    _, now = prefill(job.model, vflowopt.own_plan(job, view), view.ids, watch=True)
    last, row = now.sheets[-1], now.sheets[-1].attention.mean(0)
    step = finished(job).steps[-1]
    shown = step.fields["attention"]
    for place, value in zip(last.alive.tolist(), row.tolist(), strict=True):
        if view.first <= place < view.first + COUNT:
            assert shown[place - view.first] == pytest.approx(100 * value, rel=1e-3)
    assert np.isfinite(shown).sum() == len(step.where("known", "recycled"))


@pytest.mark.parametrize("id", ["vflowopt", "top-attention"])
def test_the_baseline_reads_the_same_photo_and_question_on_the_same_weights(id, public):
    job = prepare(id, None, {"question": "Is it hot?"}, checkpoint=public)
    other = twin(job)
    assert other.bundle.name == public and other.params.question == "Is it hot?" and other.subject is job.subject
    mine, beside = finished(job), finished(other)
    assert "Is it hot?" in mine.sentence and "Is it hot?" in beside.sentence
    assert mine.facts["budget"].value == pytest.approx(beside.facts["budget"].value)


def test_your_turn_scores_a_choice_of_patches(public):
    job = prepare("vflowopt", checkpoint=public)
    chosen = tuple(range(job.method.turn.count(job)[0]))
    trace = finished(replace(job, choice=(chosen,)))
    assert np.isfinite(trace.facts["agreement"].value) and not trace.steps[4].edges


def test_questions_are_the_examples_or_the_visitors(public):
    def asked(subject=None, question=""):
        return pictures.view(prepare("vflowopt", subject, {"question": question}, checkpoint=public)).question.text

    own = Subject("photo", image=np.full((40, 60, 3), 90, np.uint8))
    assert asked() == ASKED and asked(own) == USUAL and asked(own, "  Who\n is  it? ") == "Who is it?"
    for bad in ("\x00\x01", "\ud800"):
        with pytest.raises(SubjectError):
            asked(own, bad)


@pytest.mark.parametrize("id", ["vflowopt", "random-keep", "top-attention"])
def test_photos_come_with_the_checkpoint_and_with_no_other(id, public):
    method = find(id)
    assert method.kind(public) == "photo" and method.examples_for("photo") == EXAMPLES
    assert method.kind() == method.accepts and method.kind("scene-vlm-1") == "question"
    assert not {e.id for e in method.examples_for("question")} & {e.id for e in EXAMPLES}
    with pytest.raises(SubjectError, match="needs a photo"):
        prepare(id, Subject("question", text="red circle. how many rings?"), checkpoint=public)


def test_words_of_scenes_read_as_before():
    words = tiny.question_tokenizer()
    everyone = list(range(len(words)))
    assert [name.strip() for name in names(words, everyone)] == words.convert_ids_to_tokens(everyone)


# ---- other files -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("other", [{"vision_feature_layer": -2}, {"vision_feature_select_strategy": "default"}])
def test_a_checkpoint_that_is_read_in_another_way_is_refused(tmp_path, other):
    """Mutant: loaded all the same, it would answer from other features than it was trained on."""
    with pytest.raises(CheckpointError, match="built otherwise"):
        store.load(str(llava(tmp_path / "other", **other)), dtype="float32")


def test_the_weights_are_those_of_the_file(folder, model):
    from safetensors.torch import load_file
    stored, now = load_file(str(folder / "model.safetensors")), model.state_dict()
    for old, new in (("image_newline", "model.image_newline"),
                     ("language_model.model.embed_tokens.weight", "lm_head.weight"),
                     ("vision_tower.vision_model.encoder.layers.1.mlp.fc1.weight",
                      "model.vision_tower.encoder.layers.1.mlp.fc1.weight")):
        assert torch.equal(now[new], stored[old].float())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_says_the_same(folder, public, seen):
    on = store.load(str(folder), device="cuda", dtype="float32")
    again = encoded(on.model, on.tokenizer, seen.picture, seen.question)
    made = plan(again, KNOBS, 0.25)
    here = last_state(on.model, prefill(on.model, made, again.ids)[1]).cpu()
    assert made.cuts == plan(seen, KNOBS, 0.25).cuts and here.isfinite().all()
    store.register(public, lambda: on)
    assert finished(prepare("vflowopt", checkpoint=public)).facts["cosine"].value <= 1.001


def test_a_question_about_a_photo_is_offered_where_a_photo_is(monkeypatch):
    """Mutant: a box that does nothing, on every server without a GPU."""
    method = find("vflowopt")
    assert "question" not in panel.controls(method, {}, folded=True)
    monkeypatch.setattr(type(method), "choices", (*method.checkpoints, "photos"))
    monkeypatch.setattr(type(method), "kind", lambda method, name: "photo" if name == "photos" else "question")
    assert "question" in panel.controls(method, {}, folded=True)
