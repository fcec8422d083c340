"""What a trace says about the kernels is what ran; what is shown about attention and words comes from the kernels."""

import ast
from pathlib import Path

import pytest
import torch

import kernels

ROOT = Path(__file__).resolve().parents[2]
TABLES = {"softmax", "log_softmax", "logsumexp", "multinomial", "entr", "output_attentions"}
ALLOWED = {  # file -> what it may use, and why
    "loops/attend/model_adapters.py": {"log_softmax"},  # attribution differentiates it; it is not shown
    "loops/attend/classifiers.py": {"softmax"},  # over a classifier's classes
    "baselines/mdm/chain.py": {"log_softmax"},  # the claim's chain rule on given tokens; nothing of it is drawn
    "papers/sparsifiner/method.py": {"softmax"},  # over a classifier's classes
    "papers/sparsifiner/network.py": {"softmax"},  # the method's own attention: over basis maps, and over kept keys
    "papers/sparsifiner/record.py": {"softmax"},  # over a classifier's classes
    "loops/prune/picture_records.py": {"softmax"},  # over the answers of a kind of question
    "papers/vflowopt/method.py": {"softmax"},  # over entropies of patches, as the importance is defined
    "papers/byte_level/cover_encodings.py": {"logsumexp", "softmax"},  # over covers, not over a vocabulary
    "loops/sample/cached_lm.py": {"log_softmax"},  # a divergence needs both tables; no kernel sums them
    "loops/sample/speculative_decoding.py": {"softmax"},  # the rules move mass between codes
    "loops/sample/drafting_records.py": {"entr"},  # of the tables that the rules used
    "backbones/drafter.py": {"softmax", "log_softmax"},  # the drafter's loss in training
    "loops/unmask/two_masks.py": {"softmax"},  # the exact joint, to which every other way is compared
    "papers/bigram_subnetworks/record.py": {"softmax"},  # a total variation needs both tables
    "papers/graphadapter/network.py": {"softmax"},  # the method's own attention: over linked pages
    "papers/selfie/network.py": {"softmax"},  # the method's own attention: the pooling looks at visible patches
    "backbones/simmim.py": {"softmax"},  # over a token's channels, as heterogeneity is defined
    "papers/icn/keys.py": {"multinomial"},  # the first centres of k-means++
    "papers/patch_mixing/mixing.py": {"log_softmax"},  # the loss in training, over classes
    "papers/patch_mixing/record.py": {"softmax"},  # over a classifier's classes
}
pytestmark = pytest.mark.usefixtures("one_thread")


def used(source: str) -> set[str]:
    """Names out of TABLES that a source calls or passes on as true."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found |= {name} & TABLES
            found |= {key.arg for key in node.keywords if key.arg in TABLES}
    return found


@pytest.mark.parametrize("room", ("loops", "papers", "baselines", "backbones"))
def test_no_method_makes_a_softmax_table_or_an_attention_map(room):
    for file in sorted((ROOT / "models" / room).rglob("*.py")):
        if file.stem.startswith("claim") or file.stem == "recipe":  # these draw nothing
            continue
        place = file.relative_to(ROOT / "models").as_posix()
        found = used(file.read_text("utf-8")) - ALLOWED.get(place, set())
        assert not found, f"models/{place} uses {sorted(found)}; kernels.vocab_stats or observe() says it"


def test_the_scan_sees_what_it_forbids():
    assert used("x = model(ids, output_attentions=True)\np = logits.float().softmax(-1)") == {
        "output_attentions", "softmax"}
    assert used("kernels.vocab_stats(logits)") == set()


def test_only_the_steps_of_a_run_are_watched_and_a_closed_run_is_over():
    names, mine, logits, ended = set(), set(), torch.randn(2, 9), []

    def steps():
        try:
            yield kernels.vocab_stats(logits)
            yield 2
        finally:
            ended.append(True)

    run = kernels.watched(steps(), names)
    other = kernels.watched(iter([kernels.attention_rows]), mine)
    next(run)
    kernels.attention_rows(*[torch.randn(1, 1, 3, 4)] * 2, [0])  # between two steps: nobody's
    next(other)
    run.close()
    assert names == {"vocabulary cpu-tiled"} and not mine and ended
    with pytest.raises(ZeroDivisionError):  # errors pass, and nothing stays watched
        list(kernels.watched((1 // x for x in (1, 0)), names))
    kernels.attention_rows(*[torch.randn(1, 1, 3, 4)] * 2, [0])
    assert names == {"vocabulary cpu-tiled"}
