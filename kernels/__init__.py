"""Instrumented kernels: attention and vocabulary statistics, compaction and unmasking.

Seven functions that know no methods: `attention_stats`, `attention_rows`, `vocab_stats`, `head_stats`, `compact`,
`unmask_step` and, where it `decodes`, `decode_token`; beside them `warp`, `draw` and `Sampler` (what temperature,
top-k, top-p and min-p mean), `keep_top`, `schedule`, `override` (force a path, for tests), `watched` (which paths ran),
`notes` (what could not run as planned), `learned` and `recall` (self-tests' verdicts, from one process to the next) and
`compile_kernels` (to be called at start). reference.py holds the plain truth of each.
"""

from kernels import attention as _attention
from kernels import reference as _reference
from kernels import unmasking as _unmasking
from kernels import vocabulary as _vocabulary
from kernels.compaction import compact, keep_top
from kernels.dispatch import compile_kernels, decodes, learned, notes, override, recall
from kernels.native import LANES
from kernels.native import token as decode_token
from kernels.records import AttentionStats, Compacted, UnmaskStep, VocabStats
from kernels.revealing import schedule
from kernels.sampling import Sampler, draw, warp
from kernels.taken import named, watched

attention_stats = named("attention", _attention.attention_stats)
attention_rows = named("attention rows", _attention.attention_rows, _reference.PATH)
vocab_stats = named("vocabulary", _vocabulary.vocab_stats)
head_stats = named("vocabulary", _vocabulary.head_stats)
unmask_step = named("vocabulary", _unmasking.unmask_step)

__all__ = [
    "LANES", "AttentionStats", "Compacted", "Sampler", "UnmaskStep", "VocabStats", "attention_rows", "attention_stats",
    "compact", "compile_kernels", "decode_token", "decodes", "draw", "head_stats", "keep_top", "learned", "notes",
    "override", "recall", "schedule", "unmask_step", "vocab_stats", "warp", "watched",
]
