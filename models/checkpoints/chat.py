"""Whether a checkpoint was trained to chat, by the template beside its tokenizer. It is read, never run: a folder is
untrusted, and a template is a program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.checkpoints.store import place

MARK = "<|im_start|>"  # of the commonest form: a role, its words, and an end
ASKED = f"{MARK}user, a new line, the question, <|im_end|>, a new line, {MARK}assistant and a new line."
LONGEST = 200_000  # characters of a template file


def template(name: str) -> str:
    """The chat template of a checkpoint, "" where there is none or it cannot be read."""
    folder = place(name)
    try:
        own = _text(folder / "chat_template.jinja")
        found = own or json.loads(_text(folder / "tokenizer_config.json") or "{}").get("chat_template", "")
    except (OSError, ValueError, AttributeError):
        return ""
    return found if isinstance(found, str) else str(found)


def _text(file: Path) -> str:
    return file.read_text("utf-8")[:LONGEST] if file.is_file() and file.stat().st_size <= 4 * LONGEST else ""


def understood(examples: Sequence[Any], name: str) -> tuple[Any, ...]:
    """The examples without those in a chat's form that this checkpoint does not know."""
    return tuple(one for one in examples if MARK not in one.source or MARK in template(name))


def note(name: str, text: str) -> str:
    """What a reader must know where a model that was trained to chat reads a plain text; "" elsewhere."""
    found = template(name)
    if not found or MARK in text:
        return ""
    how = f" To ask it as in a chat, type {ASKED}" if MARK in found else ""
    return f"This model was trained to chat; here it reads the text as it stands, without the chat's marks.{how}"
