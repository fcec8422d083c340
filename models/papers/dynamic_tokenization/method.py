"""Dynamic tokenization (arXiv 2411.18553): pairs that are frequent in this batch become pieces, for this batch only.

A visitor's paragraphs are the batch: their tokens are merged, a hypernetwork invents the embeddings of what came about,
and the frozen model reads fewer tokens. Surprise is per character: per piece it would fall by counting alone."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated

import numpy as np
import torch

import kernels
from models.backbones import text as backbone_text
from models.engine.method import Card, Close, Control, Event, Job, Method
from models.engine.recording import Filling, distribution, line
from models.loops.sample.cached_lm import Meter, Stream
from models.loops.sample.loop import Journal, SamplingPolicy, decode
from models.loops.sample.report import entropy_curve
from models.papers.dynamic_tokenization.merging import BOUNDARIES, Pieces, merging
from models.trace import Canvas, Cost, Edges, Fact, Field
from models.trace.params import Choice, Span
from models.trace.subject import Example

BESIDE, TOKENS, FIELDS = "text-dynamic-1", 600, {"surprise": Field("Surprise", "bits/char", 0.0)}


@dataclass(frozen=True)
class Params:
    merges: Annotated[int, Span(0, 500, 5, "Merges (M)", "How often the commonest pair becomes a piece.")] = 40
    source: Annotated[str, Choice(("hypernetwork", "mean"), "Embeddings of pieces", "The mean is to be beaten.",
                                  ("invented by the hypernetwork", "mean of the tokens"))] = "hypernetwork"
    boundary: Annotated[str, Choice(BOUNDARIES, "A piece is at most", "None holds a space inside.",
                                    ("a word with its marks", "a pre-token: a word or marks"))] = "word"
    length: Annotated[int, Span(1, 60, 1, "Length", "Sample: written behind the last paragraph.", "pieces")] = 24


class Paragraphs:
    """A text as a batch: the tokens of each paragraph and what becomes of them, and where each begins on the canvas."""

    def __init__(self, job: Job):
        self.pieces = Pieces(job.tokenizer, job.params.boundary)
        self.read = backbone_text.read(job.tokenizer, job.subject.text, TOKENS).before_more()
        labels = self.read.labels
        behind = (i for i in range(2, len(labels)) if (labels[i - 2] + labels[i - 1]).endswith("\n\n"))
        self.first = [0, *(i for i in behind if labels[i].strip("\n"))]
        self.rows = [list(self.read.ids[a:b]) for a, b in zip(self.first, [*self.first[1:], len(labels)])]
        self.texts = [*self.rows]

    def places(self) -> Iterator[tuple[int, int, int]]:
        """(piece, its first token on the canvas, the token behind its last) of the batch as it is now."""
        for first, row, text in zip(self.first, self.rows, self.texts):
            tokens, ends = (np.cumsum([0, *(len(self.pieces.letters[one]) for one in some)]) for some in (row, text))
            at = (first + np.searchsorted(tokens, ends)).tolist()
            yield from zip(text, at, at[1:])


def run(job: Job) -> Iterator[Event]:
    batch = Paragraphs(job)
    yield from absorbed(job, batch)
    yield from continued(job, PieceReader(job, batch.texts[-1], batch.pieces, job.params.source))


def absorbed(job: Job, batch: Paragraphs) -> Iterator[Event]:
    """Tokens that join, merge after merge; before and after, what the frozen model makes of the batch."""
    ids, name, most = np.array(batch.read.ids, np.int32), batch.pieces.name, job.params.merges
    page = Filling("prune", Canvas("text", batch.read.labels, roles=batch.read.roles, ids=ids), FIELDS, name)
    page.fill(range(len(ids)), ids, "known")
    shown = sorted({min(one, most) for one in (1, 2, 3, 4, 6, 9, 13, 20, 30, 45, 70, 100, 150, 220, 330, 500)} - {0})
    yield page.open(len(shown) + 2)
    whole, full = looked(job, batch, "mean", page)  # nothing is merged yet
    yield page.step("the batch", note=f"{len(batch.texts)} texts, {len(ids)} tokens")
    done, lengths, steps = [], [len(ids)], merging(batch.texts, batch.pieces)
    for last in shown:
        before = len(done)
        for step in islice(steps, last - before):
            done.append(step)
            lengths.append(sum(map(len, batch.texts)))
        if len(done) > before:
            left, right, _, often = done[-1]
            said = f"“{name(left)}” and “{name(right)}” met {often} times; {lengths[-1]} of {len(ids)} tokens are left"
            made = joined(page, batch, {made for _, _, made, _ in done[before:]})
            yield page.step(f"merge {len(done)}", edges={"merges": made}, note=said)
    joined(page, batch, set())
    mean, (mine, cost) = looked(job, batch, "mean", page)[0], looked(job, batch, job.params.source, page)
    yield page.step("read", cost=cost, note=f"{lengths[-1]} pieces at consecutive places")
    invented = f"{mine:.2f} bits a character with invented embeddings, " if job.params.source == "hypernetwork" else ""
    said = (f"{len(done)} merges leave {lengths[-1]} of {len(ids)} tokens: {invented}{mean:.2f} "
            f"{'' if invented else 'bits a character '}if each piece is the mean of its tokens, {whole:.2f} unmerged.")
    surprise = {"merged pieces": mine, "every token": whole, "mean of the tokens": mean}
    yield Close("prune", said, (line("Tokens left", "tokens", {"this batch": lengths}, x="merges", by_step=False),), {
        "saved": Fact("Fewer tokens", 100 * (1 - lengths[-1] / len(ids)), "%", "higher"),
        **{one: Fact(f"Surprise, {one}", bits, "bits/char", "lower") for one, bits in surprise.items()},
        "work": Fact("Multiply-adds, hypernetwork included", 100 * cost.macs / full.macs, "% of before", "lower")})


def joined(page: Filling, batch: Paragraphs, new: set[int]) -> Edges:
    """Puts every piece at the place of its first token; its other tokens are gone. Links from what is new to those."""
    links = []
    for piece, first, end in batch.places():
        page.fill([first], [piece], "known" if end == first + 1 else "new" if piece in new else "merged")
        page.fill(range(first + 1, end), -1, "unknown")
        links += [(first, other) for other in range(first + 1, end) if piece in new]
    return Edges(*np.array(links, int).reshape(-1, 2).T, np.ones(len(links), np.float32))


def looked(job: Job, batch: Paragraphs, source: str, page: Filling) -> tuple[float, Cost]:
    """Bits per character of the batch, and what reading it cost, hypernetwork included; noted on the page, too."""
    readers = [PieceReader(job, batch.texts[0], batch.pieces, source)]
    readers += [PieceReader(job, text, batch.pieces, source, readers[0].model) for text in batch.texts[1:]]
    logits = torch.cat([reader.start()[0]["raw"] for reader in readers])
    standing, at, _ = zip(*batch.places())
    page.guesses["next"] = distribution(logits, at, standing)
    said = kernels.vocab_stats(logits, top_k=1, chosen=torch.tensor(standing, device=logits.device)).chosen_logp
    bits, size = -said.cpu().numpy() / np.log(2), np.array([len(batch.pieces.text(piece)) for piece in standing])
    page.note(at, surprise=bits / size)
    return float(bits.sum() / size.sum()), sum((reader.meter.lap() for reader in readers), readers[0].invented)


class PieceReader(Stream):
    """The frozen model at the start of a merged text, with every piece of the batch; as the Sample loop wants it."""

    def __init__(self, job: Job, text: list[int], pieces: Pieces, source: str, larger_model=None):
        from models.papers.dynamic_tokenization.network import larger
        hypernetwork, made = job.companion(BESIDE).model, pieces.spelled[pieces.base :]
        with torch.inference_mode():
            super().__init__(larger_model or larger(job.model, pieces, source, hypernetwork), Meter(job.model))
        self.meter.head = torch.nn.Linear(job.model.config.hidden_size, len(pieces.letters), device="meta")
        self.invented = Cost(macs=hypernetwork.work(made) if source == "hypernetwork" else 0)
        self.pieces, self.end = pieces, job.tokenizer.eos_token_id
        self.prompt, self.roles = [self.end, *text], ("added", *[""] * len(text))
        self.labels = tuple(self.texts(self.prompt))

    def start(self):
        return {"raw": self.read([self.prompt], every=True)[0, :-1].float()}, {}

    def texts(self, ids):
        return [*map(self.pieces.name, ids)]


def continued(job: Job, source: PieceReader) -> Iterator[Event]:
    """The last paragraph goes on, in tokens and in pieces of the batch."""
    def close(journal: Journal) -> Close:
        steps, alone = len(journal.ids), len(job.tokenizer.encode(journal.text, add_special_tokens=False))
        saved = Fact("Steps saved", 100 * (1 - steps / max(alone, 1)), "%", "higher")
        kept = Fact("Written", steps, "pieces")  # no perplexity: per piece it would compare vocabularies
        said = (f"{steps} steps wrote what takes {alone} of the model's own tokens; "
                f"{sum(id >= source.pieces.base for id in journal.ids)} of them wrote a piece of this batch.")
        return Close("sample", said, (entropy_curve(journal),), {"saved": saved, "kept": kept}, path=journal.path)
    yield from decode(job, source, SamplingPolicy(kernels.Sampler(0.8, min_p=0.1), job.params.length, close))


METHOD = Method(
    bound="its hypernetwork was trained for its own checkpoint's embeddings",
    card=Card(
        id="dynamic-tokenization", title="Dynamic tokenization", tabs=("prune", "sample"), arxiv="2411.18553",
        year=2024, seed="A",
        summary="Merges the pairs of tokens that are frequent in this batch, and a hypernetwork invents embeddings for "
                "the pieces, so that the frozen model reads fewer tokens. No vocabulary is trained or kept.",
        flow="texts > tokens > *frequent pairs of this batch merged > *hypernetwork invents embeddings > frozen model",
        look_at="Which tokens join in this batch and not in another, and the surprise per character.",
        not_covered="Encoders (XLM-R) and their tasks; writing with a million candidates behind an approximate index "
                    "(here the batch's own, exactly); embeddings kept across batches.",
        unverified="The hypernetwork starts as the mean of the tokens and learns in minutes what to add; the paper's "
                   "(zett) starts from nothing. Intermediate pieces stay in the vocabulary, as in BPE."),
    params=Params, accepts="text", checkpoints=("text-ar-1",), companions=(BESIDE,), run=run,
    control=Control(params={"source": "mean"}, title="Mean of the tokens"),
    fixed={"prune": "Which tokens join follows from the whole batch: change the texts, the merges or the boundary."},
    examples=(Example("farm", "Four texts from a farm", "dynamic-farm.txt"),
              Example("sea", "Four texts from a ship", "dynamic-sea.txt")))
