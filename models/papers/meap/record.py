"""The records of MEAP. Attend: the last token of a prompt looks for the answer, layer by layer. Mask: what training
sees, a text with holes in the input and a loss on every token.

Letters: N tokens, L layers, H heads, R queries.
"""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import torch

from models.backbones.instrument import observe
from models.backbones.text import Reading, names
from models.engine.method import Close, Emit, Event, Job
from models.engine.recording import Filling, bars, distribution, table
from models.loops.attend import loop
from models.loops.attend.groups import layers_chart, masses
from models.loops.attend.loop import look, marked, text_layout
from models.loops.attend.reading import costs
from models.loops.prune.loop import roles
from models.papers.meap.haystack import Haystack, chance
from models.papers.meap.rule import punched
from models.trace import CODE, Canvas, Chart, Fact, Field
from models.trace.percent import percent

KEYS = ("answer", "question", "first", "rest")  # the answer's line, and the first token, which stands alone
DEPTHS, HAYS = (0.0, 0.25, 0.5, 0.75, 1.0), (2, 4, 8, 16, 32)
FIELDS = {"loss": Field("Loss of this token, input with holes", "nats", 0.0, 10.0),
          "whole": Field("Loss of this token, whole input", "nats", 0.0, 10.0)}


def groups(kinds: Sequence[str]) -> dict[str, np.ndarray]:
    """Bool [N] of each kind of key, from the roles of a prompt's tokens. The first one receives what no head needs."""
    of, place, last = np.array(kinds), np.arange(len(kinds)), len(kinds) - 1
    found = {KEYS[0]: (of == "needed") & (place > 0), KEYS[1]: (of == "asked") & (place < last), KEYS[2]: place == 0}
    rest = ~np.any([*found.values()], 0) & (place < last)
    return {**found, KEYS[3]: rest, "itself": place == last}


def attended(job: Job, hay: Haystack, text: Reading) -> Iterator[Event]:
    """One step per layer; the last one holds what the model says behind "Answer:"."""
    layout, last = text_layout(text.labels, roles(hay.text, text)), len(text) - 1
    began = time.perf_counter()
    with torch.inference_mode(), observe(job.model, want={"qk", "stats"}) as seen:
        job.model(torch.tensor([text.ids], device=job.device), use_cache=False)
    spent = costs(SimpleNamespace(observed=job.model), seen, (time.perf_counter() - began) * 1000)
    looked, kinds = look(seen, layout, last), groups(layout.canvas.roles)
    mass = masses(seen, kinds, {"Answer:": [last]})[:, 0]  # [L, kinds]
    answer = job.tokenizer.encode(hay.said, add_special_tokens=False)
    sure, right = chance(job.model, text.ids, answer)
    state = np.where(kinds[KEYS[0]], CODE["accepted"], np.where(kinds[KEYS[1]], CODE["context"], CODE["visible"]))
    *early, final = loop.layer_steps(layout, looked, spent, marked(len(text), last, state=state.astype(np.uint8)))
    yield loop.opening(layout, len(early) + 1, looked=looked)
    yield from (Emit("attend", step) for step in early)
    blank = next(i for i, id in enumerate(answer) if job.tokenizer.decode([id]).strip())  # spaces in front of it
    guess = distribution(reading(job, torch.tensor([[*text.ids, *answer[: blank + 1]]]))[-1], [last], [answer[blank]])
    yield Emit("attend", replace(final, distributions={"what follows": guess}),
               {int(id): names(job.tokenizer, [int(id)])[0] for id in guess.top_ids[0]})
    best, most = int(mass[:, 0].argmax()), 100 * float(mass[:, 0].max())
    said = (f"At the end of the question it gives {100 * mass[:, 0].mean():.0f} % of its attention to the line with "
            f"the answer, most in layer {best + 1} ({most:.0f} %). It {'writes' if right else 'does not write'} the "
            f"right answer ({hay.answer}, probability {sure:.2f}).")
    pairs = {name: (0, place) for place, name in enumerate(KEYS)}
    charts = (layers_chart(mass[:, None], pairs, title="What the last token looks at, layer by layer",
                           caption="Answer: the line that holds it. First: the first token, where idle heads rest."),
              grid(job, hay), probe(job, text, kinds))
    yield loop.closing(layout, looked, said, row_facts(looked, mass, sure), charts)


