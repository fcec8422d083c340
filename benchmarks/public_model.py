"""SmolLM2-135M, a real public model, under observe() against its output_attentions with the same statistics, and bare.

Real weights and a real text: what no random weights show, such as attention that rests on the first token, is in the
figures. Needs the folder that tools/public_weights.py makes.
"""

from __future__ import annotations

import copy

import torch

from benchmarks.model import compared

PUBLIC = "smollm2"


def smollm2(length):
    """The network without its head, and the first tokens of a book."""
    from models.checkpoints.store import load
    from models.trace.subject import ASSETS

    bundle = load(PUBLIC, device="cpu", dtype="float32")
    text = (ASSETS / "texts" / "heldout.txt").read_text("utf-8")[: 8 * length]
    ids = bundle.tokenizer(text, add_special_tokens=False)["input_ids"][:length]
    assert len(ids) == length
    return copy.deepcopy(bundle.model.base_model), {"input_ids": torch.tensor([ids]), "use_cache": False}


def run(device: str, quick: bool) -> list[dict]:
    return [row for length in ((64,) if quick else (512, 2048))
            for row in compared(smollm2, length, torch.float32, device, quick)]
