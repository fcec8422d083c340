"""A shipped text that is too long for a visitor's own folder: the longest that there is room for, or its beginning.

What a visitor typed is never shortened; the run itself refuses it in a sentence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from models.backbones.text import ADDED, read, room
from models.checkpoints import chat
from models.trace.subject import Subject, from_example, from_text

LEAST = 4  # tokens of a text that still shows something


def suited(job: Any) -> Any:
    """The job on a text that there is room for, with what must be known of how its model reads it."""
    job = fitted(job)
    said = chat.note(job.bundle.key, job.subject.text) if job.subject.kind == "text" else ""
    return replace(job, note=" ".join(filter(None, (job.note, said)))) if said else job


def fitted(job: Any) -> Any:
    """The job on an example that fits, and what was chosen instead, in a sentence."""
    if job.subject.kind != "text" or not job.subject.name or job.bundle.key in job.method.checkpoints:
        return job
    most, asked = places(job), count(job, job.subject)
    if asked <= most or most < LEAST:
        return job
    others = [(count(job, one), one) for one in map(from_text_example,
                                                               job.method.examples_for("text", job.bundle.key))]
    size, chosen = max(((n, one) for n, one in others if n <= most), key=lambda pair: pair[0], default=(most, None))
    instead = (f"'{chosen.name}', the longest that fits with {size}, is shown instead" if chosen else
               f"its first {most} are shown")
    why = f"The example '{job.subject.name}' has {asked:,} tokens and this checkpoint has room for {most:,}: {instead}."
    return replace(job, subject=chosen or beginning(job, most), note=" ".join(filter(None, (job.note, why))))


def places(job: Any) -> int:
    """How many tokens of a prompt there is room for, beside what the run writes behind it."""
    return room(job.model) - getattr(job.params, "length", 0)


def count(job: Any, subject: Subject) -> int:
    return len(read(job.tokenizer, subject.text))


def from_text_example(example) -> Subject:
    return from_example(example, "text")


def beginning(job: Any, most: int) -> Subject:
    """The subject's first tokens, what the tokenizer adds by itself included; cut texts may be cut anew by one more."""
    found = read(job.tokenizer, job.subject.text)
    ends = [end for (_, end), role in zip(found.spans, found.roles) if role != ADDED]
    for kept in range(most - found.roles.count(ADDED), 0, -1):
        made = from_text(job.subject.text[: ends[kept - 1]], "text", job.subject.name)
        if count(job, made) <= most:
            break
    return made
