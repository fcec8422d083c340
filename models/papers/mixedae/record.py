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
from models.loops.mask.photos import Photo, photo, picture
from models.papers.mixedae import mixtures as net
from models.trace import Chart, Cost, Fact, Field, Rows, Step, states
from models.trace.percent import percent
from models.trace.subject import from_example

YOURS, CHANCE, PLAIN, TOLD = "your photo", 100 * 15 / 63, "no segment vectors", "with segment vectors"
ENDS = "final tokens", "projected"
COLOURS = {"orange": (230, 159, 0), "blue": (86, 180, 233), "green": (0, 158, 115), "pink": (204, 121, 167)}
SOURCE = Field("Photo that the patch is from", "1 to 4; yours is 4", 1.0, 4.0)
FIELDS = {"source": SOURCE, "kept": replace(SOURCE, title="Photo of those that the query keeps, or is nearest to"),
          "siblings": Field("Siblings among the others that it keeps, or is nearest to", "%", 0.0, 100.0)}


@dataclass(frozen=True, eq=False)
class MixedPhotos:
    """Four photos, the last the visitor's: their patches [R, L, P], mixed by m [1, L]. names: of `rows` [E + 1 or 2, H,
    L, L], which hold the attention of every layer, then how alike the tokens at the end are. found: % of siblings there
    [L, E + 1 or 2], by whether segment vectors were given; the rest is as was asked for."""

    photos: dict[str, Photo]
    target: Tensor
    m: Tensor
    made: net.MixedPass
    names: tuple[str, ...]
    rows: np.ndarray
    found: dict[str, Tensor]
    picture: np.ndarray
    ms: float

    @property
    def source(self) -> np.ndarray:
        """Number of each patch's photo [L], from 1 on."""
        return array(self.m[0] + 1)

    def owners(self) -> Step:
        """The mixed picture under four colours, one for each photo."""
        tint = np.array(list(COLOURS.values()))[array(self.m[0], int)].reshape(*self.photos[YOURS].grid, 3)
        side = len(self.picture) // len(tint)
        return Step("whose each patch is", states(*["visible"] * self.m.shape[1]),
                    picture=(0.4 * self.picture + 0.6 * tint.repeat(side, 0).repeat(side, 1)).astype(np.uint8),
                    note=", ".join(f"{colour}: {name}" for colour, name in zip(COLOURS, self.photos)))


@torch.inference_mode()
def mixture(job: Job) -> MixedPhotos:
    """The visitor's photo and three shipped ones, mixed, encoded once and decoded once per photo."""
    model, found = job.model, {}
    others = [one for one in EXAMPLES if one.id != job.subject.name]
    drawn = (others[i] for i in torch.randperm(len(others), generator=job.generator(1))[: net.SOURCES - 1])
    images = {one.title: from_example(one, "photo").image for one in drawn} | {YOURS: job.subject.image}
    photos = {name: photo(image, model) for name, image in images.items()}
    target = torch.cat([one.target for one in photos.values()])
    m = net.mixing(1, target.shape[1], job.generator()).to(target.device)
    for name in (PLAIN, TOLD)[: 1 + net.recognises(model)]:
        began = time.perf_counter()
        with observe(model.vit, want={"qk"}) as seen:
            found[name] = net.through(model, target, m, model.segment_embeddings[m] if name == TOLD else None,
                                      job.params.keep), seen
    ms = 1000 * (time.perf_counter() - began)
    made, seen = found[TOLD if job.params.segments else PLAIN]
    rows = [call.rows_for(range(1, target.shape[1] + 1))[0, ..., 1:].float() for call in seen]
    rows += [(one[0] @ one[0].T).clamp(0, 1).expand_as(rows[0]) for one in made.ends]
    return MixedPhotos(photos, target, m, made, (*numbered("layer", len(seen)), *ENDS[: len(made.ends)]),
                       array(torch.stack(rows)), {name: one.siblings(m)[0].cpu() for name, (one, _) in found.items()},
                       picture(model, net.mix(target, m)), ms)


