"""Which folders of a visitor's own a method runs on: by the class that their config.json names, and, for networks of
ours, by the shape in which a declared checkpoint of that class has them.

A method's `layouts` names classes beyond those of its own checkpoints; where weights of its own belong to one
checkpoint alone (adapters, predictors), `bound` says in a few words why no folder will do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from models.checkpoints import families, folders, hub
from models.checkpoints.registry import described
from models.checkpoints.store import architecture, place
from models.checkpoints.verify import CheckpointError
from models.trace import TraceError
from models.trace.params import ParamError
from models.trace.subject import SubjectError

# What a network of ours and its partners have to agree on; width and depth are its own business.
SHAPE = ("positions", "grid", "cond_vocab_size", "cond_length", "image_size", "patch_size", "scales", "sides",
         "codebook_size", "levels")


def classes(method: Any) -> tuple[str, ...]:
    """Names of the classes whose folders a method takes, its own checkpoints' first."""
    if method.bound:
        return ()
    public = (entry.architecture for entry in hub.TABLE.values() if method.id.removesuffix("-control") in entry.methods)
    own = (*map(architecture, method.checkpoints), *public)
    return tuple(dict.fromkeys(filter(None, (*own, *method.layouts))))


def takes(method: Any, name: str) -> bool:
    """Whether a method runs on this checkpoint, a declared one or a folder."""
    return name in method.choices or not unfit(method, name)


def fit(method: Any, name: str) -> None:
    """CheckpointError, one sentence, where a method does not run on this folder."""
    if name not in method.choices and (why := unfit(method, name)):
        raise CheckpointError(why)


def beside(other: Any, job: Any, wanted: str = "") -> tuple[str | None, str]:
    """The checkpoint on which a method stands beside a run: the run's own where it takes it (wanted: one of its own).
    Beside a folder or a public checkpoint it is said which weights these are instead, and why."""
    key, title = job.bundle.key, other.card.title
    of_ours = key in job.method.checkpoints and key not in other.choices  # shipped, and for this method alone
    if not wanted and not of_ours and (key in other.choices or not unfit(other, key)):
        return key, ""
    name = wanted or next((one for one in other.choices if other.kind(one) == job.subject.kind), other.checkpoints[0])
    if key in job.method.checkpoints:
        return name, ""
    why = "its control has weights of its own" if wanted else unfit(other, key)
    return name, f"{title} stands beside it on other weights, {name}: {why.rstrip('.')}."


def unfit(method: Any, name: str) -> str:
    """Why a method does not run on this folder, in one sentence; "" where it does."""
    title, label, named = method.card.title, folders.label(name)[:60], architecture(name)
    if method.bound:
        return f"{title} runs on no folder of your own: {method.bound}. Please choose {families.says(method.choices)}."
    if named not in classes(method):
        what = f"is a {named[:60]}" if named else "names no class in its config.json (architectures)"
        return f"{title} takes {families.says(classes(method))}; '{label}' {what}."
    if named not in map(architecture, method.checkpoints) or named in families.EVERY or like(method, name):
        return ""
    return (f"{title} takes a {named} that is made like its own checkpoints; '{label}' differs from them in "
            f"{', '.join(differences(name, twins(method, named)[0]))}.")


def like(method: Any, name: str) -> str:
    """The declared checkpoint that a folder has the class and shape of; "" where there is none."""
    return next((one for one in twins(method, architecture(name)) if not differences(name, one)), "")


def twins(method: Any, named: str) -> list[str]:
    """The declared checkpoints of a class."""
    return [one for one in method.checkpoints if named and architecture(one) == named]


def differences(name: str, other: str) -> list[str]:
    """The parts of two networks' shapes that are not the same; the vocabulary counts where no tokenizer comes with it.
    """
    mine, theirs = described(place(name)), described(place(other))
    worded = (place(name) / "tokenizer.json").is_file()
    return [key for key in (*SHAPE, *(() if worded else ("vocab_size",))) if mine.get(key) != theirs.get(key)]


def blamed(job: Any) -> Iterator:
    """The events of a run; what breaks on a visitor's own folder is a sentence about it, since the same rule runs on
    the method's own checkpoints. Faults of the machine stay what they are."""
    try:
        yield from job.method.run(job)
    except (ParamError, SubjectError, CheckpointError, TraceError, MemoryError, OSError):
        raise
    except Exception as error:
        if not job.bundle.own or re.search("memory|cuda", f"{type(error).__name__} {error}", re.I):
            raise
        raise CheckpointError(f"{job.method.card.title} could not run on '{job.bundle.name[:60]}': this "
                              f"{type(job.model).__name__} is made in a way that the method does not know "
                              f"({type(error).__name__}).") from error
