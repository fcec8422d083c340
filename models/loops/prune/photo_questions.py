"""Photos with a question, for models that read both: which example asks what, and a visitor's own question."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from models.engine.method import Job
from models.trace.params import Words
from models.trace.subject import Example, from_text
from models.worlds.questions import Question

EXAMPLES = tuple(Example(name, asked, f"{name}.jpg", "photo") for name, asked in (
    ("coffee", "What lies on the saucer?"), ("astronaut", "What colour is the suit?"),
    ("photographer", "What does the man look through?"), ("rocket", "What stands between the towers?"),
    ("cat", "What colour are the eyes?")))
USUAL = "What is this a photo of?"


@dataclass(frozen=True)
class Asked:
    """What a method of this tab needs to run on photos too."""

    question: Annotated[str, Words("Question about a photo", 120, "For photos, on public weights; empty: the example's "
                                   "own question. Scenes bring theirs.", fold=True, only="photo")] = ""


def photo(job: Job) -> tuple[np.ndarray, Question]:
    """The picture uint8 [S, S, 3] as the model cuts it, and the question; nobody knows the right answer."""
    own = {example.id: example.title for example in EXAMPLES}
    asked = job.params.question.strip() or own.get(job.subject.name, USUAL)
    return job.model.cut(job.subject.image), Question("photo", " ".join(from_text(asked).text.split()), "")
