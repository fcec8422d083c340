"""CAE on one photo. Mask: features guessed and true, tiles drawn from either. Attend: what each hole looked at."""
from __future__ import annotations

import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

import kernels
from models.baselines.mae.method import EXAMPLES, hide
from models.engine.method import Close, Emit, Event, Job
from models.engine.recording import NOTHING, array, bars, numbered, numbers, pixels, spread
from models.loops.attend import loop as attention
from models.loops.attend.features import colours
from models.loops.mask import loop
from models.loops.mask.photos import Photo, covered, photo
from models.papers.cae.guesses import CODES, Guess
from models.trace import Cost, Fact, Field, Step
from models.trace.percent import percent
from models.trace.subject import from_example

GUESS, OWN = "the guess", "the encoder's own features"
FIELDS = {"cosine": Field("Guessed and true features, both minus the mean", "cosine", -1.0, 1.0, diverging=True),
          "right": Field("Code named right", "1: yes, 0: no", 0.0, 1.0),
          "nats": Field("Surprise at the right code", "nats", 0.0),
          "entropy": Field("Entropy of the drawn code", "nats", 0.0)}


class PhotoGuess(NamedTuple):
    """A photo of which patches are hidden. codes [L]: the true ones; latents: Z^ and Z* [1, M, D], by whose they are,
    and drawn: per hole [M] what is drawn from them; cosines [2, M] of Z^ with Z*, and with another photo's."""

    view: Photo
    hidden: loop.Hidden
    visible: np.ndarray
    codes: np.ndarray
    made: Guess
    latents: dict[str, Tensor]
    drawn: dict[str, dict[str, np.ndarray]]
    cosines: np.ndarray
    cost: Cost

    def mean(self, name: str, by: str = GUESS) -> float:
        return float(self.drawn[by][name].mean())


@torch.no_grad()
def guess(job: Job) -> PhotoGuess:
    """Hides, guesses, and asks the encoder about the hidden patches alone, of this photo and of another."""
    model, view = job.model, photo(job.subject.image, job.model)
    hidden = hide(job, view)
    visible, began = np.setdiff1d(np.arange(view.count), hidden.ids), time.perf_counter()
    places = [torch.from_numpy(one)[None].to(view.pixels.device) for one in (visible, hidden.ids)]
    made = model(view.pixels, *places)
    cost = work(model, len(visible), len(hidden.ids), (time.perf_counter() - began) * 1000)
    example = next(one for one in EXAMPLES if one.id != job.subject.name)
    other = photo(from_example(example, "photo").image, model).pixels
    own, theirs = (model.target(one, places[1]) for one in (view.pixels, other))
    codes = array(job.companion("photo-vq-1").model.encode_normalised(view.pixels).flatten(), np.int64)
    drawn = {name: figures(logits[0], codes[hidden.ids])
             for name, logits in ((GUESS, made.logits), (OWN, model.draw(own, places[1])))}
    middle = made.latents - model.centre
    cosines = np.stack([array(cosine_similarity(middle, one - model.centre, -1)[0]) for one in (own, theirs)])
    return PhotoGuess(view, hidden, visible, codes, made, {GUESS: made.latents, OWN: own}, drawn, cosines, cost)


def figures(logits: Tensor, truth: np.ndarray) -> dict[str, np.ndarray]:
    """Of logits [M, C], per hole [M]: the likeliest code, whether it is right, and nats."""
    code, found = array(logits.argmax(-1), np.int64), numbers(logits, truth)
    return {"code": code, "right": (code == truth).astype(np.float32), "entropy": found["entropy"],
            "nats": -np.log(found["confidence"].clip(1e-30))}


def work(model, visible: int, hidden: int, ms: float = 0.0) -> Cost:
    """One pass from pixels to codes: encoder, regressor (keys and values of all, the rest of holes), decoder."""
    c, count, inner = model.config, visible + hidden, 2 * model.config.hidden_size
    width, blocks, more = c.hidden_size, len(model.regressor), len(model.decoder)
    macs = count * c.num_channels * c.patch_size**2 * width + hidden * width * CODES
    macs += c.num_hidden_layers * loop.block_macs(visible + 1, width, c.intermediate_size)
    macs += 2 * blocks * ((hidden + count) * width**2 + hidden * count * width + hidden * width * inner)
    macs += more * loop.block_macs(hidden, width, inner)
    return Cost(1, c.num_hidden_layers * (visible + 1) + (blocks + more) * hidden, macs, 0, ms)


