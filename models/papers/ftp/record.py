"""The records of future token prediction.

Sample: at every word of the text what one vector said of it 1, 2, 4 and 8 words before; then one step per reading, with
the words that it wrote and their lists. Attend: how the decoder's words look at the pseudo-tokens of one vector.
Letters: T words of the text, N words ahead, P pseudo-tokens, W ways, A places, L layers, H heads.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

import kernels
from models.backbones.instrument import observe
from models.engine.method import Close, Event, Job
from models.engine.recording import array, line, table
from models.loops.attend.groups import lens
from models.loops.attend.loop import at_memory, text_layout
from models.loops.sample.foresight import foreseen, rank, right_chart
from models.loops.sample.text_record import TOP, TextRecord
from models.papers.ftp.network import FutureReader
from models.trace import Fact, Field
from models.trace.spelling import joined

DISTANCES = (1, 2, 4, 8)  # words before a word, of which the lists are kept
AMONG = 5  # the likeliest words
WAYS = {"decoder": "one vector, its decoder", "heads": "one vector, independent heads", "trunk": "the trunk"}
FIELDS = {"entropy": Field("Entropy", "nats", low=0.0), "probability": Field("Probability", "probability", 0.0, 1.0),
          "four": Field("Probability that it had four words before", "probability", 0.0, 1.0),
          "turn": Field("Cosine to the vector of the word before, the mean taken off", "cosine", -1.0, 1.0)}


def told(job: Job, source, reader: FutureReader | None, z: Tensor, trunk: Tensor, written) -> Iterator[Event]:
    """The run as events. z, trunk: vectors [T, D] of the text, the writer's and the trunk's; written: trials and their
    cost."""
    writer, readings = job.params.writer, 0
    page = TextRecord(source.labels, source.prompt, job.params.length, FIELDS, source.texts, roles=source.roles)
    yield page.open()
    page.note(range(1, page.start), turn=adjacent(z))
    ranks = None if reader is None else looked_back(page, source.prompt, reader, z)
    yield page.step("the text", cost=source.meter.lap(), note=f"{page.start} words read")
    yield from attended(source, reader, z[-1:])
    for readings, (trial, cost) in enumerate(written, 1):
        page.told(trial.ids, torch.stack(trial.logits), WAYS[writer])
        wrote = f"{len(trial.ids)} word{'s' * (len(trial.ids) != 1)}"
        yield page.open()
        yield page.step(f"{readings}: {wrote}", cost=cost, note=f"{wrote} from one vector" if reader
                        else f"{wrote}, each read before the next")
    lines = {WAYS[writer]: z} | ({WAYS["trunk"]: trunk} if writer == "decoder" else {})
    yield closing(page, lines, ranks, readings, surprise(source.model, page.ids[: page.count], page.start))


@torch.inference_mode()
def surprise(model, ids: np.ndarray, start: int) -> float:
    """Nats per word of a model at what was written behind `start` words."""
    whole = torch.from_numpy(ids).long().to(model.device)
    logits = model(whole[None]).logits[0, start - 1 : -1].float()
    return -float(kernels.vocab_stats(logits, top_k=1, chosen=whole[start:]).chosen_logp.mean())


def looked_back(page: TextRecord, ids: list[int], reader: FutureReader, z: Tensor) -> np.ndarray:
    """Notes on the page what was said of every word before it came; ranks [1, A, N] of the words that came behind all
    places that have N words behind them."""
    said, words = list(foreseen(reader.behind(z), reader.ahead, reader.network.paths)), torch.tensor(ids)  # N x [T, V]
    for k in DISTANCES:
        page.guess(range(k, len(ids)), said[k - 1][:-k].clamp_min(1e-30).log(), ids[k:],
                   f"said {k} word{'s' * (k > 1)} before", top=TOP, measure=k == 1)
    page.note(range(4, len(ids)), four=said[3][:-4].gather(1, words[4:, None])[:, 0])
    at = torch.arange(len(ids) - len(said))
    return np.stack([array(rank(chances[at], words[at + k]), int) for k, chances in enumerate(said, 1)], 1)[None]


def centred(z: Tensor) -> Tensor:
    """Vectors [T, D] less their mean over the text: what all of them share makes any two alike."""
    return z.float() - z.float().mean(0)


def adjacent(z: Tensor) -> np.ndarray:
    """Cosine [T - 1] of each vector and the one before, the mean taken off."""
    return array(cosine_similarity(centred(z)[1:], centred(z)[:-1], dim=-1))


def closing(page: TextRecord, lines: Mapping[str, Tensor], ranks: np.ndarray | None, readings: int,
            odd: float) -> Close:
    new, (way, z) = page.count - page.start, next(iter(lines.items()))
    alike, names = normalize(centred(z), dim=-1), [label.strip() for label in page.labels[: page.start]]
    charts = [line("How far the vector turns from word to word", "cosine, mean taken off", x="word", first=1,
                   series={name: adjacent(one) for name, one in lines.items()}, by_step=False,
                   caption="High: the vector hardly moves."),
              table("How alike the vectors are", "word", "word", alike @ alike.T, names, names,
                    unit="cosine, mean taken off")]
    facts = {"odd": Fact("The trunk's surprise at what was written", odd, "nats a word", "lower"),
             "turn": Fact("Cosine of neighbouring vectors", float(adjacent(z).mean()), "mean taken off"),
             "each": Fact("Written", new / max(readings, 1), "words per step", "higher")}
    sentence = f"{readings} steps wrote {new} words, which cost the trunk {odd:.1f} nats each to read."
    if ranks is not None:
        four = 100 * float((ranks[0, :, 3] <= AMONG).mean())
        charts.insert(0, right_chart(ranks, [way], "word", top=AMONG, title=f"Among the {AMONG} likeliest, by how far "
                                     "ahead", caption=f"Behind {ranks.shape[1]} words of this text."))
        facts["four"] = Fact("Words four ahead among the five likeliest", four, "% of this text", "higher")
        sentence += f" {four:.0f} % of this text was among the five likeliest words four words before it came."
    return Close("sample", sentence, tuple(charts), facts)


def attended(source, reader: FutureReader | None, z: Tensor) -> Iterator[Event]:
    """The Attend record: the decoder's words at the pseudo-tokens of the text's last vector z [1, D]; where nothing
    decodes, the words of the text at each other."""
    if reader is not None and hasattr(reader.network, "decoder"):
        yield from decoding(source, reader, z)
        return
    model, ids = source.model.model if reader is None else reader.body, torch.tensor([source.prompt])
    yield from lens(model, lambda: model(ids.to(z.device), use_cache=False), text_layout(source.labels, source.roles),
                    {"text": range(len(source.prompt))}, say=lambda mass: "Here nothing is decoded from one vector: "
                    "these are the words of the text, looking at each other.", charts=lambda mass: ())


@torch.inference_mode()
def decoded(reader: FutureReader, z: Tensor) -> tuple[Tensor, np.ndarray]:
    """The likeliest words [N] of a vector z [1, D], and how each looks at the pseudo-tokens [L, H, N, P]."""
    told = torch.zeros(1, 0, dtype=torch.long, device=z.device)
    for _ in range(reader.ahead):
        told = torch.cat([told, reader.logits(z, told)[:, -1:].argmax(-1)], 1)
    with observe(reader.network.decoder, want={"rows"}, rows=range(reader.ahead)) as seen:
        reader.logits(z, told[:, :-1])
    return told[0], np.stack([array(call.rows[0]) for call in seen if call.name.endswith("crossattention")])


def decoding(source, reader: FutureReader, z: Tensor) -> Iterator[Event]:
    ids, rows = decoded(reader, z)
    words, mean = joined(source.texts(ids.tolist())), rows.mean((0, 1))
    names = [f"c{number + 1}" for number in range(mean.shape[1])]
    first, last = (names[int(mean[place].argmax())] for place in (0, -1))
    return at_memory(words, names, rows, sentence=f"All that the decoder knows of the text are these {len(names)} "
                     f"pseudo-tokens, made of one vector. The first word looks most at {first}, the last at {last}.",
                     charts=(table("Which pseudo-token each word looks at", "pseudo-token", "word", mean, names,
                                   [word.strip() for word in words], unit="share of attention", caption="Mean over "
                                   "layers and heads. The rows are the words ahead, the nearest first."),))
