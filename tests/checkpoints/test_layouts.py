"""Every layout that the lens opens, from a saved folder through the whole path, against the library's eager maps."""

import numpy as np
import pytest
import torch

from models.backbones.pictures import cut
from models.checkpoints import families, store
from models.checkpoints.store import CheckpointError
from models.engine.method import follow, prepare, run, twin
from models.loops.attend import model_adapters
from models.trace import OWN
from models.trace.subject import SubjectError, from_image, from_text
from tests.folders import saved

TEXT = "the old sea house and the little red hen by the sea"
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
MORE = {"MistralForCausalLM": {"sliding_window": 4}, "GPT2LMHeadModel": {"scale_attn_by_inverse_layer_idx": True},
        "Qwen2ForCausalLM": {"num_hidden_layers": 3}}


def eager(bundle, given) -> np.ndarray:
    """The library's own maps [L, H, S, S] of ids or pixels, by a second model that runs eagerly."""
    import transformers
    named = type(bundle.model).__name__
    other = getattr(transformers, named).from_pretrained(bundle.folder, attn_implementation="eager").eval()
    more = {"output_attentions": True}
    if named.startswith("ViTMAE"):
        other.config.mask_ratio, more["noise"] = 0.0, torch.arange((32 // 8) ** 2)[None].float()
    with torch.no_grad():
        return np.stack([maps[0].numpy() for maps in other.base_model(given, **more).attentions])


@pytest.mark.parametrize("named", families.EVERY)
def test_what_the_lens_shows_is_eager_attention(named, tmp_path, one_thread):
    """Mutants: one scale or one causal flag for all layers; patches counted without what stands before them."""
    folder = saved(tmp_path / named, named, **MORE.get(named, {}))
    photo = named in families.PICTURES
    subject = from_image(PHOTO) if photo else from_text(TEXT)
    job = prepare("attention", subject, {"attribution": False}, checkpoint=str(folder))
    seen, given = model_adapters.sight(job), []
    hook = job.model.base_model.register_forward_pre_hook(  # what it read: ids, or pixels
        lambda layer, args, named: given.extend((*args, *filter(torch.is_tensor, named.values()))), with_kwargs=True)
    result = run("attention", subject, {"attribution": False}, checkpoint=str(folder))
    hook.remove()
    maps = eager(job.bundle, given[0] if given else cut(job.subject.image, job.model)[1])
    index, kept = seen.layout.index, result.kept["attend"]
    for layer in range(len(maps)):
        for head in range(maps.shape[1]):
            for query in {0, seen.query, len(index) - 1}:
                theirs = maps[layer, head, index[query]][index]
                assert np.abs(kept.row(layer, head, query) - theirs).max() < 2e-3, (layer, head, query)
    stamp = result.traces["attend"].provenance
    assert (stamp.grade, stamp.checkpoint) == (OWN, named) and len(maps) == len(result.traces["attend"].heads.layers)


@pytest.mark.parametrize("named", ["MPNetModel", "MPNetForMaskedLM", "AlbertModel", "DebertaV2Model"])
def test_a_layout_whose_attention_is_not_exposed_is_refused_by_name(named, tmp_path):
    import transformers
    cls = getattr(transformers, named)
    small = dict(vocab_size=120, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    cls(cls.config_class(**small)).save_pretrained(tmp_path / "net")
    with pytest.raises(CheckpointError, match=f"'net' is a {named}"):
        prepare("attention", from_text(TEXT), checkpoint=str(tmp_path / "net"))


@pytest.mark.parametrize("named", families.CAUSAL)
def test_causal_layouts_sample(named, tmp_path, one_thread):
    """Token by token is the whole text at once: the cache, windows and places are right."""
    folder = saved(tmp_path / named, named)
    result = run("sampling", from_text(TEXT), {"length": 6, "temperature": 0.0, "top_p": 1.0}, checkpoint=str(folder))
    bundle = store.load(str(folder))
    ids = bundle.tokenizer(TEXT)["input_ids"]
    wanted = bundle.model.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    got = result.traces["sample"].steps[-1].ids[: wanted.shape[1]]
    assert got.tolist() == wanted[0].tolist()


@pytest.mark.parametrize("named", families.PRUNED)
def test_causal_layouts_prune(named, tmp_path, one_thread):
    """With nothing cut, the layers token by token are the library's, read at once or in pieces; both runs stand on the
    folder. Mutants: places counted from the piece; keys of the piece alone; a mask from the upper left."""
    from models.loops.prune.forward import Pruner, unpruned
    folder = saved(tmp_path / named, named, use_sliding_window=False, sliding_window=64)
    job = prepare("lazyllm", from_text(TEXT), {"length": 3, "rounds": 1}, checkpoint=str(folder))
    ids = job.tokenizer(TEXT)["input_ids"]
    pruner = Pruner(job.model, unpruned(2), len(ids))
    ours = pruner.logits(pruner.advance(ids).hidden)[0, 0]
    with torch.no_grad():
        theirs = job.model(torch.tensor([ids])).logits[0, -1]
    assert float((ours - theirs).abs().max()) < 1e-4
    later = Pruner(job.model, unpruned(2), len(ids), watch=True)
    *_, newest = (later.advance(piece) for piece in (ids[:3], ids[3:-1], ids[-1:]))
    assert float((later.logits(newest.hidden)[0, 0] - theirs).abs().max()) < 1e-4
    maps = eager(job.bundle, torch.tensor([ids]))
    assert all(np.abs(sheet.attention.numpy() - maps[sheet.layer, :, -1]).max() < 1e-4 for sheet in newest.sheets)
    for one in (job, twin(job)):
        *_, last = follow(one)
        assert last.traces["prune"].provenance.checkpoint == named


def test_a_text_longer_than_a_layers_window_is_refused_where_tokens_leave(tmp_path):
    """Mutant: the window ignored, so that the pruned network is another one."""
    folder = saved(tmp_path / "mistral", "MistralForCausalLM", sliding_window=8)
    with pytest.raises(SubjectError, match="room for 5"):
        run("lazyllm", from_text(TEXT), {"length": 3}, checkpoint=str(folder))


@pytest.mark.parametrize("named", families.MASKED)
def test_masked_layouts_mask_and_unmask(named, tmp_path, one_thread):
    folder = saved(tmp_path / named, named)
    mask = run("mlm", from_text(TEXT), checkpoint=str(folder)).traces["mask"]
    assert "wrote the planted words itself" in mask.sentence
    filled = run("mdm", from_text("the old ___ house by the sea"), {"steps": 2}, checkpoint=str(folder))
    trace = filled.traces["unmask"]
    words, ids = store.load(str(folder)).tokenizer, trace.steps[-1].ids.tolist()
    assert [ids[0], ids[-1]] == [words.cls_token_id, words.sep_token_id] and trace.provenance.grade == OWN
    assert not set(words.all_special_ids) & set(ids[1:-1])
