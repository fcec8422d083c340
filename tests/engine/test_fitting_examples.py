"""A shipped example never asks its visitor to shorten it: on a small folder another one is shown, or its beginning."""

import pytest

from models.backbones.text import read, room
from models.engine.method import find, prepare, run, twin
from models.trace.subject import SubjectError, from_example, from_text
from tests.folders import saved

WRITERS = {"attention": {"steps": 8}, "sampling": {"length": 8}, "cntp": {"length": 8}, "byte-level": {"length": 8},
           "lazyllm": {"length": 4}, "top-attention": {"length": 4}, "random-keep": {"length": 4}}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return str(saved(tmp_path_factory.mktemp("small"), "LlamaForCausalLM"))  # 64 places


@pytest.fixture(scope="module")
def blanks(tmp_path_factory):
    return str(saved(tmp_path_factory.mktemp("blanks"), "BertForMaskedLM"))


@pytest.mark.parametrize("method", WRITERS)
def test_a_method_runs_on_its_first_example_in_a_small_folder(method, small):
    """Mutant: "This text has 300 tokens; this checkpoint has room for 56 here. Please shorten it."""
    for example in find(method).examples_for("text", small):
        job = prepare(method, from_example(example, "text"), WRITERS[method], checkpoint=small)
        shown = job.subject.name == example.id and job.subject.text == from_example(example, "text").text
        assert shown != ("this checkpoint has room for" in job.note), "what is shown instead is said"
    for trace in run(method, params=WRITERS[method], checkpoint=small).traces.values():
        assert trace.provenance.subject


@pytest.mark.parametrize("method", ["mlm", "mdm", "attention"])
def test_so_it_does_on_a_masked_folder(method, blanks):
    params = {"length": 8, "steps": 4} if method == "mdm" else {}
    longest = max((from_example(one, "text") for one in find(method).examples_for("text")), key=lambda s: len(s.text))
    trace = next(iter(run(method, longest, params, checkpoint=blanks).traces.values()))
    assert method == "mdm" or "this checkpoint has room for" in trace.provenance.note


def test_the_longest_example_that_fits_is_shown_and_named(tmp_path):
    folder = str(saved(tmp_path / "some", "LlamaForCausalLM", max_position_embeddings=400))
    every = {one.id: from_example(one, "text") for one in find("sampling").examples_for("text", folder)}
    job = prepare("sampling", every["rabbit-hole"], {"length": 8}, checkpoint=folder)
    sizes = {id: len(read(job.tokenizer, subject.text)) for id, subject in every.items()}
    fitting = {id: size for id, size in sizes.items() if size <= room(job.model) - 8}
    assert 0 < len(fitting) < len(sizes) and "rabbit-hole" not in fitting
    assert job.subject.name == max(fitting, key=fitting.get) and f"'{job.subject.name}', the longest" in job.note


def test_the_baseline_reads_the_same_subject(small):
    job = prepare("lazyllm", params={"length": 4}, checkpoint=small)
    assert "has room for" in job.note and twin(job).subject is job.subject


def test_what_a_visitor_typed_is_never_shortened(small):
    with pytest.raises(SubjectError, match="Please shorten it"):
        run("sampling", from_text("the sea and the cat " * 60), {"length": 8}, checkpoint=small)


def test_shipped_checkpoints_read_their_examples_whole(tiny):
    job = prepare("attention")
    assert job.note == "" and job.subject is not None
