"""Prune on a picture with a question: which patches enter the language model, and how far they go.

A method gives a `PicturePlan`: the patches that enter, their features, and how many leave before which layer, by one
ranking. The sequence is really shorter, places keep their numbers, and the question's words never leave. The answer is
one word, so the prefill is all there is.

A model offers what SceneVLM does (models/backbones/vlm.py): a picture, `prepared`, is `encode`d into features and these
made `visual` tokens; a question becomes the ids of a `prompt` and these the embedded words `around` the picture; the
`encoder` and the `lm` can be looked into.

Letters: L patches, P words before them and T behind, K patches that enter, N layers of the language model (from 0;
shown from 1), D width.
"""
from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.engine.method import Job
from models.loops.prune import photo_questions
from models.loops.prune.forward import KeepPolicy, Pass, PruneMoment, Pruner
from models.loops.prune.photo_questions import Asked, photo
from models.trace.params import ParamError, Span
from models.trace.subject import Example, SubjectError
from models.worlds import questions

CHECKPOINTS = ("scene-vlm-1",)
KINDS = {**dict.fromkeys(CHECKPOINTS, "question"), "LlavaOnevisionForConditionalGeneration": "photo"}
EXAMPLES = (
    Example("small", "The colour of a small thing",
            "small pink ring, blue square, green cross, white circle. What colour is the small thing?", "question"),
    Example("number", "How many red things",
            "red circle, small red diamond, white square, blue triangle. How many red things?", "question"),
    Example("shape", "The shape of the yellow thing",
            "yellow triangle, pink ring, pink cross, small blue circle. What shape is the yellow thing?", "question"),
    Example("side", "Left or right of it",
            "red circle, blue square, small green ring. Is the red circle left or right of the blue square?",
            "question"),
    *photo_questions.EXAMPLES,
)
ABLE = 0.9  # share of exact answers from which a kind of question can show what pruning costs
KEPT = Span(0.05, 1.0, 0.05, "Patches kept", "Mean over the layers of the language model; recycled ones count.",
            "of the patches")


@dataclass(frozen=True)
class KeptParams(Asked):
    """What a method of this tab needs to run on pictures too."""

    kept: Annotated[float, replace(KEPT, title="Patches kept (pictures)", fold=True)] = 0.25


class View(NamedTuple):
    """A picture with its question as the network has encoded it, before anything leaves.

    picture uint8 [S, S, 3]. features [1, L, D] of the encoder. attention float [L, L]: its last layer, mean over heads,
    rows are queries. ids: the question as the model is asked it. layers: N. first: P, the place of the first patch.
    """

    picture: np.ndarray
    question: questions.Question
    ids: list[int]
    features: Tensor
    attention: Tensor
    grid: tuple[int, int]
    layers: int
    first: int = 0

    @property
    def count(self) -> int:
        return len(self.attention)


@dataclass(frozen=True)
class Group:
    """Patches folded into one token: it stands at the place of `target`, one of the members. weights sum to 1."""

    target: int
    members: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class PicturePlan:
    """kept: patches that enter, int [K] ascending; features [1, K, D] of them. cuts: layer -> how many leave before it,
    those of the lowest importance [L]. groups: patches folded before the first layer. maps: named numbers [L] that
    decided. marked: patches to point out. note: how the last map was made. remark: what a reader of the result must
    know of the plan."""

    kept: Tensor
    features: Tensor
    importance: Tensor
    cuts: Mapping[int, int] = field(default_factory=dict)
    groups: Sequence[Group] = ()
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    marked: np.ndarray = field(default_factory=lambda: np.zeros(0, int))
    note: str = ""
    remark: str = ""

    def counts(self, layers: int) -> list[int]:
        """Patches alive at each layer."""
        gone = np.cumsum([self.cuts.get(layer, 0) for layer in range(layers)])
        return (len(self.kept) - gone).tolist()

    def share(self, layers: int, count: int) -> float:
        """Patches alive, mean over layers, as a share of all: the budget that was spent, recycled tokens included."""
        return sum(self.counts(layers)) / (layers * count)


Rule = Callable[[View], PicturePlan]


def able(card: Mapping) -> tuple[str, ...]:
    """The kinds of questions that a checkpoint answers, by its card; all where it says nothing."""
    share = {kind: card.get("metrics", {}).get(f"exact answers, {kind}", {"value": 1.0}) for kind in questions.KINDS}
    return tuple(kind for kind, found in share.items() if found["value"] >= ABLE)


def scene(job: Job) -> tuple[np.ndarray, questions.Question]:
    """The picture uint8 [S, S, 3] and the question of a subject; the seed places the things."""
    try:
        items, question = questions.read(job.subject.text, np.random.default_rng(job.seed))
    except questions.QuestionError as error:
        raise SubjectError(f"{str(error)[0].upper()}{str(error)[1:]}.") from error
    return questions.draw(items), question


SUBJECTS: Mapping[str, Callable[[Job], tuple[np.ndarray, questions.Question]]] = {"question": scene, "photo": photo}


def view(job: Job) -> View:
    picture, question = SUBJECTS[job.subject.kind](job)
    return encoded(job.model, job.tokenizer, picture, question)


