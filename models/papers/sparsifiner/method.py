"""Sparsifiner: a cheap guess of who will look at whom decides which query-key pairs are computed at all.

Wei et al., Sparsifiner: Learning Sparse Instance-Dependent Attention for Efficient Vision Transformers (arXiv
2303.13755); predictor, masks and both ways of computing them are in network.py. Every patch keeps the 25 % of
its keys that the predictor ranks first; the class token keeps all.

The checkpoint is an ordinary ViT: after phase 2 (it was trained under the masks), its control (equally long, densely),
or the trunk before phase 2. The predictors are frozen after phase 1 and serve all three. Pictures are computed under a
mask, so that attention can be watched; what the kept pairs alone cost in time is measured in the claim.
Not covered: the threshold modes, LV-ViT, other numbers of patches (predictors are tied to theirs).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch

from models.backbones.pictures import cut
from models.baselines.vit import method as vit
from models.engine.method import Card, Close, Control, Emit, Job, Method, Open
from models.loops.attend.classifiers import ClassifierArm, answer_facts, layout_of, lens_chart
from models.loops.attend.model_adapters import middle
from models.papers.sparsifiner import leaving, record
from models.papers.sparsifiner.network import KINDS, budget, chosen, score_of, states
from models.papers.sparsifiner.record import AttentionWork, SparsePass, look, mass_chart, work
from models.trace import Cost, Fact, Field
from models.trace.params import Choice, Span
from models.trace.percent import percent

SPARSE, DENSE, PREDICTORS = "photo-sparsifiner-1", "photo-sparsifiner-dense-1", "photo-sparsifiner-predictor-1"
FIELDS = {"cls": Field("Class token's attention", "of its strongest patch", 0.0, 1.0),
          "missing": Field("Dense attention left out, mean over heads", "probability", 0.0, 1.0)}


@dataclass(frozen=True)
class Params:
    keep: Annotated[float, Span(0.05, 1, 0.05, "Keys kept", "Per patch; trained at 0.25.", unit="of all keys")] = 0.25
    mask: Annotated[str, Choice(KINDS, "Chosen by", "The oracle computes all attention first and shows what is best.",
                                titles=("predictor", "oracle", "distance", "chance"))] = "learned"
    layer: Annotated[int, Span(1, 12, 1, "Layer opened", "Shown in stages: dense, predicted, kept, missed.")] = 4
    tokens: Annotated[float, Span(0.5, 1, 0.05, "Patches kept (Prune)", "In the Prune tab the patches the class token "
                                  "looks at least leave at three layers: this share, its square, its cube stay. Not "
                                  "trained for.")] = 0.7
    query: Annotated[int, Span(-1, 63, 1, "Query patch", "Whose map coefficients are drawn, counted from 0; -1 is the "
                               "middle. Any patch can be clicked.", fold=True)] = -1
    head: Annotated[int, Span(1, 12, 1, "Head of the pairs chart", fold=True)] = 1
    coefficients: Annotated[int, Span(1, 10, 1, "Maps in a row", "How many maps a predicted row is made of.",
                                      fold=True)] = 4
    threshold: Annotated[float, Span(0, 0.1, 0.01, "Map threshold", "Smaller map entries count as zero.",
                                     fold=True)] = 0.02


def arm_of(model, keys: Callable | None = None, tokens: float = 1.0) -> ClassifierArm:
    """The ViT with the pairs that `keys` keeps (None: all) and the patches that stay."""
    return replace(vit.arm_of(model), states=lambda pixels: states(model, pixels, keys, tokens=tokens))


def run(job: Job):
    """One pass with one layer of it opened up; then one in which patches leave as well."""
    p, model, predictors = job.params, job.model, job.companion(PREDICTORS).model
    score = score_of(p.mask, predictors, job.generator(), p.coefficients, p.threshold)
    keys = chosen(score, p.keep) if p.keep < 1 else None
    shown, pixels = cut(job.subject.image, model)
    answer = densely(model, pixels)
    yield from opened_up(job, predictors, arm_of(model, keys), shown, pixels, answer)
    arm = arm_of(model, keys, p.tokens)
    sight = look(arm, predictors, pixels, p.coefficients, p.threshold)
    spent = spending(p, predictors, sight)
    yield from leaving.record(arm, shown, sight, spent, matrices(model), answer, record.sweep_chart(SPARSE))


def opened_up(job: Job, predictors, arm: ClassifierArm, shown, pixels, answer: np.ndarray):
    """The Attend record."""
    p, layout = job.params, layout_of(arm, shown)
    sight = look(arm, predictors, pixels, p.coefficients, p.threshold)
    spent = spending(p, predictors, sight)
    costs = record.costs_of(sight, spent, matrices(job.model))
    opened, query = min(p.layer, len(spent)) - 1, p.query if p.query >= 0 else middle(layout.canvas.shape)
    steps, heads, rows = record.steps_of(arm, layout, sight, costs, opened, query)
    yield Open("attend", layout.canvas, {**FIELDS, **layout.fields}, len(steps), heads, rows)
    for step in steps:
        yield Emit("attend", step)
    head = min(p.head, sight.kept.shape[1]) - 1
    drawn = (mass_chart(sight, heads.layers), lens_chart(arm, sight.seen(costs)),
             *record.charts(sight, predictors, opened, head, query, p.coefficients, p.threshold))
    yield Close("attend", say(job, arm, sight, answer), drawn, facts(arm, sight, spent, costs, answer), heads, rows)


def densely(model, pixels) -> np.ndarray:
    """The same weights' answer [C] without a mask."""
    with torch.no_grad():
        return model(pixels).logits.float().softmax(-1)[0].cpu().numpy()


