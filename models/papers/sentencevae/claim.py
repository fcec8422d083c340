"""The claim of SentenceVAE: a story that no training drew is an item, charged from its second clause on. Nothing was
tuned on them: one training of each network; what the decoder's logits are scaled by comes from other stories."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from models.backbones.rows import linear_work
from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Arm, Budget, Metric, as_good, at_least, at_most, better, conclude, context
from models.claims.tale_lab import encoded
from models.claims.timing import interleaved, times_faster
from models.loops.sample.cached_lm import Stream
from models.papers.sentencevae.method import CODER, SLLM, TRUNK, Params, by_clauses, by_words
from models.papers.sentencevae.network import ClauseReader, cut, rows_of, targets
from models.worlds import tales
from models.worlds.world import END, PAD, exam

CLAUSES, TOKENS, ALONE = "the clause model", "the token model", "the clause model, from the last clause alone"


@torch.no_grad()
def measure(lab: Lab):
    trunk = load(TRUNK)
    coder, reader = (load(name).model.on(trunk.model) for name in (CODER, SLLM))
    texts = [rows_of(split(trunk.tokenizer, doc.text)) for doc in exam(tales.GRAMMARS["stories"], 61, lab.size(200, 5))]
    words, letters = np.transpose([(len(said), len(trunk.tokenizer.decode(said))) for said in map(behind, texts)])
    bits = Metric("bits per character behind the first clause", "bits/char", "lower", 10 * words / letters, 0.0)
    works = np.array([reader.work(int((rows[:-1] != PAD).sum()), int((rows[1:] != PAD).sum()), len(rows) - 1) + (
        len(rows) - 1) * linear_work(reader.body) for rows in texts]), words * linear_work(trunk.model)

    def arm(name: str, nats) -> Arm:
        token = name == TOKENS
        return bits.arm(name, np.array([float(nats(rows)) for rows in texts]) / letters / np.log(2), checkpoints=(
            TRUNK,) if token else (SLLM, TRUNK), budget=Budget(works[token] / 1e6, "M multiply-adds"))

    mine, tokens = arm(CLAUSES, reader.story_nats), arm(TOKENS, lambda rows: token_nats(trunk.model, rows))
    alone = arm(ALONE, lambda rows: reader.story_nats(rows, alone=True))
    back = Metric("words and ends that come out of a clause's vector", "%", ceiling=100.0)
    own, other = (back.arm(name, found, checkpoints=(CODER, TRUNK), budget=Budget(1, "passes")) for name, found in zip(
        ("its own vector", "another clause's"), np.transpose([come_again(coder, rows) for rows in texts]), strict=True))
    job, first = SimpleNamespace(params=Params(length=80), generator=torch.Generator), behind(texts[0][:1], 0)
    ways = {CLAUSES: lambda: sum(id != END for trial, *_ in by_clauses(job, reader, [first]) for id in trial.ids),
            TOKENS: lambda: len(list(by_words(job, Stream(trunk.model), [END, *first])))}
    seconds = {name: found / max(1, ways[name]()) for name, found in interleaved(ways, lab.size(60, 2)).items()}
    return conclude(
        "sentencevae", paper="Inference is 54.8 to 365.2 % faster; perplexity lies from 66.7 % above (125 million "
                             "parameters) to 75.9 % below (1.3 billion), by the README's table, and is counted per "
                             "piece of another segmentation.",
        here="Ends and stops charged, the clause model needs at most 5 % more bits per character of clause stories "
        "than the token model it stands on, in at most 0.8 of its time per word; 97 % of a clause's words and ends "
        "come out of its vector.", arms=(mine, tokens, alone), trainings=1,
        expect=[as_good(mine, tokens, within=5, by="percent"), at_least(own, 97),
                at_most(times_faster(seconds, CLAUSES, TOKENS), 0.8)],
        controls=[better(mine, alone), better(own, other, least=20)],
        context=[context("passes of the language model, and cached positions, per 100 words", 100 * np.array(
            [len(rows) - 1 for rows in texts]) / words, "passes", "a count, without the decoder's passes")])


def split(tokenizer, text: str) -> list[list[int]]:
    """The clauses of a text by either kind of tokenizer."""
    ids = encoded(tokenizer, text)
    return [[ids[place] for place in span] for span in cut(tuple(tokenizer.decode([id]) for id in ids))]


def behind(rows: Tensor, first: int = 1) -> list[int]:
    """The words of a text [M, T] from its second clause on."""
    return rows[first:][rows[first:] > PAD].tolist()


def token_nats(model, rows: Tensor) -> Tensor:
    """What the words behind the first clause and the text's end cost a token model."""
    ids, wanted = torch.tensor([END, *behind(rows, 0), END]), len(behind(rows)) + 1
    return cross_entropy(model(ids[None, :-1]).logits[0, -wanted:].float(), ids[-wanted:], reduction="sum")


def come_again(coder: ClauseReader, rows: Tensor) -> list[float]:
    """Percent of the words and ends that come out of each clause's own vector, and of another's of the same text."""
    e, there, wanted = coder.encode(rows), rows != PAD, targets(rows)
    return [100 * float((coder.logits(vectors, rows).argmax(-1) == wanted)[there].float().mean())
            for vectors in (e, e.roll(1, 0))]
