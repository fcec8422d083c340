"""The patch tokenizer and the masked transformer."""
import json

import numpy as np
import pytest
import torch

from models.backbones.fsq import FsqTokenizer
from models.backbones.masked import MaskedTransformer
from models.worlds import scenes
from training.export import SHIPPED, read_shipped, save_hub


def small(**changes):
    torch.manual_seed(0)
    return MaskedTransformer(**{"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                                "cond_vocab_size": 9, "cond_length": 3, "grid": (6, 6), **changes}).eval()


def test_fsq_codes_survive_decoding_and_every_code_is_reachable():
    coder = FsqTokenizer(hidden_size=8, levels=(3, 2))
    ids = torch.arange(6).reshape(1, 2, 3)
    digits = ids[..., None] // coder.basis % coder.steps.long()
    assert torch.equal((digits * coder.basis).sum(-1), ids)
    assert coder.decode(ids).shape == (1, 3, 8, 12)
    far = torch.tensor([[-9.0, 9.0], [9.0, -9.0], [0.0, 0.0]])
    assert coder.quantise(far).round().tolist()[:2] == [[0, 1], [2, 0]]


def test_the_straight_through_gradient_is_the_unrounded_one():
    coder = FsqTokenizer(hidden_size=8, levels=(5, 5))
    z = torch.tensor([[0.3, -0.7]], requires_grad=True)
    coder.quantise(z).sum().backward()
    smooth = torch.tensor([[0.3, -0.7]], requires_grad=True)
    (torch.sigmoid(smooth) * 4).sum().backward()
    assert torch.allclose(z.grad, smooth.grad)


def test_the_shipped_tokenizer_rebuilds_scenes_and_not_shuffled_codes():
    coder, rng = read_shipped("scene-vq-1"), np.random.default_rng(3)
    asked = [scenes.sample(rng) for _ in range(16)]
    drawn = torch.from_numpy(np.stack([scenes.draw(a) for a in asked])).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        codes = coder.encode(drawn)
        mixed = codes.flatten(1)[:, torch.from_numpy(rng.permutation(256))].reshape(codes.shape)
        pictures = [(coder.decode(c).permute(0, 2, 3, 1) * 255).round().byte().numpy() for c in (codes, mixed)]
    scores = [np.mean([scenes.score(a, scenes.parse(p)) for a, p in zip(asked, ps, strict=True)]) for ps in pictures]
    assert scores[0] > 0.99
    assert scores[1] < 0.05


def test_shapes_prefix_and_null_condition():
    model, ids = small(), torch.randint(0, 50, (2, 36))
    cond = torch.tensor([[1, 2, 0], [3, 0, 0]])
    assert model(ids, cond).shape == (2, 36, 50)
    hidden, (cos, sin) = model.embed(ids, cond)
    assert hidden.shape == (2, 3 + 36, 32)
    assert cos.shape == sin.shape == (1, 3 + 36, 16)
    assert torch.equal(model(ids), model(ids, torch.zeros_like(cond)))
    assert not torch.allclose(model(ids), model(ids, cond))
    with pytest.raises(ValueError, match="shape"):
        model(ids, cond[:, :2])


def test_every_token_sees_every_other():
    model, ids = small(), torch.randint(0, 50, (1, 36))
    changed = ids.clone()
    changed[0, -1] = (changed[0, -1] + 1) % 50
    moved = lambda m: (m(ids) - m(changed)).abs().amax(-1)[0, 0].item()  # noqa: E731
    causal = small()
    for layer in causal.layers:  # mutant: the causal mask left on
        layer.self_attn.is_causal = True
    assert moved(model) > 1e-6
    assert moved(causal) == 0


def test_two_dimensional_positions_are_relative():
    """A 4x4 pattern scores the same wherever it stands: the same tokens at shifted rows and columns."""
    model = small(cond_length=0, cond_vocab_size=0)
    rows, columns = (x.flatten() for x in torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij"))
    hidden = model.embed_tokens(torch.randint(0, 50, (1, 16)))

    def output(rows, columns):
        out = hidden
        for layer in model.layers:
            out = layer(out, position_embeddings=model._rotary(rows, columns))
        return out

    here = output(rows, columns)
    assert torch.allclose(here, output(rows + 5, columns + 2), atol=1e-5)
    assert not torch.allclose(here, output(columns, rows), atol=1e-4)  # rows and columns are not the same thing
    assert not torch.allclose(here, output(rows * 0, rows * 4 + columns), atol=1e-4)  # mutant: 1-D positions


def test_a_saved_network_comes_back_with_its_class_named(tmp_path):
    model, ids = small(absolute=True), torch.randint(0, 50, (1, 36))
    save_hub(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == ["MaskedTransformer"]
    assert torch.equal(MaskedTransformer.from_pretrained(tmp_path).eval()(ids), model(ids))


def test_what_learned_beside_a_trunk_is_of_the_trunk_that_is_shipped():
    """A layer, a drafter or predictors answer nonsense on another version of their trunk: train them again."""
    found = {path.parent.name: json.loads(path.read_text()) for path in SHIPPED.glob("*/config.json")}
    beside = {name: config for name, config in found.items() if config.get("trunk_revision")}
    assert len(beside) >= 5
    for name, config in beside.items():
        card = json.loads((SHIPPED / config["trunk"] / "card.json").read_text())
        assert card["sha256"].startswith(config["trunk_revision"]), name


def test_every_shipped_card_matches_its_file():
    import hashlib

    for path in SHIPPED.glob("*/card.json"):
        card, weights = json.loads(path.read_text()), path.parent / "model.safetensors"
        assert weights.stat().st_size == card["bytes"] < 10_000_000
        assert hashlib.sha256(weights.read_bytes()).hexdigest() == card["sha256"], card["name"]
