"""The attention lens: who looks at whom in any shipped transformer, with attribution beside it. The tab's baseline.

Entropy, peak, reach and received attention of every query, layer and head; exact rows of any query on demand, without
ever making the N x N map of a long text. For a short text, Captum says what the prediction at the query depends on.
Attention is not attribution (arXiv 1902.10186 and its reply 1908.04626): the record gives their rank correlation.
"""

import time
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch

import kernels
from models.backbones.instrument import observe
from models.baselines.attention.attribution import ENOUGH, MOST, Attribution, attribute
from models.baselines.mae.method import EXAMPLES as PHOTOS
from models.checkpoints import families
from models.engine.method import Card, Emit, Job, Method
from models.engine.recording import distribution
from models.engine.statistics import LEAST, said, spearman, spearman_rows
from models.loops.attend import loop
from models.loops.attend.model_adapters import Sight, sight
from models.loops.attend.reading import costs
from models.trace import Chart, Cost, Fact, Field, Step
from models.trace.params import Flag, Span
from models.trace.percent import percent
from models.trace.subject import Example

SINK = 0.3  # share of the attention
FIELDS = {"attention": Field("Attention of the query, mean over layers and heads", "probability", 0.0),
          "gradients": Field("Integrated gradients of the prediction", "nats", diverging=True),
          "ablation": Field("Log-probability lost when this token is blanked", "nats", diverging=True)}


@dataclass(frozen=True)
class Params:
    query: Annotated[int, Span(-1, 2047, 1, "Query token", "Whose attention is shown and explained, counted from 0; "
                               "-1 is the last token of a text, the middle of a picture.")] = -1
    attribution: Annotated[bool, Flag("Attribution beside attention", f"For up to {MOST} tokens behind the query: "
                                      "integrated gradients and ablation (Captum).")] = True
    steps: Annotated[int, Span(8, 64, 8, "Points of the integral", "To begin with: they are doubled until the integral "
                               "explains its difference to 5 %, or it says that it did not converge.", fold=True)] = 16


def run(job: Job):
    """Observe one pass; read every head; for a short text, attribute the prediction at the query."""
    seen = sight(job)
    began = time.perf_counter()
    with torch.no_grad(), observe(seen.observed, want={"stats", "qk"}) as calls:
        seen.forward()
    looked = loop.look(calls, seen.layout, seen.query)
    ms = (time.perf_counter() - began) * 1000
    *first, last = loop.layer_steps(seen.layout, looked, costs(seen, calls, ms), seen.state)
    yield loop.opening(seen.layout, len(first) + 1, FIELDS, looked)
    for step in first:  # drawn, with exact rows, while the attribution is computed
        yield Emit("attend", step)
    found = attribute(seen, job.params.steps) if job.params.attribution else None
    if found is None:
        yield Emit("attend", last)
        yield loop.closing(seen.layout, looked, without(seen, looked))
        return
    rows = query_rows(seen, looked)  # [L, H, S]
    yield explained(last, seen, found, rows)
    facts = agreement(found, rows)
    charts = (heads_chart(found, rows),) if rows.shape[-1] >= LEAST else ()
    yield loop.closing(seen.layout, looked, say(seen, found, facts) + sink(rows), facts, charts)


def query_rows(seen: Sight, looked: loop.Looked) -> np.ndarray:
    """The query's exact attention [L, H, S] to the tokens that can be attributed."""
    layers, heads, _ = looked.heads.entropy.shape
    return np.array([[looked.kept.row(layer, head, seen.query)[: seen.ids.shape[1]] for head in range(heads)]
                     for layer in range(layers)])


def explained(last: Step, seen: Sight, found: Attribution, rows: np.ndarray) -> Emit:
    """The last layer's step with the prediction at the query, and three answers to what it came from."""
    stats = kernels.vocab_stats(found.predicted, top_k=8)
    guess = distribution(stats, seen.query, found.target)
    answers = {"attention": rows.mean((0, 1)), "gradients": found.gradients, "ablation": found.ablation}
    fields = {name: padded(values, seen.layout.canvas.size) for name, values in answers.items()}
    cost = last.cost + Cost(calls=2 + seen.ids.shape[1])
    return Emit("attend", replace(last, fields={**last.fields, **fields}, distributions={"next": guess}, cost=cost,
                                  note="Colour by attention, gradients and ablation in turn: three answers."),
                {token: seen.name(token) for token in stats.top_ids[0].tolist()})


def agreement(found: Attribution, rows: np.ndarray) -> dict[str, Fact]:
    """Rank correlations of the mean attention row with both attributions (their sizes, not their signs)."""
    mean = rows.mean((0, 1))
    pairs = {"rho_gradients": ("Attention and integrated gradients", mean, np.abs(found.gradients)),
             "rho_ablation": ("Attention and ablation", mean, np.abs(found.ablation)),
             "rho_between": ("Integrated gradients and ablation", np.abs(found.gradients), np.abs(found.ablation))}
    facts = {name: Fact(title, spearman(a, b), "rank correlation") for name, (title, a, b) in pairs.items()
             if found.converged or name == "rho_ablation"}
    return facts | {"delta": Fact("Convergence delta of the integral", found.delta, "nats"),
                    "explained": Fact("Difference that the integral explains", found.gap, "nats"),
                    "points": Fact("Points of the integral", found.points)}


