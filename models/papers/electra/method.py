"""ELECTRA: a small model plants plausible words, and the real model says for EVERY token whether it was replaced.

Paper: ELECTRA, Pre-training Text Encoders as Discriminators Rather Than Generators (arXiv 2003.10555), read with
google-research/electra. Planting and the game are in models/loops/mask, networks and losses in network.py; here
are the verdict, and what two more tabs show of the same run: the discriminator's attention on the planted and on the
original text, and the generator's proposals.

Not covered: fine-tuning, the ablation's objectives. The discriminator proposes no words: it cannot fill blanks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch

import kernels
from models.checkpoints.registry import is_checkpoint
from models.checkpoints.store import Bundle, CheckpointError, load
from models.engine.method import Card, Close, Emit, Event, Job, Method, Turn
from models.engine.recording import Filling
from models.loops.attend import loop as attention
from models.loops.attend.groups import looked_at
from models.loops.mask import words
from models.loops.mask.passages import MOST, Passage
from models.trace import Cost, Fact, Field
from models.trace.params import Span


@dataclass(frozen=True)
class Params(words.Params):
    query: Annotated[int, Span(-1, MOST - 1, 1, "Whose attention", "Counted from 0; -1 is the word that the "
                               "discriminator suspects most.", fold=True)] = -1


def writer(bundle: Bundle) -> Bundle:
    """The generator beside a discriminator: its `generator` folder, or the Hub's name for it."""
    name = bundle.key
    other = name.replace("-discriminator", "-generator") if "-discriminator" in name else f"{name}/generator"
    if bundle.own and not is_checkpoint(Path(other)):
        raise CheckpointError(f"ELECTRA needs the generator beside the discriminator: a folder 'generator' inside "
                              f"'{bundle.name}', with its config.json, safetensors and tokenizer.")
    return load(other, device=bundle.device, dtype=bundle.dtype)


@torch.no_grad()
def verdict(model, text: Passage, planted: words.Planted) -> tuple[np.ndarray, Cost]:
    """Step 7: P(replaced) [n] of every token, from one pass over the planted text."""
    from models.backbones.electra import macs
    suspicion = torch.sigmoid(model(planted.fake).logits[0].float()).cpu().numpy()  # [n]
    suspicion = np.where(text.special[0].cpu().numpy(), 0.0, suspicion)
    return suspicion, Cost(1, text.count * model.config.num_hidden_layers, macs(model.config, text.count))


def run(job: Job) -> Iterator[Event]:
    """Plant and judge; then the attention of the most suspicious word; then the generator's proposals one by one."""
    generator = writer(job.bundle).model
    if generator.config.vocab_size != job.model.config.vocab_size:
        raise CheckpointError(f"The generator beside '{job.bundle.name}' has another vocabulary; they do not belong "
                              "together.")
    text, planted, suspicion = yield from words.play(job, generator, partial(verdict, job.model), say, True)
    yield from attend(job, text, planted, suspicion)
    yield from propose(job, text, planted)


def say(facts: dict[str, Fact]) -> str:
    count = int(facts["replaced"].value)
    if not count:
        return ("Nothing was replaced, so there is nothing to find; the discriminator still calls "
                f"{facts['alarms'].value:.0f} % of the words replaced.")
    return (f"{count} word{'s were' if count > 1 else ' was'} replaced. The discriminator finds "
            f"{facts['found'].value:.0f} % of {'them' if count > 1 else 'it'} and calls "
            f"{facts['alarms'].value:.0f} % of the originals replaced; every word taught it something, where a masked "
            "language model learns only from the words that were hidden.")


def attend(job: Job, text, planted, suspicion: np.ndarray) -> Iterator[Event]:
    """All layers on the planted text, then on the original one, with the same word asked."""
    query = int(suspicion.argmax()) if job.params.query == -1 else min(job.params.query, text.count - 1)
    layout = attention.text_layout(text.labels, text.roles)
    looks = [looked_at(job.model, partial(job.model, ids), layout, query) for ids in (planted.fake, text.ids)]
    count = len(looks[0].heads.layers)
    titles = [f"layer {layer + 1}, {kind} text" for kind in ("planted", "original") for layer in range(count)]
    both = attention.side_by_side(looks, titles)
    steps = attention.layer_steps(layout, both, state=attention.marked(text.count, query))
    held = [*[planted.fake] * count, *[text.ids] * count]
    yield attention.opening(layout, len(titles))
    for step, ids in zip(steps, held):
        yield Emit("attend", replace(step, ids=ids[0].cpu().numpy()), text.names(ids[0].tolist()))
    yield attention.closing(layout, both, moved(both, count, query), shifts(both, count, query))