def row_facts(looked: loop.Looked, mass: np.ndarray, sure: float) -> dict[str, Fact]:
    """How concentrated the last token's attention is, mean over layers and heads, and what comes of it."""
    layers, heads, count = looked.heads.entropy.shape
    share = np.array([looked.kept.row(i // heads, i % heads, count - 1) for i in range(layers * heads)])  # [L H, N]
    return {"needle": Fact("Attention on the answer's line", 100 * float(mass[:, 0].mean()), "%", "higher"),
            "answer": Fact("Probability of the right answer", sure, "probability", "higher"),
            "sink": Fact("Attention on the first token", 100 * float(mass[:, 2].mean()), "%"),
            "sharp": Fact("Entropy of the last token's attention", float(looked.heads.entropy[..., -1].mean()), "nats"),
            "gini": Fact("Gini index of the last token's attention", float(gini(share).mean()), "of 1"),
            "variance": Fact("Variance of the last token's attention", 1e4 * float(share.var(-1).mean()),
                             "square percent")}


def gini(share: np.ndarray) -> np.ndarray:
    """0: every key gets the same; near 1: one key gets all. share [..., N], sums of 1."""
    count, ordered = share.shape[-1], np.sort(share, -1)
    return (2 * (ordered * np.arange(1, count + 1)).sum(-1) / ordered.sum(-1) - count - 1) / count


def grid(job: Job, hay: Haystack) -> Chart:
    """The same needle at five depths among more and more hay: the probability of the right answer."""
    amounts = [amount for amount in HAYS if amount < len(hay.hay)] + [len(hay.hay)]
    encode = lambda text: job.tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    found = [[chance(job.model, encode(hay.moved(depth, amount).text), encode(hay.said))[0]
              for depth in DEPTHS] for amount in amounts]
    return table("The answer moved and buried", "depth of the answer's line", "other lines or sentences", found,
                 [percent(depth) for depth in DEPTHS], amounts, unit="probability of the right answer",
                 caption="Higher is better. 0 %: the answer stands first; 100 %: right before the question.")


def probe(job: Job, text: Reading, kinds: dict[str, np.ndarray]) -> Chart:
    """The paper's analysis: some of the context is [MASK], and what does a key of either kind receive?"""
    each = received(job.model, text.ids, kinds, job.tokenizer.mask_token_id, job.generator(2))
    return bars("Attention that a key receives when 15 % of the context is [MASK]", "key", "per mille of a query",
                {"from the question": 1000 * each}, ("masked", "not masked"),
                caption="Mean over layers and heads. Only here does the prompt have holes, for both models alike.")


def received(model, ids: Sequence[int], kinds: dict[str, np.ndarray], blank: int, dice: torch.Generator) -> np.ndarray:
    """Attention [2] that one key of the context receives from a token of the question, mean over layers and heads: a
    key that is [MASK], and one that is not."""
    whole, context = torch.tensor([list(ids)]), kinds[KEYS[0]] | kinds[KEYS[3]]
    holes = torch.where(torch.from_numpy(context), punched(whole, 0.15, blank, dice), whole)
    masked = (holes != whole)[0].numpy()
    with torch.inference_mode(), observe(model, want={"qk"}) as seen:
        model(holes.to(model.device), use_cache=False)
    keys = {"masked": masked, "not masked": context & ~masked}
    mass = masses(seen, keys, {"question": ~context & ~kinds[KEYS[2]]})[:, 0].mean(0)
    return mass / np.maximum([which.sum() for which in keys.values()], 1)


def trained(job: Job, text: Reading) -> Iterator[Event]:
    """What a training step sees of this text: the input with holes, the true targets, a loss on every one of them."""
    ids, blank = torch.tensor([text.ids]), job.tokenizer.mask_token_id
    seen = punched(ids, job.params.share, blank, job.generator(1))
    holes = (seen != ids)[0].numpy()
    page = Filling("mask", Canvas("text", text.labels, roles=text.roles, ids=ids[0].numpy().astype(np.int32)), FIELDS,
                   lambda id: names(job.tokenizer, [id])[0])
    yield page.open(4)
    page.fill(range(len(text)), text.ids, "visible")
    yield page.step("the targets: the true text")
    page.fill(holes, state="masked-random")
    yield page.step("the input: the text with holes", ids=seen[0].numpy(), note="every hole is [MASK], a key like any "
                    "other; no token knows what comes behind it")
    ways = {"loss": (seen, "input with holes", "the loss on every token"),
            "whole": (ids, "whole input", "the same without holes")}
    losses, places = {}, range(1, len(text))
    for name, (given, title, label) in ways.items():
        logits = reading(job, given)
        losses[name] = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none").numpy()
        page.note(places, **{name: losses[name]})
        page.fill(holes, state="masked-random" if name == "loss" else "visible")
        yield page.step(label, distributions={title: distribution(logits, places, ids[0, 1:].tolist())},
                        note=f"mean loss {losses[name].mean():.2f} nats; it counts at all {len(places)} places")
    said = (f"{int(holes.sum())} of {len(holes)} input tokens are hidden, and the loss counts at all {len(places)} "
            f"next tokens: {losses['loss'].mean():.2f} nats a token with holes, {losses['whole'].mean():.2f} without.")
    facts = {name: Fact(f"Mean loss, {title}", float(losses[name].mean()), "nats a token", "lower")
             for name, (_, title, _) in ways.items()}
    yield Close("mask", said, (by_kind(losses, holes),), facts)


@torch.inference_mode()
def reading(job: Job, ids: torch.Tensor) -> torch.Tensor:
    """Logits [N - 1, V] of every token after the first."""
    return job.model(ids.to(job.device), use_cache=False).logits[0, :-1].float().cpu()


def by_kind(losses: dict[str, np.ndarray], holes: np.ndarray) -> Chart:
    """The loss by what is predicted: a token that is itself hidden, one right behind a hole, any other."""
    hidden, behind = holes[1:], holes[:-1]  # [N - 1]
    kinds = {"the hidden token": hidden, "right behind a hole": behind & ~hidden, "any other": ~behind & ~hidden}
    kinds = {name: which for name, which in kinds.items() if which.any()}
    return bars("Loss by where the token stands", "what is predicted", "nats a token",
                {title: [losses[name][which].mean() for which in kinds.values()]
                 for name, title in (("loss", "input with holes"), ("whole", "whole input"))}, tuple(kinds),
                caption="Lower is better. All three kinds count in the loss, as in plain next-token prediction.")
