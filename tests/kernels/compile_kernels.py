"""Compiles every Triton kernel for Hopper, which needs no GPU; run by test_triton_compiles.py, without the interpreter.

The interpreter accepts what the compiler refuses: a loop variable that changes its type, a tile too large for the chip.
Prints a line per kernel: name, shared memory in bytes.
"""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels import triton_attention, triton_unmasking, triton_vocabulary

HOPPER = GPUTarget("cuda", 90, 32)
SUMS = {**dict.fromkeys(("Peak", "Mass", "Energy", "Warm", "Best", "Entropy", "Lse", "Received", "Weight"), "*fp32"),
        **dict.fromkeys(("Drawn", "Ids", "NewIds", "Sampled", "Proposal", "Count"), "*i64"), "Inside": "*fp64",
        "heat": "fp32", "scale": "fp32", "Mask": "*i8"}
SIZES = {"K": "i32", "V": "i32"}  # names that are tensors in attention
HALF = dict.fromkeys(("Q", "K", "V", "Out", "Hidden", "Weight", "Bias", "Logits"), "*bf16")
ATTENTION = {"CAUSAL": True, "MASK": 1, "WIDE": False, "BD": 64, "BN": triton_attention.QUERIES,
             "BM": triton_attention.KEYS}
DRAWN = {"WARM": True, "DRAW": True}
HEAD = {"BIAS": True, "WIDE": False, **DRAWN}
JOBS = [
    (triton_attention.forward, {**SUMS, **HALF}, {**ATTENTION, "BV": 64}, 4),
    (triton_attention.columns_received, {**HALF, **SUMS}, {**ATTENTION, "CHOSEN": True}, 4),
    (triton_vocabulary.read, {**HALF, **SUMS, **SIZES},
     {**DRAWN, "BV": triton_vocabulary.TABLE_COLUMNS, "column_stride": 1}, 4),
    *((triton_vocabulary.project, {**SUMS, **HALF, **SIZES}, {**HEAD, "BT": height, "BV": width, "BD": depth}, warps)
      for height, width, depth, warps in ((1, 32, 256, 4), (128, 128, 64, 8))),
    (triton_unmasking.reveal, {**SUMS, "Score": "*fp64", "Allowed": "*i8", "Revealed": "*i8", "Logp": "*fp32",
                               "Confidence": "*fp32"},
     {"ALLOWED": True, "COUNTED": True, "BN": triton_unmasking.PLACES, "BM": triton_unmasking.OTHERS}, 4),
]


def compiled(kernel, types, constants, warps):
    """The kernel as it is launched on aligned tensors."""
    kinds = {name: "constexpr" if name in constants else types.get(name, "i32") for name in kernel.arg_names}
    aligned = {(place,): [["tt.divisibility", 16]] for place, kind in enumerate(kinds.values()) if kind[0] == "*"}
    source = ASTSource(kernel, kinds, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=HOPPER, options={"num_warps": warps})


if __name__ == "__main__":
    for job in JOBS:
        print(job[0].__name__, compiled(*job).metadata.shared, flush=True)