def drawn(job: Job, g: PhotoGuess) -> Iterator[Event]:
    """Mask: what is hidden; the true tiles; features as colours, true and guessed; tiles drawn from either. The last
    is what the method paints by itself."""
    codebook, count, at = job.companion("photo-vq-1").model, g.view.count, g.hidden.ids
    cosine = {"cosine": spread(count, at, g.cosines[0])}

    def painted(title: str, picture: np.ndarray, note: str, fields=cosine, cost=NOTHING) -> Step:
        return Step(title, g.hidden.states(count, hidden="new"), picture=picture, fields=fields, cost=cost, note=note)

    def tiles(title: str, codes: np.ndarray, *more) -> Step:
        there = torch.from_numpy(codes).view(1, *g.view.grid).to(g.made.seen.device)
        return painted(title, pixels(codebook.decode(there)), *more)

    steps = [Step("what is hidden", g.hidden.states(count), picture=g.view.shown),
             tiles("the true tiles", g.codes, "Nothing paints better with 512 tiles.")]
    for name, picture in reversed([*zip(g.latents, features(g))]):
        steps.append(painted(f"features as colours: {name}", picture, {
            GUESS: "In the holes: what the regressor guesses that the encoder would say. Much of it is the place.",
            OWN: "In the holes: what the encoder says of the hidden patches where it sees nothing else."}[name]))
    for name, found in reversed(g.drawn.items()):
        codes, fields = g.codes.copy(), {one: spread(count, at, found[one]) for one in ("right", "nats", "entropy")}
        codes[at] = found["code"]
        note = f"{percent(found['right'].mean())} of the hidden codes are right. Visible patches keep their own tiles."
        steps.append(tiles(f"tiles drawn from {name}", codes, note, fields | cosine,
                           g.cost if name == GUESS else NOTHING))
    yield loop.opening(g.view, len(steps), FIELDS)
    for step in steps:
        yield Emit("mask", step)
    surprise = [g.mean("nats", by) for by in g.drawn]
    chart = bars("Surprise at the right codes", "drawn from", "nats", {"surprise": surprise}, tuple(g.drawn),
                 reference=float(np.log(CODES)), caption="Lower is better; dashed: knowing nothing.")
    yield Close("mask", say(g), (chart,), facts(g))


def features(g: PhotoGuess) -> list[np.ndarray]:
    """Features of all patches as colours, the hidden ones' as the encoder says and as guessed; one scale for both."""
    both = np.zeros((2, g.view.count, g.made.seen.shape[2]), np.float32)
    both[:, g.visible] = array(g.made.seen)
    both[:, g.hidden.ids] = [array(one[0]) for one in g.latents.values()]
    return colours(list(both), g.view.grid)[0]


def facts(g: PhotoGuess) -> dict[str, Fact]:
    right, own = (100 * g.mean("right", by) for by in (GUESS, OWN))
    return {"cosine": Fact("Guessed and true features", float(g.cosines[0].mean()), "cosine", "higher"),
            "shuffled": Fact("Guess and another photo, same places", float(g.cosines[1].mean()), "cosine"),
            "right": Fact("Codes named right", right, "% of hidden patches", "higher"),
            "hard": Fact("How hard this mask is: surprise at the right codes", g.mean("nats"), "nats", "higher"),
            "entropy": Fact("Entropy of the drawn codes", g.mean("entropy"), "nats"),
            "guessing": Fact("Lost in guessing: codes that the encoder's own features add", own - right, "points"),
            "drawing": Fact("Lost in drawing: codes wrong even from those", 100 - own, "points", "lower")}


def say(g: PhotoGuess) -> str:
    right, own = (percent(g.mean("right", by)) for by in (GUESS, OWN))
    mine, other = g.cosines.mean(1)
    return (f"Guessed features fit the encoder's own with a cosine of {mine:.2f}; those of another photo in the same "
            f"places with {other:.2f}. From the guesses alone {right} of {len(g.hidden.ids)} codes are right, from the "
            f"encoder's own features {own}.")


def looked(job: Job, g: PhotoGuess) -> Iterator[Event]:
    """Attend: what every hole looks at, block by block, among visible patches and other holes."""
    at = g.hidden.ids
    layout = attention.grid_layout(g.view.grid, covered(g.view, at))
    rows = np.stack([array(kernels.attention_rows(q, k, range(len(at)))[0]) for q, k in g.made.looks])
    names = numbered("regressor block", len(rows))
    found = attention.crossed(layout, rows, at, [*g.visible, *at], names)
    seen, share = rows[..., : len(g.visible)].sum(-1).mean((1, 2)), len(g.visible) / g.view.count  # seen [E]
    far = np.abs(layout.coords[at] - layout.coords[job.params.hole]).sum(1)
    state = attention.marked(g.view.count, int(at[far.argmin()]), state=g.hidden.states(g.view.count))
    chart = bars("Attention of holes to visible patches", "block", "%", {"visible": 100 * seen}, names,
                 reference=100 * share, caption="Dashed: their share of all patches. The rest goes to other holes.")
    sentence = (f"Holes give {percent(seen[0])} of their attention to visible patches in the first block, "
                f"{percent(seen[-1])} in the last; {percent(share)} of all patches are visible.")
    return attention.record(layout, found, sentence=sentence, charts=(chart,), state=state)
