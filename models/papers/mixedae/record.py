"""What a mixed picture leaves to see. Mask: whose each patch is, and four decodes. Attend: who found its siblings."""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from models.backbones.instrument import observe
from models.baselines.mae.method import EXAMPLES
from models.engine.method import Close, Emit, Event, Job, Open
from models.engine.recording import array, bars, numbered, table
from models.loops.attend import loop as attention
from models.loops.mask import loop
from models.loops.mask.photos import Photo, hidden_mean, inpaint, patch_error, photo, picture
from models.papers.mixedae import mixtures as net
from models.trace import Chart, Cost, Fact, Field, Rows, Step, states
from models.trace.percent import percent
from models.trace.subject import from_example

YOURS, CHANCE, PLAIN, TOLD = "your photo", 100 * 15 / 63, "without segment vectors", "with segment vectors"
BY_CHANCE = f"chance {percent(CHANCE / 100)}"
COLOURS = {"orange": (230, 159, 0), "blue": (86, 180, 233), "green": (0, 158, 115), "pink": (204, 121, 167)}
SOURCE = Field("Photo that the patch is from", "1 to 4; yours is 4", 1.0, 4.0)
FIELDS = {"source": SOURCE, "kept": replace(SOURCE, title="Photo of those that the query patch keeps, or is most like"),
          "siblings": Field("Siblings among the others that it keeps, or is most like", "%", 0.0, 100.0)}


@dataclass(frozen=True, eq=False)
class MixedPhotos:
    """Four photos [R, L, P], the last the visitor's, mixed by m [1, L] and taken apart again. source [L]: m from 1 on.
    shown: the mixed picture. rows [E + 1, H, L, L]: the attention of every layer, at last the likeness of final tokens.
    found [E + 1]: % of siblings, by whether segment vectors were there; the rest is as was asked for."""

    photos: dict[str, Photo]
    target: Tensor
    m: Tensor
    source: np.ndarray
    shown: np.ndarray
    made: net.MixedPass
    rows: np.ndarray
    found: dict[str, np.ndarray]
    ms: float


def photos_of(job: Job) -> dict[str, Photo]:
    """Three shipped photos and the visitor's, by name."""
    others = [one for one in EXAMPLES if one.id != job.subject.name]
    drawn = (others[i] for i in torch.randperm(len(others), generator=job.generator(1))[: net.SOURCES - 1])
    images = {one.title: from_example(one, "photo").image for one in drawn} | {YOURS: job.subject.image}
    return {name: photo(image, job.model) for name, image in images.items()}


@torch.inference_mode()
def mixture(job: Job) -> MixedPhotos:
    """Mixes, encodes once and decodes once per photo; before that the same with or without segment vectors."""
    model, p, photos, found = job.model, job.params, photos_of(job), {}
    target = torch.cat([one.target for one in photos.values()])
    m = net.mixing(1, target.shape[1], job.generator()).to(target.device)
    ways = {PLAIN: None, **({TOLD: model.segment_embeddings[m]} if net.recognises(model) else {})}
    for name in sorted(ways, key=lambda one: (one == TOLD) == p.segments):  # what was asked for comes last, and stays
        began = time.perf_counter()
        with observe(model.vit, want={"qk"}) as seen:
            made = net.through(model, target, m, ways[name], p.keep)
        found[name] = array(torch.stack([net.siblings_kept(keys, m).mean() for keys in made.keys]))
    ms = 1000 * (time.perf_counter() - began)
    rows = [call.rows_for(range(1, target.shape[1] + 1))[0, ..., 1:].float() for call in seen]
    rows.append((made.z[0] @ made.z[0].T).clamp(0, 1).expand_as(rows[0]))
    return MixedPhotos(photos, target, m, array(m[0] + 1), picture(model, net.mix(target, m)), made,
                   array(torch.stack(rows)), {name: found[name] for name in ways}, ms)