def heads_chart(found: Attribution, rows: np.ndarray) -> Chart:
    values = np.stack([spearman_rows(layer, np.abs(found.ablation)) for layer in rows])
    return Chart("matrix", "Which heads agree with ablation at this query", "head", "layer",
                 {"rank correlation": values}, tuple(f"head {head + 1}" for head in range(rows.shape[1])),
                 tuple(f"layer {layer + 1}" for layer in range(rows.shape[0])),
                 caption="1: the head looks most at the tokens that the prediction needs most. 0: no relation.")


def say(seen: Sight, found: Attribution, facts: dict[str, Fact]) -> str:
    count = seen.ids.shape[1]
    if count < LEAST:
        return (f"Only {count} token{'s'[:count > 1]} stand{'s'[:count < 2]} behind this prediction: how attention and "
                f"attribution order them is not defined below {LEAST}.")
    if not found.converged:
        return (f"Integrated gradients did not converge: with {found.points} points they miss {abs(found.delta):.2f} "
                f"of {abs(found.gap):.2f} nats, more than {percent(ENOUGH)}, so they are compared with nothing. Over "
                f"the {count} tokens behind this prediction, attention and ablation agree with rank correlation "
                f"{said(facts['rho_ablation'].value)}.")
    gradients, ablation, between = (said(facts[name].value) for name in
                                    ("rho_gradients", "rho_ablation", "rho_between"))
    return (f"Attention is not attribution: over the {count} tokens behind this prediction, mean attention "
            f"and integrated gradients agree with rank correlation {gradients}, attention and ablation with "
            f"{ablation}, the two attributions with {between}.")


def sink(rows: np.ndarray) -> str:
    """Where heads rest that look for nothing: the first token, in most large models. rows [L, H, S]."""
    share = float(rows[..., 0].mean())
    return (f" {percent(share)} of the attention rests on the first token, whatever it says (an attention sink)."
            if rows.shape[-1] > 4 and share > SINK else "")


def without(seen: Sight, looked: loop.Looked) -> str:
    """The sentence for pictures and long texts."""
    entropy = looked.heads.entropy.astype(np.float32).mean((1, 2))
    span = looked.heads.span.astype(np.float32).mean((1, 2))
    most, least = int(entropy.argmax()), int(entropy.argmin())
    unlike = (f"layer {least + 1} looks most sharply (entropy {entropy[least]:.2f} nats, reach {span[least]:.1f} "
              f"{seen.layout.unit}) and layer {most + 1} most broadly ({entropy[most]:.2f} nats, {span[most]:.1f})")
    alike = (f"every layer looks alike (entropy {entropy[0]:.2f} nats)" if len(entropy) > 1 else
             f"the one layer looks with an entropy of {entropy[0]:.2f} nats and a reach of {span[0]:.1f} "
             f"{seen.layout.unit}")
    return (f"Of {seen.layout.canvas.size:,} tokens, {alike if most == least else unlike}; attention says where a "
            "token looks, not what the prediction needs.")


def padded(values: np.ndarray, count: int) -> np.ndarray:
    """Numbers [S] as a field [N], NaN where nothing was attributed."""
    field = np.full(count, np.nan, np.float32)
    field[: len(values)] = values
    return field


METHOD = Method(
    card=Card(
        id="attention", title="Attention lens", tabs=("attend",), seed=None,
        summary="Every layer and head of a transformer: how sharply, how far and at whom each token looks, with the "
                "tokens that the prediction really depends on beside it.",
        flow="text > layers and heads > attention of one token; layers and heads > prediction > integrated "
             "gradients; prediction > words blanked in turn",
        look_at="Point at a token: the picture shows its attention. Then compare the last layer's three maps.",
        not_covered="Cross-attention; attribution for pictures, and for queries with more than 64 tokens behind."),
    params=Params, accepts="text",
    checkpoints=("text-ar-1", "text-mdm-2", "text-ar-retrieval-1", "text-ar-1k-2", "algo-arithmetic-1", "photo-mae-1",
                 "photo-hpm-1", "photo-vit-1", "scene-mgm-1"),
    companions=("scene-vq-1",), run=run,
    kinds={"photo-mae-1": "photo", "photo-hpm-1": "photo", "photo-vit-1": "photo", "scene-mgm-1": "caption",
           "algo-arithmetic-1": "problem", **dict.fromkeys(families.PICTURES, "photo"), "HpmForPreTraining": "photo"},
    layouts=families.EVERY,
    worldly=(
        Example("keys", "The keys to the cabinet", "The keys to the old cabinet in the kitchen are on the table, but "
                "nobody knows who put", "text"),
        Example("trophy", "The trophy and the suitcase", "The trophy does not fit into the brown suitcase because it "
                "is too", "text"),
        Example("nurse", "Whom does she mean?", "The nurse told the doctor that the bus was late, so she took a taxi.",
                "text"),
    ),
    examples=(
        Example("tea", "A table under a tree", "attend-tea.txt"),
        Example("party", "A mad tea party", "attend-party.txt"),
        Example("garden", "A garden of live flowers (over 1,024 tokens)", "attend-garden.txt"),
        *(Example(e.id, e.title, e.source, "photo") for e in PHOTOS),
        Example("scene", "Three objects", "red circle, blue square, green ring", "caption"),
        Example("sum", "A sum in words", "start 6, plus 7, times 3. 6 plus 7 is 13, 13 times 3 is", "problem")))
