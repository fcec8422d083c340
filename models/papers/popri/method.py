"""POPri: private federated learning with preference-optimised synthetic data (arXiv 2504.16438).

A server writes texts, all clients score all of them, the scores are bounded, summed and blurred with noise (rule.py),
and of every prompt's texts the first and the middle one make a pair from which its network learns by DPO (recipe.py).
As the authors' scripts do (meiyuw/POPri, not copied): sums of cosines, z-scores over all texts, length 1, the noise on
the sum, the middle rank rejected. Our own: invented clients, prompts that are the first words of public stories
(a network of the tales learns nothing from examples in front), the middle of the public network as embedder.
"""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from models.engine.method import Card, Control, Event, Job, Method
from models.papers.popri import record
from models.trace.params import Choice, Span
from models.trace.subject import Example

TRUNK = "tale-ar-2"
WALK = {"tale-popri-1": {2: "tale-popri-second-1", 4: "tale-popri-fourth-1"}}
BUDGETS = {"inf": math.inf, "8": 8.0, "2": 2.0, "0.5": 0.5, "0.1": 0.1}


@dataclass(frozen=True)
class Params:
    epsilon: Annotated[str, Choice(tuple(BUDGETS), "Privacy budget, epsilon of all rounds", "The smaller, the more "
                                   "noise lies on the scores here. The networks stay as they were taught.",
                                   titles=("no noise", "8", "2", "0.5", "0.1"))] = "2"
    clients: Annotated[int, Span(50, 1000, 50, "Clients", "All of them score every text. 250 clients and 16 texts feel "
                                 "the noise as 1,400 and 512 do; the networks were taught by 2,000 and 512.")] = 250
    each: Annotated[int, Span(4, 16, 1, "Texts per prompt", "Drawn at temperature 1.", unit="texts")] = 8
    rejected: Annotated[str, Choice(("middle", "worst"), "Rejected text", "The paper takes the middle rank.",
                                    titles=("the middle one", "the worst"), fold=True)] = "middle"


def run(job: Job) -> Iterator[Event]:
    writers = {number: job.companion(name) for number, name in {0: TRUNK, **WALK.get(job.bundle.name, {})}.items()}
    return record.told(job, writers[0], {**writers, record.ROUNDS: job.bundle}, BUDGETS[job.params.epsilon])


METHOD = Method(
    bound="its rounds are told in the words of the tales",
    card=Card(
        id="popri", title="POPri", tabs=("sample",), arxiv="2504.16438", year=2025, seed="B",
        summary="Teaches a language model to write like texts that nobody may read: their owners only score what it "
                "wrote, noise hides every single owner, and the noisy scores make pairs of a better and a worse text.",
        flow="public model > candidates > *scores of the clients > *bounded sum, noise > *pairs > *DPO; "
             "*DPO ~> public model",
        look_at="Step through the rounds: ever more texts are of the clients' topics, sea and winter, most of one. "
                "Lower epsilon: pairs turn round. The best of as many texts of the first network would be worth more.",
        not_covered="Real private data, secure aggregation, clients that are drawn anew every round, choosing the best "
                    "round by its distance to the clients, and the comparison with DP federated learning.",
        unverified="The clients and the prompts are ours (the paper puts three public examples in front), the embedder "
                   "is the middle of the public network, delta is 1 in 10,000. Tiny here: beta 0.1, rate 0.0005, "
                   "LoRA rank 4, eight rounds of 64 prompts with 8 texts (0.01, 0.0000008, 16, 31, 1,800, 10 there).",
        states={"sample": {"accepted": "the better text of the pair", "refused": "the worse one"}}),
    params=Params, accepts="text", run=run,
    checkpoints=("tale-popri-1", "tale-popri-free-1", "tale-popri-tight-1", "tale-popri-shuffled-1"),
    companions=(TRUNK, *WALK["tale-popri-1"].values()),
    control=Control("tale-popri-shuffled-1", title="Pairs in random order"),
    fixed={"sample": "The texts are drawn and scored: type other first words, or change how much noise there is."},
    examples=(Example("happy", "A happy tale of ...", "A happy tale of the"),
              Example("sailor", "The topic is given", "A funny tale of the winter. Once a"),
              Example("kitchen", "A topic of no client", "A happy tale of the kitchen. Once a")))