def encoded(model, tokenizer, picture: np.ndarray, question: questions.Question) -> View:
    """Runs the encoder and keeps the attention of its last layer."""
    ids, last = model.prompt(tokenizer, question.text), len(model.encoder.layers) - 1
    with torch.inference_mode(), observe(model.encoder, [last], {"qk"}) as seen:
        features, first = model.encode(model.prepared(picture)), model.around(ids)[0].shape[1]
    rows = seen[last].rows_for(torch.arange(model.count))[0].float().mean(0).cpu()
    return View(picture, question, ids, features, rows, model.grid, len(model.lm.model.layers), first)


def everything(seen: View) -> PicturePlan:
    """Nobody leaves."""
    return PicturePlan(torch.arange(seen.count), seen.features, torch.zeros(seen.count))


def one_stage(seen: View, kept: float, score: Tensor, maps: Mapping[str, np.ndarray] | None = None) -> PicturePlan:
    """The best patches by score [L] enter and stay; where the budget of layers x patches leaves a remainder, one of
    them goes part of the way, so that the share of this plan is the asked one to the last patch."""
    total = max(round(kept * seen.count * seen.layers), seen.layers)
    fewest, deeper = divmod(total, seen.layers)
    ids = score.argsort(descending=True, stable=True)[: fewest + bool(deeper)].sort().values
    return PicturePlan(ids, seen.features[:, ids], score, {deeper: 1} if deeper else {}, maps=maps or {})


def by_hand(plan: PicturePlan, seen: View, choice: tuple[tuple[int, ...], ...] | None) -> PicturePlan:
    """The visitor's patches enter instead, as many as the plan's; nothing is folded. The cuts stay the plan's."""
    if choice is None:
        return plan
    ids = torch.tensor(sorted({int(i) for group in choice for i in group}), dtype=torch.long)
    if len(ids) != len(plan.kept) or int(ids[0]) < 0 or int(ids[-1]) >= seen.count:
        raise SubjectError(f"Please choose {len(plan.kept)} of the {seen.count} patches.")
    return replace(plan, kept=ids, features=seen.features[:, ids], groups=())


def by_force(plan: PicturePlan, seen: View, kept: Sequence[int]) -> PicturePlan:
    """The plan with these patches in it to the last layer; as many of the least important leave instead. A patch that
    was folded into a token stays part of that token, too."""
    if max(kept, default=0) >= seen.count:
        raise ParamError(f"there is no patch {max(kept)}; please keep one of 0 to {seen.count - 1}")
    if len(kept) > len(plan.kept):
        raise ParamError(f"only {len(plan.kept)} patches enter; please keep no more by force")
    if not kept:
        return plan
    forced = torch.tensor(sorted(kept), dtype=torch.long)
    own = plan.kept[~torch.isin(plan.kept, forced)]
    stay = own[plan.importance[own].argsort(descending=True, stable=True)[: len(plan.kept) - len(forced)]]
    ids = torch.cat([forced, stay]).sort().values
    features, importance = seen.features.clone(), plan.importance.float().clone()
    features[:, plan.kept], importance[forced] = plan.features, float("inf")
    return replace(plan, kept=ids, features=features[:, ids], importance=importance,
                   groups=[group for group in plan.groups if group.target in ids.tolist()])


def chosen(plan: PicturePlan, seen: View, job: Job) -> PicturePlan:
    """The plan with what a visitor decides in it: his own choice, or patches that he keeps by force."""
    return by_force(by_hand(plan, seen, job.choice), seen, [one.at for one in job.interventions.kept])


def prefill(model, plan: PicturePlan, ids: list[int], watch: bool = False) -> tuple[Pruner, Pass]:
    """One pass of the language model over the patches of a plan and the words around them."""
    with torch.inference_mode():
        before, behind = model.around(ids)  # [1, P, D], [1, T, D]
        hidden = torch.cat([before, model.visual(plan.features), behind], 1)
    first, end = before.shape[1], before.shape[1] + model.count
    rule = policy(plan, first, behind.shape[1], len(model.lm.model.layers))
    pruner = Pruner(model.lm, rule, end + behind.shape[1], watch)
    places = [torch.arange(first), first + plan.kept, torch.arange(end, end + behind.shape[1])]
    return pruner, pruner.enter(hidden, torch.cat(places))


def policy(plan: PicturePlan, before: int, behind: int, layers: int) -> KeepPolicy:
    """The plan's cuts for the shared machine: the words before and behind the patches outrank every patch."""
    never = torch.full((before + behind,), float("inf"))
    rank = torch.cat([never[:before], plan.importance.float(), never[before:]])
    alive = np.array([len(plan.kept), *plan.counts(layers)]) + before + behind
    rates = [plan.cuts.get(layer + 1, 0) / alive[layer + 1] for layer in range(layers)]

    def score(moment: PruneMoment) -> Tensor:
        return rank[moment.alive]

    return KeepPolicy(tuple(rates), score, revive=False)


def last_state(model, now: Pass) -> Tensor:
    """The hidden state [D] of the last word after the final norm, from which the answer is read."""
    with torch.inference_mode():
        return model.lm.model.norm(now.hidden)[0, -1].float()


def answer_logits(model, state: Tensor) -> Tensor:
    """Logits [V] of the word that follows."""
    with torch.inference_mode():
        return model.lm.lm_head(state.to(model.lm.lm_head.weight.dtype)).float()
