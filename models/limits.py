"""Every limit on what a visitor may ask for, in one place; each is enforced where the value enters, whoever calls.

Ranges of a method's own parameters (steps, lengths, ratios) stand in its `Params` and are enforced by models/params.py.
The environment may widen the two that depend on the machine.
"""

from __future__ import annotations

import os

CHARACTERS = 8_000  # of a text
TOKENS = 2_048  # of a text, after the tokenizer
PIXELS = 4_000_000  # of a picture, known before it is decoded
SIDE = 8  # pixels of a picture's shorter side, at least
FILE_BYTES = 5_000_000  # of an uploaded file
ARRAY_BYTES = 64 * 1024 * 1024  # of one array in a record: a hostile file cannot inflate without end
BESIDE = 2  # further methods: three pictures side by side are what a screen can show
SECONDS = float(os.environ.get("TOKENSCOPE_SECONDS", 120))  # of one visitor's run, all pictures together
MODEL_BYTES = int(os.environ.get("TOKENSCOPE_MODEL_BYTES", 2_000_000_000))  # of all models in memory