def shifts(both: attention.Looked, count: int, query: int) -> dict[str, Fact]:
    """Mean entropy at the asked word in both texts, and how much attention it moves: half the sum of differences."""
    entropy = both.heads.entropy[:, :, query].astype(np.float32)
    heads = range(both.heads.entropy.shape[1])
    rows = np.array([[both.kept.row(layer, head, query) for head in heads] for layer in range(2 * count)])
    distance = np.abs(rows[:count] - rows[count:]).sum(-1).mean() / 2
    return {"entropy_planted": Fact("Entropy at this word, planted text", float(entropy[:count].mean()), "nats"),
            "entropy_original": Fact("Entropy at this word, original text", float(entropy[count:].mean()), "nats"),
            "moved": Fact("Attention that moves elsewhere", 100 * float(distance), "%")}


def moved(both: attention.Looked, count: int, query: int) -> str:
    found = shifts(both, count, query)
    return (f"Of the attention of the marked word, {found['moved'].value:.0f} % goes elsewhere when the text is the "
            f"planted one; mean entropy {found['entropy_planted'].value:.2f} against "
            f"{found['entropy_original'].value:.2f} nats in the original.")


def propose(job: Job, text, planted) -> Iterator[Event]:
    """The generator's distribution at every selected place, before and after the temperature; it was asked once for
    all of them. The words drawn so far stand in the text."""
    warm, unseen = planted.logits / job.params.temperature, (planted.hidden != text.ids)[0].cpu().numpy()
    page = Filling("sample", text.canvas, PROPOSAL, lambda id: text.names([id])[id])
    page.fill(range(text.count), text.ids[0], np.where(unseen, "unknown", "context"))
    yield page.open(len(planted.at))
    for place, (at, chosen) in enumerate(zip(planted.at, planted.written[0])):
        page.fill(at, chosen)
        page.guess(at, planted.logits[place], chosen, "raw", top=words.TOP, measure=False)
        page.guess(at, warm[place], chosen, "warped", top=words.TOP)
        yield page.step(f"place {place + 1} of {len(planted.at)}", level="token",
                        note="" if unseen[at] else "The generator could see this word.")
    yield Close("sample", *closing(text, planted, warm))


def closing(text, planted, logits: torch.Tensor):
    """Sentence, charts, facts and path of the proposals."""
    found = kernels.vocab_stats(logits, top_k=1, chosen=text.ids[0, planted.places[0]])
    right = float(found.chosen_logp.exp().mean())
    facts = {"entropy": Fact("Mean entropy of the proposals", float(found.entropy.mean()), "nats"),
             "right": Fact("Probability of the original word", 100 * right, "%"),
             "lucky": Fact("Drawn words that are the original", int((~planted.truth[planted.at]).sum()), "tokens")}
    return (f"All {len(planted.at)} places were asked in one look at the text, so the drawn words do not know of each "
            f"other; the original has {100 * right:.0f} % of the probability on average.", (), facts, None, None,
            found.path)


PROPOSAL = {"entropy": Field("Entropy of the proposal", "nats", 0.0)}

METHOD = Method(
    card=Card(
        id="electra", title="ELECTRA", tabs=("mask", "attend", "sample"), arxiv="2003.10555", year=2020, seed="A",
        summary="A small model replaces a few words by plausible ones; the main model is trained to say for every "
                "word whether it was replaced.",
        flow="text > some words hidden > small generator > words replaced > *discriminator > *replaced or "
             "original for every word",
        look_at="Which replacements pass as original, and is a lucky hit left alone? Then let random words be written.",
        not_covered="Fine-tuning; the ablation's other objectives. The discriminator itself cannot fill in words.",
        unverified="15 % of the selected words stay visible to the generator, as in the reference code; the paper's "
                   "text hides all. Places are drawn without replacement."),
    params=Params, accepts="text", checkpoints=("text-electra-1",), run=run, examples=words.EXAMPLES,
    companions=("text-electra-1/generator",), baseline="mlm",
    baseline_params=lambda p: {one.name: getattr(p, one.name) for one in fields(words.Params)},
    turn=Turn("Choose the words to replace where the discriminator will notice least.", "doubt", words.budget),
    fixed={"sample": "Nothing is written there: every word is judged at once."})