def work(model, count: int) -> tuple[Cost, Cost]:
    """Of the encoder on a mixture, where finding the best keys computes the scores once more, and of one decode."""
    c, patch = model.config, model.config.num_channels * model.config.patch_size**2
    block = loop.block_macs(count + 1, c.hidden_size, c.intermediate_size) + count**2 * c.hidden_size
    thin = loop.block_macs(count + 1, c.decoder_hidden_size, c.decoder_intermediate_size)
    ends = (count // net.SOURCES + 1) * c.hidden_size + (count + 1) * patch  # what goes in and out of the decoder
    layers, more = c.num_hidden_layers, c.decoder_num_hidden_layers
    return (Cost(1, layers * (count + 1), layers * block + count * patch * c.hidden_size),
            Cost(1, more * (count + 1), more * thin + ends * c.decoder_hidden_size))


def owners(mixed: MixedPhotos) -> Step:
    """The mixed picture under four colours, one for each photo."""
    rows, columns = mixed.photos[YOURS].grid
    tint = np.array(list(COLOURS.values()))[mixed.source.astype(int) - 1].reshape(rows, columns, 3)
    picture = 0.4 * mixed.shown + 0.6 * np.kron(tint, np.ones((len(mixed.shown) // rows,) * 2 + (1,)))
    note = ", ".join(f"{colour}: {name}" for colour, name in zip(COLOURS, mixed.photos))
    return Step("whose each patch is", states(*["visible"] * len(mixed.source)), picture=picture.astype(np.uint8),
                note=note)


def rebuilt(job: Job, mixed: MixedPhotos) -> Iterator[Event]:
    """Mask: the mixed picture, then every photo and what is made of its own patches."""
    made, target, source, (encoder, decode) = mixed.made, mixed.target, mixed.source, work(job.model, len(mixed.source))
    error, whole = array(patch_error(made.patches, target)), states(*["visible"] * len(source))
    pasted = torch.where(made.mask[..., None] > 0, made.patches, target)
    yield loop.opening(mixed.photos[YOURS], 2 + 2 * net.SOURCES, FIELDS)
    yield Emit("mask", owners(mixed))
    yield Emit("mask", Step("the mixed picture", whole, fields={"source": source}, cost=replace(encoder, ms=mixed.ms),
                            picture=mixed.shown, note="each photo gives a quarter of the patches"))
    for number, (name, one) in enumerate(mixed.photos.items()):
        missing = source != number + 1
        yield Emit("mask", Step(name, whole, picture=one.shown, note="as it was given"))
        yield Emit("mask", Step(f"{name}, rebuilt", np.where(missing, *states("new", "visible")).astype(np.uint8),
                                fields={"loss": np.where(missing, error[number], np.nan)}, cost=decode,
                                picture=picture(job.model, pasted[number : number + 1])))
    own = array(made.error(target))
    fill = array(hidden_mean(patch_error(inpaint(job.model, target, made.mask), target), made.mask))
    chart = bars("Mean error of the missing patches", "photo", f"error ({loop.UNIT}, normalised pixels)",
                 {"network": own, "inpainting": fill}, tuple(mixed.photos), caption="Lower is better.")
    plain = loop.work(job.model, len(source) // net.SOURCES, len(source))[1]
    facts = {"error": Fact("Error of the missing patches, mean of four photos", float(own.mean()), loop.UNIT, "lower"),
             "macs": Fact("Multiply-adds per photo, its decode included", encoder.macs / 4e6 + decode.macs / 1e6,
                          "million", "lower"),
             "plain": Fact("The same of a masked autoencoder", plain / 1e6, "million")}
    below = f"{percent(abs(1 - own.mean() / fill.mean()))} {'below' if own.mean() < fill.mean() else 'above'}"
    yield Close("mask", "Four photos share one picture. From its own 16 patches each is rebuilt with a mean squared "
                        f"error of {own.mean():.2f}, {below} bilinear inpainting.", (chart,), facts)


def looked_for(job: Job, mixed: MixedPhotos) -> Iterator[Event]:
    """Attend: whose each patch is, in every layer which keys it keeps, and which final tokens are most like its own."""
    source, query, names = mixed.source, job.params.query, numbered("layer", len(mixed.made.keys) - 1)
    layout = attention.grid_layout(mixed.photos[YOURS].grid, mixed.shown)
    rows = Rows.pack(np.arange(len(source)), mixed.rows, "Attention; at last, likeness of final tokens", "of 1")
    yield Open("attend", layout.canvas, FIELDS, 1 + len(mixed.made.keys), rows=rows)
    yield Emit("attend", owners(mixed))
    for name, keys in zip((*names, "final tokens"), mixed.made.keys, strict=True):
        own = array(net.siblings_kept(keys, mixed.m)[0])
        kept = np.where(np.isin(np.arange(len(source)), array(keys[0, :, query], np.int64)), source, np.nan)
        what = "kept keys" if name in names else "likest patches"
        yield Emit("attend", Step(name, attention.marked(len(source), query), "layer",
                                  fields={"kept": kept, "source": source, "siblings": own},
                                  note=f"{percent(own.mean() / 100)} of the {what} are siblings; {BY_CHANCE}"))
    facts = {"chance": Fact("Siblings by chance", CHANCE, "%")}
    for name, found in mixed.found.items():
        facts[name] = Fact(f"Siblings among the likest final tokens, {name}", float(found[-1]), "%", "higher")
        facts[f"keys {name}"] = Fact(f"Among kept keys, last third of the layers, {name}", float(net.late(found)), "%",
                                     "higher")
    if net.recognises(job.model):
        facts["contrast"] = Fact("Contrastive loss", float(net.contrast(mixed.made.z, mixed.m)), "nats", "lower")
    yield Close("attend", say(mixed, job.params.keep), charts(mixed, names), facts, rows=rows)


def say(mixed: MixedPhotos, keep: int) -> str:
    plain, told = mixed.found[PLAIN] / 100, mixed.found.get(TOLD)
    more = "" if told is None else f", {percent(told[-1] / 100)} when segment vectors say whose it is"
    how = "it looks at all; of its best keys" if told is None else "of the keys that it keeps"
    return (f"Of the {keep - 1} patches that a patch ends up most like, {percent(plain[-1])} are its siblings "
            f"({BY_CHANCE}{more}). In the last third of the layers {how} {percent(net.late(plain))} are.")


def charts(mixed: MixedPhotos, layers: tuple[str, ...]) -> tuple[Chart, ...]:
    """Siblings by layer; how alike the final tokens are, photo by photo; the same tokens in the plane."""
    names, order = list(mixed.photos), mixed.source.argsort(kind="stable")
    z = mixed.made.z[0]
    plane, rows = array(torch.pca_lowrank(z, 2, niter=8)[0]), [names[int(one) - 1] for one in mixed.source[order]]
    return (bars("Siblings among the kept keys, and among the likest final tokens", "layer", "%", mixed.found,
                 (*layers, "final"), reference=CHANCE, caption="Without the patch itself; dashed: chance."),
            table("How alike the final tokens are", "patch, photo by photo", "patch, photo by photo",
                  array(z @ z.T)[order][:, order], rows, rows, unit="cosine",
                  caption="Four bright squares: the patches of one photo have become alike."),
            Chart("scatter", "The final tokens in the plane", "first direction", "second direction",
                  {name: plane[mixed.source == number + 1] for number, name in enumerate(names)},
                  caption="One dot per patch; the two directions in which tokens differ most."))
