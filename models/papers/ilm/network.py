"""The network of an insertion language model (arXiv 2505.05755): a score for every slot and token, and a stop head.

    S[j, v] = e_v . norm(h_j + R h_j+1)      of inserting v just behind token j     P = softmax of S over all (j, v)
    p_stop  = softmax(W h_CLS)[finished]

It reads the tokens that are there, numbered one behind the other, and nothing else: no time, no mask, no length. The
paper scores a slot by h_j alone; R h_j+1, of the token on its other side, is ours (NOTES.md).
Letters: B texts, N tokens, D width, V words.
"""
from __future__ import annotations

from torch import Tensor, nn

from models.backbones.masked import MaskedTransformer
from models.backbones.stand_in import stirred
from models.worlds.world import MASK


class InsertionLM(MaskedTransformer):
    def __init__(self, vocab_size: int, hidden_size: int = 128, num_hidden_layers: int = 4,
                 num_attention_heads: int = 4, intermediate_size: int = 384):
        super().__init__(vocab_size, hidden_size, num_hidden_layers, num_attention_heads, None, intermediate_size,
                         positions="1d", mask_token_id=MASK)
        self.right, self.stop_head = nn.Linear(hidden_size, hidden_size, bias=False), nn.Linear(hidden_size, 2)

    def told(self, ids: Tensor, slots: Tensor, there: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scores S [B, N, V], minus infinity where nothing may be inserted, and those of (go on, finished) [B, 2].

        slots: bool [B, N], behind which tokens something may be inserted; there: as in `look`.
        """
        ids, slots, there = (one if one is None else one.to(self.norm.weight.device) for one in (ids, slots, there))
        states = self.look(ids, there=there)
        behind = states if there is None else states * there[..., None]
        behind = nn.functional.pad(behind[:, 1:], (0, 0, 0, 1))  # h_j+1, nothing behind the last token
        scores = self.head(states + self.right(behind)).float().masked_fill(~slots[..., None], float("-inf"))
        return scores, self.stop_head(self.norm(states[:, 0])).float()

    def spent(self, tokens, read_out, layers=None):
        rows, macs = super().spent(tokens, read_out, layers)
        return rows, macs + read_out * self.right.weight.numel()


STAND_INS = {"star-ilm-1": lambda bundle: (
    stirred(InsertionLM(len(bundle("star-mdm-1").tokenizer), 32, 2, 2, 64)), bundle("star-mdm-1").tokenizer)}
