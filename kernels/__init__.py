"""Instrumented kernels: attention and vocabulary statistics, compaction and unmasking.

Six functions that know no methods: `attention_stats`, `attention_rows`, `vocab_stats`, `head_stats`, `compact` and
`unmask_step`; beside them `warp`, `draw` and `Sampler` (what temperature, top-k, top-p and min-p mean), `keep_top`,
`schedule` and `override` (force a path, for tests). reference.py holds the plain truth of each.
"""

from kernels.attention import attention_rows, attention_stats
from kernels.compaction import compact, keep_top
from kernels.dispatch import override
from kernels.records import AttentionStats, Compacted, UnmaskStep, VocabStats
from kernels.sampling import Sampler, draw, warp
from kernels.unmasking import schedule, unmask_step
from kernels.vocabulary import head_stats, vocab_stats

__all__ = [
    "AttentionStats", "Compacted", "Sampler", "UnmaskStep", "VocabStats", "attention_rows", "attention_stats",
    "compact", "draw", "head_stats", "keep_top", "override", "schedule", "unmask_step", "vocab_stats", "warp",
]