def spending(p: Params, predictors, sight: SparsePass) -> list[AttentionWork]:
    """What attention takes in every layer; `dense` is that of all tokens."""
    tokens = sight.alive.sum(1).tolist()
    found = [layer_work(p, own, sight, count) for own, count in zip(predictors.layers, tokens, strict=True)]
    return [one._replace(dense=round(one.dense * (tokens[0] / count) ** 2)) for one, count in zip(found, tokens)]


def layer_work(p: Params, own, sight: SparsePass, tokens: int) -> AttentionWork:
    """For as many tokens as are left; only a prediction costs a predictor, and the oracle all scores."""
    filled, width = float((own.maps(p.threshold) > 0).sum(1).float().mean()), own.q_proj.in_features
    kept, heads = min(budget(p.keep, sight.kept.shape[-1]), tokens), sight.kept.shape[1]
    found = work(tokens, width, kept, own.down.shape[1], p.coefficients, filled, heads)
    if p.keep >= 1:
        return found._replace(predictor=0, kept=found.dense)
    scored = found._replace(predictor=found.dense // 2, kept=found.kept // 2)
    return {"learned": found, "oracle": scored}.get(p.mask, found._replace(predictor=0))


def matrices(model) -> int:
    """Weights of a layer's projections and MLP: multiply-adds per token."""
    return sum(weight.numel() for weight in model.vit.layers[0].parameters() if weight.dim() == 2)


def facts(arm: ClassifierArm, sight: SparsePass, spent: list[AttentionWork], costs: list[Cost],
          answer: np.ndarray) -> dict[str, Fact]:
    found = answer_facts(arm, sight.seen(costs))
    kind, _ = sight.seen(costs).best()
    share = sum(one.predictor + one.kept for one in spent) / sum(one.dense for one in spent)
    return {"work": Fact("Multiply-adds of attention, predictor included", 100 * share, "% of dense", "lower"),
            "kept": Fact("Dense attention kept", float(sight.mass.mean()), "of 1", "higher"),
            "most": Fact("At most, with as many keys", float(sight.most.mean()), "of 1"),
            "recall": Fact("Strongest keys kept", 100 * float(sight.recall.mean()), "%", "higher"),
            "pairs": Fact("Pairs computed", 100 * float(sight.kept.mean()), "% of all"),
            "answer": found["answer"], "dense": Fact("The same, computed densely", float(answer[kind]), "of 1")}


def say(job: Job, arm: ClassifierArm, sight: SparsePass, answer: np.ndarray) -> str:
    p, (kind, share) = job.params, sight.seen([]).best()
    kept, tokens = int(sight.kept[0, 0, 1].sum()), sight.kept.shape[-1]
    told = f"it says {arm.labels[kind]} ({percent(share)}; densely {percent(answer[kind])})"
    if p.keep >= 1:
        return f"Every pair is computed: {told}."
    who = {"learned": "chosen before any query met a key", "oracle": "chosen from the finished attention",
           "window": "the nearest ones", "random": "drawn by chance"}[p.mask]
    return (f"With {kept} of {tokens} keys per patch, {who}, {percent(sight.mass.mean())} of the dense attention is "
            f"kept (at best {percent(sight.most.mean())}), and {told}.")


METHOD = Method(
    bound="its predictors were trained for its own checkpoints",
    card=Card(
        id="sparsifiner", title="Sparsifiner", tabs=("attend", "prune"), arxiv="2303.13755", year=2023, seed="A",
        summary="Before attention is computed, a small predictor guesses for this photo which patches will matter to "
                "which; only those pairs are computed.",
        flow="patches > *small predictor of pairs > *best keys per patch > attention on these pairs > "
             "class",
        look_at="Attend: step through the opened layer and click patches: what dense attention would do, what was "
                "guessed, which keys are kept, what was missed. Prune: patches leave on top of that.",
        not_covered="Threshold modes, LV-ViT, larger pictures: predictors are tied to 64 patches. Computing the "
                    "kept pairs alone is timed in the claim: on a processor it is slower.",
        unverified="Patches that leave are hidden from the class token too; the released code lets it see zeros."),
    params=Params, accepts="photo", checkpoints=(SPARSE, DENSE, vit.CHECKPOINT), companions=(PREDICTORS,), run=run,
    examples=vit.EXAMPLES, control=Control(params={"keep": 1.0, "tokens": 1.0}, title="All pairs and patches"),
    fixed={"prune": "Its patches leave by how much the class token looks at them, inside the network."})
