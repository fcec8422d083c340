"""MEAP: mask-enhanced autoregressive prediction (arXiv 2502.07490, ICML 2025; scitix/MEAP).

Some 15 % of the tokens that a causal language model reads are [MASK] while it is trained (rule.py); attention stays
causal, [MASK] is a key like any other, and plain next-token prediction of the true tokens counts at every position.
Nothing is masked when it is used. The claim is that such a model leans on fewer, more relevant keys.
The control had the same batches, and one token in 512 masked, so that [MASK] is known to it as noise: else the probe
with holes would feed it an untrained embedding.
"""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.backbones.text import read
from models.engine.method import Card, Control, Event, Job, Method
from models.papers.meap import record
from models.papers.meap.haystack import Haystack, haystack
from models.trace.params import Span
from models.trace.subject import Example

MOST = 640  # tokens of a prompt


@dataclass(frozen=True)
class Params:
    share: Annotated[float, Span(0.05, 0.4, 0.05, "Masked in the input (Mask)", "What MEAP does while it trains; the "
                                 "prompt of Attend has no holes.", unit="of the tokens")] = 0.15
    depth: Annotated[int, Span(-1, 100, 1, "Where the answer stands", "0: first, 100: last, -1: where it stood.",
                               unit="%")] = -1
    hay: Annotated[int, Span(0, 60, 1, "Other lines or sentences", "At most so many stand around the answer.")] = 60


def asked(job: Job) -> Haystack:
    """The visitor's haystack, with the needle where it is wanted and as much hay as is wanted."""
    found = haystack(job.subject.text)
    depth = job.params.depth / 100 if job.params.depth >= 0 else found.at / max(len(found.hay), 1)
    return found.moved(depth, job.params.hay)


def run(job: Job) -> Iterator[Event]:
    hay = asked(job)
    text = read(job.tokenizer, hay.text, MOST)
    yield from record.attended(job, hay, text)
    yield from record.trained(job, text)


METHOD = Method(
    card=Card(
        id="meap", title="MEAP", tabs=("attend", "mask"), arxiv="2502.07490", year=2025, seed="both",
        summary="Hides some 15 % of the tokens that a language model reads while it learns to write on, and changes "
                "nothing else: the loss stays on every token. It is meant to look at fewer, more relevant words.",
        flow="text > *15 % of the input masked > causal attention > next token at every place; "
             "text > true tokens ~> next token at every place",
        look_at="How much of its attention the last token gives to the line with the answer, layer by layer, and the "
                "same for the control beside it. In Mask: the loss stands on every token, hidden or not.",
        not_covered="Fine-tuning on dialogues with a second, masked copy of each long answer; training from scratch, "
                    "several seeds and other mask rates.",
        unverified="Each row of a batch has its own holes; the authors draw one set for all rows of a micro-batch.",
        states={"attend": {"accepted": "the line with the answer"}}),
    params=Params, accepts="text", checkpoints=("text-meap-2", "text-ntp-2"), run=run,
    bound="its holes are a word that only its own networks learned",
    control=Control("text-ntp-2", title="Next-token prediction, no holes"),
    examples=(
        Example("fox", "A secret number in a few sentences", "The White Rabbit put on his spectacles. There was a dead "
                "silence. Alice opened the door and found that it led into a small passage, not much larger than a "
                "rat-hole. The secret number of the quiet fox is 6042. Either the well was very deep, or she fell very "
                "slowly. The Knave shook his head sadly.\n\nQuestion: What is the secret number of the quiet fox? "
                "Answer:"),
        Example("secret", "A secret number hidden in a story", "prune-secret.txt"),
        Example("notes", "Six notes, one question", "blue otter: 5820\nold owl: 3147\nquiet fox: 9064\n"
                "lazy bear: 2718\nwhite goose: 6393\nbrave hare: 8251\n\nQuestion: What is the number of the quiet "
                "fox? Answer:")))
