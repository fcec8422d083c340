"""The lens's claim on a real public model: the same rank correlations, and the same exactness against eager attention.

Texts of 24 tokens instead of 48, because a pass costs twenty times as much.
"""

from __future__ import annotations

from models.baselines.attention.claim import concluded, exactness, windows
from models.claims import Lab
from models.claims.harness import Claim

PUBLIC, SHORT = "smollm2", 24


def measure(lab: Lab) -> Claim:
    texts = windows(lab.size(7, 7), PUBLIC, lab.size(SHORT, 8))
    return concluded("attention-smollm2", PUBLIC, texts, exactness(lab, PUBLIC),
                     "books that it may have read")