def work(model, count: int) -> tuple[Cost, Cost]:
    """Of the encoder on a mixture, and of one decode. To keep the best keys, their scores are computed once more."""
    rows, macs = loop.encoder_work(model, count, count)
    again = net.recognises(model) * model.config.num_hidden_layers * count**2 * model.config.hidden_size
    return Cost(1, rows, macs + again), Cost(1, *loop.decoder_work(model, count // net.SOURCES, count))


def rebuilt(job: Job, mixed: MixedPhotos) -> Iterator[Event]:
    """Mask: the mixed picture, then every photo and what is made of its own patches."""
    count, made, total = len(mixed.source), mixed.made, 0.0
    encoder, decode = work(job.model, count)
    yield loop.opening(mixed.photos[YOURS], 2 + 2 * net.SOURCES, FIELDS)
    yield Emit("mask", mixed.owners())
    yield Emit("mask", Step("the mixed picture", states(*["visible"] * count), fields={"source": mixed.source},
                            cost=replace(encoder, ms=mixed.ms), picture=mixed.picture,
                            note="each photo gives a quarter of the patches"))
    for at, (name, one) in enumerate(mixed.photos.items()):
        missing = np.flatnonzero(mixed.source != at + 1)
        hidden = loop.Hidden(missing, ("new",) * len(missing))
        exam = loop.graded(job.model, one, hidden, made.patches[at : at + 1], made.mask[at : at + 1], decode)
        pasted, total = torch.where(exam.mask[..., None] > 0, exam.patches, one.target), total + exam.mean()
        yield Emit("mask", Step(name, states(*["visible"] * count), picture=one.shown, note="as it was given"))
        yield Emit("mask", Step(f"{name}, rebuilt", hidden.states(count), fields={"loss": exam.on_hidden("loss")},
                                cost=decode, picture=picture(job.model, pasted),
                                note=f"mean error of the missing patches {loop.errs(exam.mean())}, by bilinear "
                                     f"inpainting {loop.errs(exam.mean('loss_inpaint'))}"))
    plain = loop.work(job.model, count // net.SOURCES, count)[1]
    facts = {"four": Fact("Error of the missing patches, four photos", total / net.SOURCES, loop.UNIT, "lower"),
             "macs": Fact("Multiply-adds per photo, its decode included", encoder.macs / 4e6 + decode.macs / 1e6,
                          "million", "lower"),
             "plain": Fact("The same of a masked autoencoder", plain / 1e6, "million")}
    yield loop.closing(job, exam, "Four photos share one picture. From its own 16 patches yours is rebuilt with a mean "
                       f"squared error of {loop.errs(exam.mean())}; bilinear inpainting errs by "
                       f"{loop.errs(exam.mean('loss_inpaint'))}.", facts)


def looked_for(job: Job, mixed: MixedPhotos) -> Iterator[Event]:
    """Attend: whose each patch is, which keys it keeps in every layer, and its nearest tokens at the end."""
    source, query = mixed.source, job.params.query
    layout = attention.grid_layout(mixed.photos[YOURS].grid, mixed.picture)
    rows = Rows.pack(np.arange(len(source)), mixed.rows, "Attention; at the end, likeness of tokens", "of 1")
    yield Open("attend", layout.canvas, FIELDS, 1 + len(mixed.names), rows=rows)
    yield Emit("attend", mixed.owners())
    own = array(mixed.found[TOLD if job.params.segments else PLAIN])
    for place, (name, keys) in enumerate(zip(mixed.names, mixed.made.keys, strict=True)):
        kept = np.where(np.isin(np.arange(len(source)), array(keys[0, :, query], np.int64)), source, np.nan)
        what = "nearest tokens" if name in ENDS else "kept keys"
        note = f"{percent(own[:, place].mean() / 100)} of the {what} are siblings; chance {percent(CHANCE / 100)}"
        yield Emit("attend", Step(name, attention.marked(len(source), query), "layer", note=note,
                                  fields={"kept": kept, "source": source, "siblings": own[:, place]}))
    read = {way: net.read(job.model, found.mean(0)) for way, found in mixed.found.items()}
    facts = {f"{what}, {way}": Fact(f"Siblings among the {what}, {way}", float(share), "%", "higher")
             for way, shares in read.items() for what, share in shares.items()}
    facts["chance"] = Fact("Siblings by chance", CHANCE, "%")
    if net.recognises(job.model):
        facts["contrast"] = Fact("Contrastive loss", float(net.contrast(mixed.made.ends[-1], mixed.m)), "nats", "lower")
    said = ", ".join(f"{percent(float(share) / 100)} of the {what}" for what, share in read[PLAIN].items())
    yield Close("attend", f"Siblings found without segment vectors: {said}; by chance {percent(CHANCE / 100)}.",
                charts(mixed), facts, rows=rows)


def charts(mixed: MixedPhotos) -> tuple[Chart, ...]:
    """Siblings by layer; how alike the tokens at the end are, photo by photo; the same tokens in the plane."""
    names, order, z = list(mixed.photos), mixed.source.argsort(kind="stable"), mixed.made.ends[-1][0]
    plane, rows = array(torch.pca_lowrank(z, 2, niter=8)[0]), [names[int(one) - 1] for one in mixed.source[order]]
    return (bars("Siblings among the kept keys, and among the nearest tokens at the end", "layer", "%",
                 {way: found.mean(0) for way, found in mixed.found.items()}, mixed.names, reference=CHANCE,
                 caption="Without the patch itself; dashed: chance. Late layers: the last third."),
            table("How alike the tokens at the end are", "patch, photo by photo", "patch, photo by photo",
                  array(z @ z.T)[order][:, order], rows, rows, unit="cosine",
                  caption="Four bright squares: the patches of one photo have become alike."),
            Chart("scatter", "The tokens at the end in the plane", "first direction", "second direction",
                  {name: plane[mixed.source == number + 1] for number, name in enumerate(names)},
                  caption="One dot per patch; the two directions in which tokens differ most."))
