"""Small synthetic traces, one per tab, for tests of the drawing room and of the app: valid, seeded, no model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.trace import (
    CODE,
    AttendTrace,
    Canvas,
    Chart,
    Cost,
    Distribution,
    Edges,
    Fact,
    Field,
    Heads,
    MaskTrace,
    Provenance,
    PruneTrace,
    Rows,
    SampleTrace,
    Step,
    Trace,
    UnmaskTrace,
)

STORY = ("Once upon a time there was a fisherman who lived with his wife close by the sea.\n"
         "Every day he went out fishing, and he fished and he fished.\n\n"
         "\"Flounder,\" said he, \"I pray you, let me live; I am an enchanted prince.\" ")
STAMP = Provenance(checkpoint="scene-mgm-1", revision="0123456789ab", grade="trained here at teaching scale",
                   device="cpu", dtype="float32", path="reference", seed=7, params={"steps": 12}, subject="two-shapes",
                   versions={"torch": "2.13.0"}, seconds=0.41, recorded="2026-11-20")


def pieces(text: str, number: int) -> tuple[str, ...]:
    """Word pieces with their leading spaces, repeated to `number` tokens."""
    words, word = [], ""
    for char in text:
        if word and (char in " \n" or word[-1] in "\n"):
            words.append(word)
            word = ""
        word += char
    words.append(word)
    return tuple(words[i % len(words)] for i in range(number))


def picture(size: int = 64, hue: float = 0.0) -> np.ndarray:
    """A drawn scene: sky, a disc and a square; uint8 [size, size, 3]."""
    y, x = np.mgrid[:size, :size] / size
    sky = np.stack([0.72 + 0.2 * y, 0.84 + 0.1 * y, 0.96 - 0.2 * y], -1)
    disc = ((x - 0.36) ** 2 + (y - 0.42) ** 2 < 0.05)[..., None]
    square = ((abs(x - 0.68) < 0.15) & (abs(y - 0.7) < 0.15))[..., None]
    shade = np.where(disc, [0.85, 0.25 + hue, 0.2], np.where(square, [0.2, 0.4, 0.75 - hue], sky))
    return (np.clip(shade, 0, 1) * 255).astype(np.uint8)


def top(rng: np.random.Generator, positions, number: int = 5, vocabulary: int = 40) -> Distribution:
    """A random but valid top-k distribution at some positions."""
    positions = np.asarray(positions, np.int64)
    logits = rng.normal(0, 2, (len(positions), vocabulary)).astype(np.float16)
    probs = np.exp(logits.astype(np.float32))
    probs /= probs.sum(1, keepdims=True)
    ids = np.argsort(-probs, 1, kind="stable")[:, :number]
    return Distribution(positions, ids, np.take_along_axis(probs, ids, 1), -(probs * np.log(probs)).sum(1),
                        chosen=ids[:, 0], logits=logits)


def unmask(steps: int = 12, side: int = 16, method: str = "recap", reuse: bool = True) -> UnmaskTrace:
    """A grid filled in `steps` steps, with a picture, confidences, candidates and two kinds of steps."""
    rng, count = np.random.default_rng(3), side * side
    order, shares = rng.permutation(count), 1 - np.cos(np.linspace(0, np.pi / 2, steps + 1))
    ends = np.round(shares * count).astype(int)
    full, blank, made = picture(), np.full((64, 64, 3), 235, np.uint8), []
    for number in range(steps):
        state = np.full(count, CODE["unknown"], np.uint8)
        state[order[:ends[number]]] = CODE["reused" if reuse and number % 2 else "known"]
        if reuse and number % 2:
            state[order[max(0, ends[number] - 14):ends[number]]] = CODE["recomputed"]
        fresh = order[ends[number]:ends[number + 1]]
        state[fresh] = CODE["new"]
        share = (number + 1) / steps
        blend = (full * share + blank * (1.0 - share)).astype(np.uint8)
        confidence = np.where(state == CODE["unknown"], np.nan, rng.beta(5, 2, count))
        local = reuse and number % 2 == 1
        rows = 40 if local else count
        made.append(Step(f"{'local' if local else 'full'} pass {number + 1}", state,
                         ids=np.where(state == CODE["unknown"], -1, np.arange(count) % 40),
                         fields={"confidence": confidence, "entropy": rng.gamma(2, 0.8, count)}, picture=blend,
                         distributions={"model": top(rng, np.flatnonzero(state <= CODE["new"])[:120])},
                         cost=Cost(1, rows, rows * 180_000, 400_000 if reuse else 0, rows * 0.08)))
    mean = [[i, float(np.mean(step.fields["entropy"]) * (1 - i / steps))] for i, step in enumerate(made)]
    work = 61.0 if reuse else 100.0
    return UnmaskTrace(
        method, Canvas("grid", ("",) * count, (side, side), truth=("",) * count), tuple(made),
        fields={"confidence": Field("Confidence", "probability", 0, 1), "entropy": Field("Entropy", "nats", 0)},
        vocabulary={i: f"code {i}" for i in range(40)},
        charts=(Chart("line", "Mean entropy of masked cells", "step", "nats", {"mean": np.array(mean)}, by_step=True),),
        facts={"work": Fact("Work", work, "% of the multiply-adds", "lower"),
               "score": Fact("Scene score", 0.92, "of 1")},
        sentence="The left model recomputes only the cells in play in its short steps, at 61 % of the work.",
        provenance=STAMP)


def twin() -> UnmaskTrace:
    """The baseline beside `unmask()`: the same canvas, every step in full."""
    return unmask(method="maskgit", reuse=False)


def mask(side: int = 8) -> MaskTrace:
    """A photo-like grid: the picture, what is hidden and why, the reconstruction and its error."""
    rng, count = np.random.default_rng(5), side * side
    hardness, order = rng.gamma(2, 0.5, count), rng.permutation(count)
    state = np.full(count, CODE["visible"], np.uint8)
    state[order[:24]], state[order[24:48]] = CODE["masked-random"], CODE["masked-hard"]
    painted = np.where(np.isin(state, [CODE["masked-random"], CODE["masked-hard"]]), CODE["new"], state)
    error = np.where(painted == CODE["new"], hardness + rng.normal(0, 0.2, count), np.nan)
    fields = {"predicted": hardness, "loss": error}
    steps = (Step("the picture", np.full(count, CODE["visible"], np.uint8), picture=picture()),
             Step("the mask", state, fields={"predicted": hardness}, picture=picture()),
             Step("the reconstruction", painted.astype(np.uint8), fields=fields, picture=picture(hue=0.1),
                  cost=Cost(1, 64, 9_000_000, 0, 12.0)))
    pairs = np.stack([hardness, hardness + rng.normal(0, 0.3, count)], 1)
    return MaskTrace(
        "hpm", Canvas("grid", ("",) * count, (side, side), picture=picture()), steps,
        fields={"predicted": Field("Predicted difficulty", "", None, None),
                "loss": Field("Error", "squared, per pixel", 0)},
        charts=(Chart("scatter", "Predicted against true difficulty", "predicted", "true", {"patches": pairs}),),
        facts={"score": Fact("Mean error on hidden patches", 0.083, "squared", "higher"),
               "rho": Fact("Rank correlation", 0.54)},
        sentence="Half of the hidden patches were chosen because the model expects them to be hard.", provenance=STAMP)


def attend(number: int = 48, layers: int = 4, heads: int = 4) -> AttendTrace:
    """A causal text with all rows stored, head statistics and one matrix chart."""
    rng = np.random.default_rng(8)
    logits = rng.normal(0, 1.5, (layers, heads, number, number)) - 0.08 * np.abs(
        np.arange(number)[:, None] - np.arange(number)) * np.linspace(0.1, 3, heads)[:, None, None]
    weights = np.exp(np.where(np.tril(np.ones((number, number), bool)), logits, -np.inf))
    weights /= weights.sum(-1, keepdims=True)
    entropy = -(weights * np.log(np.maximum(weights, 1e-12))).sum(-1)
    distance = np.abs(np.arange(number)[:, None] - np.arange(number))
    stats = Heads(entropy.astype(np.float16), weights.max(-1).astype(np.float16),
                  (weights * distance).sum(-1).astype(np.float16), weights.sum(-2).astype(np.float16))
    state = np.full(number, CODE["known"], np.uint8)
    state[-1] = CODE["new"]
    matrix = Chart("matrix", "Mean entropy", "head", "layer", {"nats": entropy.mean(-1)},
                   ticks=tuple(f"head {h}" for h in range(heads)), rows=tuple(f"layer {l}" for l in range(layers)))
    link = Edges(np.full(6, number - 1), np.arange(6) * 5, np.linspace(0.1, 0.9, 6))
    return AttendTrace("attention", Canvas("text", pieces(STORY, number)),
                       (Step("one pass", state, edges={"attribution": link}, cost=Cost(1, number, 2_000_000, 0, 4.0)),),
                       charts=(matrix,), facts={"entropy": Fact("Mean entropy", float(entropy.mean()), "nats")},
                       sentence="Later heads look closer to the query; attention is not attribution.",
                       provenance=STAMP, heads=stats, rows=Rows.pack(np.arange(number), weights))


def prune(number: int = 96, layers: int = 6, sheets: int = 3) -> PruneTrace:
    """Nested steps: one sheet per generated token, one step per layer in it."""
    rng, made = np.random.default_rng(2), []
    for sheet in range(sheets):
        parent, alive = len(made), np.arange(number - sheets + sheet)
        for layer in range(layers):
            state = np.full(number, CODE["dropped"], np.uint8)
            state[number - sheets + sheet:] = CODE["unknown"]
            keep = alive[np.argsort(-rng.random(len(alive)))[:max(8, int(len(alive) * (0.8 if layer else 1.0)))]]
            back = rng.permutation(np.setdiff1d(np.arange(number - sheets), keep))[:5 if sheet and layer > 2 else 0]
            state[keep], state[back] = CODE["known"], CODE["revived"]
            alive = np.sort(keep)
            made.append(Step(f"token {sheet + 1}, layer {layer + 1}", state, level="token" if layer == 0 else "layer",
                             parent=None if layer == 0 else parent, fields={"importance": rng.gamma(1, 0.02, number)},
                             cost=Cost(1, len(keep) + len(back), len(keep) * 90_000, 6_000 * number, 0.4)))
    kept = np.array([[i, float(np.mean(step.state == CODE["known"]) * 100)] for i, step in enumerate(made)])
    return PruneTrace(
        "lazyllm", Canvas("text", pieces(STORY, number)), tuple(made),
        fields={"importance": Field("Importance", "attention of the newest token", 0)},
        charts=(Chart("line", "Tokens computed", "step", "% of the prompt", {"kept": kept}, by_step=True),
                Chart("bar", "Computed per layer", "layer", "%", {"kept": kept[:layers, 1]},
                      ticks=tuple(f"layer {i + 1}" for i in range(layers)))),
        facts={"work": Fact("Work", 58.0, "% of the multiply-adds", "lower"), "ms": Fact("First token", 21.3, "ms")},
        sentence="Deeper layers look at fewer tokens; some are brought back when a later token needs them.",
        provenance=STAMP)


def asked() -> PruneTrace:
    """A text with a question at its end and room for the answer, written in the second step."""
    labels = ("By", " the", " sea", ".", " Who", " lived", " by", " the", " sea", "?", "")
    roles = ("",) * 4 + ("asked",) * 6 + ("answer",)
    canvas, known = Canvas("text", labels, roles=roles), np.full(11, CODE["known"], np.uint8)
    first, ids = known.copy(), np.full(11, -1)
    first[10] = CODE["unknown"]
    done = Step("token 1", known, ids=np.r_[ids[:10], 7], cost=Cost(1, 11, 99))
    return PruneTrace("lazyllm", canvas, (Step("the prompt", first, ids=ids, cost=Cost(1, 10, 90)), done),
                      vocabulary={7: " a fisherman"}, sentence="It answers rightly.", provenance=STAMP)


def sample(prompt: int = 20, number: int = 12) -> SampleTrace:
    """A text that grows token by token, each step with the distribution it was drawn from."""
    rng, made, total = np.random.default_rng(4), [], prompt + number
    for step in range(number):
        state = np.full(total, CODE["unknown"], np.uint8)
        state[:prompt], state[prompt:prompt + step], state[prompt + step] = CODE["context"], CODE["known"], CODE["new"]
        found = top(rng, [prompt + step], 8)
        entropy = np.full(total, np.nan)
        entropy[prompt:prompt + step + 1] = rng.gamma(2, 0.9, step + 1)
        made.append(Step(f"token {step + 1}", state, fields={"entropy": entropy}, distributions={"model": found},
                         cost=Cost(1, 1, 4_000_000, 8_000 * (prompt + step), 3.1)))
    line = np.array([[i, float(np.nanmean(step.fields["entropy"]))] for i, step in enumerate(made)])
    return SampleTrace("sampling", Canvas("text", pieces(STORY, total)), tuple(made),
                       fields={"entropy": Field("Entropy", "nats", 0)},
                       vocabulary=dict(enumerate(pieces(STORY, 40))),
                       charts=(Chart("line", "Entropy along the text", "step", "nats", {"entropy": line}, by_step=True,
                                     reference=1.0),),
                       facts={"entropy": Fact("Mean entropy", 1.84, "nats")},
                       sentence="Where the bar is tall and alone, the model is sure.", provenance=STAMP)


def long_text(number: int = 1024, steps: int = 10) -> PruneTrace:
    """1,024 text tokens over ten steps, for size and speed."""
    rng, made, labels = np.random.default_rng(6), [], pieces(STORY, number)
    for step in range(steps):
        state = np.where(rng.random(number) < step / (steps + 4), CODE["dropped"], CODE["known"]).astype(np.uint8)
        made.append(Step(f"layer {step + 1}", state, level="layer", fields={"importance": rng.gamma(1, 0.02, number),
                                                                            "norm": rng.normal(8, 1, number)},
                         cost=Cost(1, int((state == CODE["known"]).sum()), 90_000_000, 0, 2.0)))
    return PruneTrace("lazyllm", Canvas("text", labels), tuple(made),
                      fields={"importance": Field("Importance", "attention", 0), "norm": Field("Norm", "")},
                      facts={"work": Fact("Work", 70.0, "% of the multiply-adds")}, provenance=STAMP)


HOSTILE = ("<img src=x onerror=window.pwned=1>", "${window.pwned=1}", "{{constructor.constructor('window.pwned=1')()}}",
           "\\", "\\u0041`${1}`", "\x00\x07", "\u202eabc\u202c", "שלום", "</script><script>window.pwned=1</script>",
           "\ud83d\ude00 emoji", "\ufffd", "a\tb\nc")


def hostile() -> SampleTrace:
    """Every text of a trace replaced by something that a careless page would run."""
    trace = sample()
    bad = tuple(HOSTILE[i % len(HOSTILE)] for i in range(trace.canvas.size))
    steps = tuple(replace(step, label=bad[i], note=bad[i + 1]) for i, step in enumerate(trace.steps))
    chart = replace(trace.charts[0], title=bad[0], y=bad[1], series={bad[2]: trace.charts[0].series["entropy"]})
    return replace(trace, method=bad[0], canvas=Canvas("text", bad), steps=steps, sentence=bad[0],
                   vocabulary={i: bad[i % len(bad)] for i in range(40)}, charts=(chart,),
                   fields={"entropy": Field(bad[0], bad[1], 0)}, facts={bad[0]: Fact(bad[0], 1.0, bad[1])})


def all_tabs() -> dict[str, Trace]:
    """One trace per tab."""
    return {"mask": mask(), "attend": attend(), "prune": prune(), "unmask": unmask(), "sample": sample()}


def graph(number: int = 12, directed: bool = False, masked: int | None = None, seed: int = 3) -> UnmaskTrace:
    """A tree that grows node by node, with a few more links, and a path of edges to the newest node; one is masked."""
    rng, words = np.random.default_rng(seed), pieces(STORY, 60)
    parents = np.array([-1, *(int(rng.integers(max(0, i - 4), i)) for i in range(1, number))])
    depth = np.zeros(number, int)
    for i in range(1, number):
        depth[i] = depth[parents[i]] + 1
    across = np.array([(np.flatnonzero(depth == d) == i).argmax() for i, d in enumerate(depth)]) - np.array(
        [np.sum(depth == d) / 2 for d in depth])
    labels = tuple(f"{i}: {''.join(words[i:i + 1 + i % 4]).strip()}" for i in range(number))
    links = [(p, i) for i, p in enumerate(parents) if p >= 0]
    links += [(i, i + 2) for i in range(0, number - 2, 5) if (i, i + 2) not in links]
    made, after = [], max(1, number // 4)
    for last in range(after, number, after):
        state = np.where(np.arange(number) <= last, CODE["known"], CODE["unknown"]).astype(np.uint8)
        state[max(1, last - after + 1):last + 1], state[0] = CODE["new"], CODE["context"]
        if masked is not None and masked <= last:
            state[masked] = CODE["masked"]
        way = [last]
        while parents[way[-1]] >= 0:
            way.append(int(parents[way[-1]]))
        edges = Edges(np.array(way[:0:-1]), np.array(way[-2::-1]), np.linspace(0.4, 1, len(way) - 1))
        made.append(Step(f"{last + 1} nodes", state, edges={"path": edges}, cost=Cost(1, last, 5_000),
                         fields={"surprise": np.where(state == CODE["unknown"], np.nan, rng.gamma(2, 1, number))}))
    canvas = Canvas("graph", labels, positions=np.stack([across * 1.6, depth], 1).astype(np.float32),
                    links=np.array(links, np.int32), directed=directed)
    return UnmaskTrace("recap", canvas, tuple(made), fields={"surprise": Field("Surprise", "nats", 0)},
                       sentence="The path to the newest node is marked.", provenance=STAMP)
