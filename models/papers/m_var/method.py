"""M-VAR: attention inside a map, a state carried between maps (arXiv 2411.10433).

VAR lets every token look at all coarser maps, which is where most pairs of query and key are, while most attention
stays inside the map. M-VAR's attention compares tokens of one map alone; what is coarser arrives by a state-space scan
over all tokens, from coarse to fine (network.py, ssm.py). So a map needs no keys and values of others: between two maps
each layer hands on one state and the last three inputs of its convolution, and that is exactly what reading everything
again would give.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from kernels import Sampler
from models.baselines.maskgit.method import EXAMPLES
from models.engine.method import Card, Control, Event, Job, Method
from models.loops.unmask.canvases import scene_condition
from models.loops.unmask.growth import PLAIN, GivenTokens, Grown
from models.loops.unmask.pyramids import SHOWN, MapReader, grow_maps, recorded
from models.papers.m_var import record
from models.trace import Cost
from models.trace.interventions import NOTHING
from models.trace.params import Choice, Span

TOKENIZER, VAR, INTRA = "scene-mvq-1", "scene-mvar-full-1", "scene-mvar-intra-1"


@dataclass(frozen=True)
class Params:
    zero: Annotated[int, Span(0, 5, 1, "Forget after map (Unmask)", "What the scans carry is thrown away once this map "
                              "is drawn; 0 keeps it. VAR carries nothing.")] = 0
    guidance: Annotated[float, Span(0, 6, 0.25, "Guidance", "How hard the caption pulls at the last map; it grows from "
                                    "0 at the first.")] = 0.0
    top_p: Annotated[float, Span(0.05, 1, 0.01, "Top-p", "Only the likeliest entries that together reach p; "
                                 "few, because these networks are far from learned out.")] = 0.3
    show: Annotated[str, Choice(SHOWN, "Maps show", "What is painted in every map.",
                                titles=("the picture so far", "what this map added", "its codes"))] = "sum"


def grow(model, tokenizer, cond: Tensor, generator: torch.Generator, guidance: float = 1.5, sampler: Sampler = PLAIN,
         given: GivenTokens | None = None, put: Mapping[int, int] = NOTHING, zero: int = 0) -> Iterator[Grown]:
    """Draws pictures under captions int64 [B, C], scale by scale. zero: the state carried over from this many maps is
    thrown away, 0 throws away none."""
    return grow_maps(lambda words: Maps(model, tokenizer, words, zero), cond, generator, guidance, sampler, given, put)


class Maps(MapReader):
    """One pass per scale; behind it stand every layer's state and last three inputs, or keys and values where attention
    goes across. zero: what was carried is forgotten before the scale of this number is read, 0 never."""

    def __init__(self, model, tokenizer, words: Tensor, zero: int = 0):
        from transformers import DynamicCache

        super().__init__(model, tokenizer, words)
        self.told, self.angles, self.zero = model.told(words), model.angles(), zero
        self.cache = DynamicCache() if model.across else None
        self.carried = [None] * len(model.layers)

    def read(self, scale: int, ids: Tensor | None) -> Tensor:
        """Logits [B or 2B, p * p, V] of a scale."""
        if scale and scale == self.zero:
            self.carried = [None] * len(self.carried)
        return self.logits(scale, self.features(scale, ids))

    def logits(self, scale: int, features: Tensor | None) -> Tensor:
        """The same from what the coarser maps add up to [B or 2B, p * p, F], None for the first."""
        hidden = self.model.level(scale, features, self.words)
        turned = tuple(part[:, self.groups[scale]] for part in self.angles)
        return self.model.head(self.model.states(hidden, self.told, turned, None, self.cache, self.carried))

    def cost(self, scale: int) -> Cost:
        """Of one pass: rows of all layers and branches, multiply-adds, and the bytes of what is kept after it."""
        model, batch = self.model, len(self.words)
        rows = batch * model.scales[scale] ** 2 * len(model.layers)
        return Cost(1, rows, batch * model.work(scale), batch * model.kept(scale) * self.angles[0].element_size())


def run(job: Job) -> Iterator[Event]:
    p, tokenizer, var = job.params, job.companion(TOKENIZER).model, job.companion(VAR).model
    cond = scene_condition(job.subject.text, job.device)
    log = record.MapLog(job.model, tokenizer, p.show)
    yield from recorded(job, grow(job.model, tokenizer, cond, job.generator(), p.guidance, Sampler(1.0, 900, p.top_p),
                                  put=job.interventions.written, zero=p.zero), log)
    yield from record.attended(job.model, var, log, lambda zero: Maps(job.model, tokenizer, cond, zero), cond)


METHOD = Method(
    card=Card(
        id="m-var", title="M-VAR: a state between maps", tabs=("unmask", "attend"), arxiv="2411.10433", year=2024,
        seed="B",
        summary="A picture is drawn map by map, coarse to fine. Attention stays inside a map; a state-space scan "
                "carries what coarser maps said, in a few numbers instead of all their keys and values.",
        flow="caption > maps so far, added up > *attention inside the map > *scan from coarse to fine > "
             "codes of the map > picture; *scan from coarse to fine > *carried state; "
             "*carried state ~> *scan from coarse to fine; codes of the map ~> maps so far, added up",
        look_at="Attend: a clicked token of M-VAR looks at its own map only, VAR's at all coarser ones too. Unmask: "
                "forget the state after a map and see what changes. Less than one would think: the maps so far, added "
                "up, already tell nearly everything, and a network without any scan predicts better (the claim).",
        not_covered="Classes and ImageNet (captions of scenes come in by AdaLN, whose linear map all blocks share, as "
                    "in a variant of VAR), larger sizes, public weights, top-k other than 900. Queries and keys are "
                    "normalised by their root mean square with a learned gain, where VAR divides by their length. In "
                    "training a map counts with its side instead of its tokens. All three networks begin from "
                    "nothing and have 700 steps. Pictures are poor.",
        unverified="Details of the scan are from Mamba-2 and from a snapshot of the code, not from the paper; its "
                   "state has 16 numbers per channel here and 64 there."),
    params=Params, accepts="caption", checkpoints=("scene-mvar-1", VAR, INTRA), companions=(TOKENIZER, VAR), run=run,
    examples=(EXAMPLES[3], *EXAMPLES[:3]), control=Control(VAR, title="VAR, trained alike"))
