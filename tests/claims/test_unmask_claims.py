"""The claims of the Unmask tab run end to end on a small sample, and their arithmetic is right."""


import numpy as np
import pytest

from models.baselines.mdm import chain as text_claim


def test_random_order_and_nelbo_agree_on_a_uniform_model(tiny):
    """Both must give log2 of the vocabulary per token, whatever is masked."""
    bundle = tiny.bundle("text-mdm-2")
    import torch
    uniform = type("B", (), {"device": "cpu", "tokenizer": bundle.tokenizer, "model": type("M", (), {
        "mask_token_id": bundle.model.mask_token_id,
        "__call__": lambda self, ids: torch.zeros(*ids.shape, len(bundle.tokenizer))})()})()
    texts = text_claim.passages(bundle.tokenizer, 2)
    wanted = text_claim.HOLE * np.log2(len(bundle.tokenizer) - len(text_claim.specials(uniform)))
    for order in text_claim.ORDERS:
        assert text_claim.chain_bits(uniform, texts, order) == pytest.approx(wanted, rel=1e-4)
    assert text_claim.nelbo_bits(uniform, texts, 4) == pytest.approx(wanted, rel=1e-4)
