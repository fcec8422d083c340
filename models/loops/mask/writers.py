"""Who writes into the selected places of a text: the trained generator, chance, nobody, or the visitor.

Letters: n tokens, k selected places, V vocabulary.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.loops.mask.passages import Passage
from models.trace.params import ParamError

SURE = 1e4  # a logit that leaves nothing to the others
LONGEST = 6  # tokens of a word that a visitor replaces


@torch.no_grad()
def trained(generator, text: Passage, hidden: Tensor, places: Tensor) -> tuple[Tensor, int]:
    """Logits [k, V] of the small masked language model, and its multiply-adds."""
    from models.backbones.electra import macs, proposals
    return proposals(generator, hidden, places)[0].float(), macs(generator.config, text.count, places.shape[1])


def uniform(generator, text: Passage, hidden: Tensor, places: Tensor) -> tuple[Tensor, int]:
    """Every word is as likely as any other."""
    return torch.zeros(places.shape[1], generator.config.vocab_size, device=places.device), 0


def copy(generator, text: Passage, hidden: Tensor, places: Tensor) -> tuple[Tensor, int]:
    """An oracle that writes the original again: nothing is there to be found."""
    logits, _ = uniform(generator, text, hidden, places)
    return logits.scatter(1, text.ids[0, places[0]][:, None], SURE), 0


WRITERS = {"trained": trained, "uniform": uniform, "copy": copy}


def typed(text: Passage, wish: str) -> tuple[np.ndarray, Tensor] | None:
    """A visitor's own replacement, "old = new": its places [k] and token ids [k]; None where nothing was typed.

    ParamError when the text has no such word, or the two words are not cut into equally many tokens.
    """
    if not wish.strip():
        return None
    old, _, new = (part.strip() for part in wish.partition("="))
    ends = [(a, b) for a in range(text.count) for b in range(a + 1, min(a + LONGEST, text.count) + 1)
            if "".join(text.labels[a:b]).strip() == old]
    if not (old and new and ends):
        raise ParamError(f"own must be a word of the text, an equals sign and another word, not {wish[:40]!r}")
    first, last = ends[0]
    space = " " * text.labels[first].startswith(" ")
    ids = text.tokenizer(space + new, add_special_tokens=False)["input_ids"]
    if len(ids) != last - first:
        raise ParamError(f"own: {new[:20]!r} is cut into {len(ids)} tokens and {old[:20]!r} into {last - first}; "
                         "please take a word that is cut alike")
    return np.arange(first, last), torch.tensor(ids, device=text.ids.device)
