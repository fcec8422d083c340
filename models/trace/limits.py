"""Every limit on what a visitor may ask for, in one place; each is enforced where the value enters, whoever calls.

Ranges of a method's own parameters (steps, lengths, ratios) stand in its `Params` and are enforced by
models/trace/params.py.
The environment may change those that depend on the machine.
"""

from __future__ import annotations

import os

CHARACTERS = 8_000  # of a text
TOKENS = 2_048  # of a text, after the tokenizer
PIXELS = 4_000_000  # of a picture, known before it is decoded
CAMERA_PIXELS = 64_000_000  # of a JPEG, which can be decoded at a half, a quarter or an eighth of its size
SIDE = 8  # pixels of a picture's shorter side, at least
FILE_BYTES = 12_000_000  # of an uploaded file: a phone's photo fits
ARRAY_BYTES = 64 * 1024 * 1024  # of one array in a record: a hostile file cannot inflate without end
BESIDE = 2  # further methods: three pictures side by side are what a screen can show
SECONDS = float(os.environ.get("TOKENSCOPE_SECONDS", 120))  # of one visitor's run, all pictures together
REPLICAS = int(os.environ.get("TOKENSCOPE_REPLICAS", 0))  # other processes that run the models
RUNS = int(os.environ.get("TOKENSCOPE_AT_ONCE", 2))  # in one process at once, a core each (serving/cores.py)
GPU_SECONDS = 60  # that one run asks for on ZeroGPU: visitors without an account have 120 a day
# Models in memory, least recently used first out. Without a number from the environment the limit follows the machine:
# a share of its memory, and never more than a share of what is free (models/checkpoints/memory.py).
MODEL_BYTES = int(os.environ.get("TOKENSCOPE_MODEL_BYTES", 0))
MODEL_SHARE, FREE_SHARE = 0.25, 0.5
SMALL_MODEL = 100_000_000  # bytes; one of at most this size is loaded even where the shares leave less
KEPT_BYTES = int(os.environ.get("TOKENSCOPE_KEPT_BYTES", 64_000_000))  # of finished runs of shipped examples; 0: none
# Public checkpoints (models/checkpoints/hub.py): off with TOKENSCOPE_HUB=0.
HUB = os.environ.get("TOKENSCOPE_HUB", "1") != "0"
DOWNLOAD_BYTES = int(os.environ.get("TOKENSCOPE_DOWNLOAD_BYTES", 4_000_000_000))  # of one; larger ones are not offered
DISK_BYTES = int(os.environ.get("TOKENSCOPE_DISK_BYTES", 10_000_000_000))  # of all that the app fetched
CPU_MACS = float(os.environ.get("TOKENSCOPE_CPU_MACS", 40e9))  # multiply-adds of one pass; what needs more needs a GPU
DISK_FREE = 1_000_000_000  # left on the disk after a download
FETCH_SECONDS = float(os.environ.get("TOKENSCOPE_FETCH_SECONDS", 900))  # that a visitor waits for one


def folders() -> bool:
    """Whether a visitor may name a folder of this machine as a checkpoint; app.py says no where others reach it."""
    return os.environ.get("TOKENSCOPE_FOLDERS", "1") != "0"
