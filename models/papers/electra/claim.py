"""ELECTRA's claim, small: probes of two encoders trained with the same work, and what the discriminator notices.

Five tasks whose truth is known by construction, on sentences of three books that no checkpoint was trained on; a linear
probe on mean-pooled last states, learned on the first part of every book and checked on the rest. The third arm
(uniform replacements in training) was not trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from models.checkpoints.store import Bundle, load
from models.claims import Lab
from models.claims.harness import Budget, Claim, Metric, Quantity, at_least, better, conclude, context
from models.claims.probe import ridge
from models.engine.statistics import auc
from models.loops.mask.planting import corrupt, hide, sample, select
from models.trace.subject import ASSETS

SEEDS, LEARN, LENGTH, RATE = (0, 1, 2), 0.6, 96, 0.15
ELECTRA, MLM, BLANK = "text-electra-1", "text-mlm-1", "untrained"
BOOKS = ((0, 49_500), (50_000, 99_000), (99_500, None))  # characters of heldout.txt: Lang, MacDonald, Bailey
SMALL = frozenset("a an and are as at be but by for from had has have he her him his i in is it its me my not of on or "
                  "our she so that the their them there they this to up was we were what when which who will with you "
                  "your".split())


def measure(lab: Lab) -> Claim:
    """Probes of both arms and of an untrained network; the judge's area under the curve, by who wrote."""
    pairs = sentence_pairs(lab.size(1200, 120))
    tasks = {name: [score(make, pairs, seed) for seed in SEEDS[: lab.size(3, 1)]] for name, make in TASKS.items()}
    hits = {name: {arm: 100 * np.mean([found[arm] for found in seeds], 0) for arm in seeds[0]}
            for name, seeds in tasks.items()}
    every = {arm: np.concatenate([found[arm] for found in hits.values()]) for arm in (ELECTRA, MLM, BLANK)}
    probe = Metric(f"probe accuracy, {len(TASKS)} tasks", "% correct", floor=every[BLANK], ceiling=100.0)
    ours, masked, blank = (probe.arm(name, every[name], budget=Budget(round(work(name), 1), "T multiply-adds to train"),
                                     checkpoints=() if name == BLANK else name) for name in (ELECTRA, MLM, BLANK))
    trained, uniform = (suspected(lab, writer) for writer in (True, False))
    return conclude(
        "electra",
        paper="ELECTRA (arXiv 2003.10555): outperforms BERT at the same size, data and compute, most for small models.",
        here="At equal training work, the generator's counted, probe accuracy is at least 1 point above a masked "
             "language model's of the same size; the generator's words are harder to notice than random ones (AUC at "
             "least 0.05 lower), and words of the same kind as the original harder than others.",
        arms=(ours, masked, blank), trainings=1, seeds=SEEDS, controls=[better(masked, blank)],
        expect=[better(ours, masked, least=1),
                at_least(apart("AUC, random words minus the generator's", uniform, trained), 0.05, bar="ours"),
                at_least(apart("AUC, words of another kind minus of the same kind", with_only(trained, False),
                               with_only(trained, True)), 0, bar="ours")],
        context=[*(context(f"probe: {name}, ELECTRA minus masked language model", found[ELECTRA] - found[MLM], "points",
                           "one task; judged together") for name, found in hits.items()),
                 context("AUC of the discriminator, the generator's words", area(trained), "AUC"),
                 context("AUC of the discriminator, random words", area(uniform), "AUC"),
                 context("ELECTRA's training work", work(ELECTRA), "T multiply-adds",
                         "its discriminator starts from a masked LM, about half of it")],
        would_take="longer training, three seeds, an arm with uniform replacements, and tasks on which a masked "
                   "language model is above an untrained network")


# The probes

Item = tuple[str, str, int]  # first sentence, second sentence, book


def sentence_pairs(most: int) -> list[Item]:
    """Neighbouring sentences of 4 to 30 words, spread over the shipped held-out books, with the book's number."""
    found = []
    text = (ASSETS / "texts" / "heldout.txt").read_text("utf-8")
    for book, (first, last) in enumerate(BOOKS):
        flat = re.sub(r"\s+", " ", text[first:last])
        own = list(paired(re.findall(r"[A-Z'\"][^.!?]*[.!?]['\"]?(?=\s)", flat)))
        keep = np.linspace(0, len(own) - 1, min(len(own), most // 3)).astype(int)
        found += [(*own[i], book) for i in keep]
    return found


def paired(sentences: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Neighbours that both fit; no sentence twice."""
    before = None
    for one in sentences:
        fits = 4 <= len(one.split()) <= 30
        if fits and before:
            yield before, one
        before = one if fits and not before else None


Broken = Callable[[Item, np.random.Generator], tuple[str, int] | None]


def order(item: Item, rng) -> tuple[str, int]:
    """Are the two sentences in order?"""
    truth = int(rng.integers(2))
    return " ".join(item[:2] if truth else item[1::-1]), truth


def neighbours(item: Item, rng) -> tuple[str, int]:
    """Are two neighbouring words exchanged?"""
    words, truth = " ".join(item[:2]).split(), int(rng.integers(2))
    at = int(rng.integers(len(words) - 1))
    if truth:
        words[at : at + 2] = words[at + 1], words[at]
    return " ".join(words), truth


def left_out(item: Item, rng) -> tuple[str, int]:
    """Is a word left out?"""
    words, truth = " ".join(item[:2]).split(), int(rng.integers(2))
    if truth:
        del words[int(rng.integers(1, len(words) - 1))]
    return " ".join(words), truth


def agreement(item: Item, rng) -> tuple[str, int] | None:
    """Is "was" written for "were" or the other way round? Only texts with one of them."""
    text, truth = " ".join(item[:2]), int(rng.integers(2))
    other = {"was": "were", "were": "was"}
    if not re.search(r"\b(was|were)\b", text):
        return None
    return (re.sub(r"\b(was|were)\b", lambda found: other[found[0]], text, count=1) if truth else text), truth


def book(item: Item, rng) -> tuple[str, int]:
    """Which of the three books is it from?"""
    return " ".join(item[:2]), item[2]


TASKS: dict[str, Broken] = {"order": order, "neighbouring words exchanged": neighbours, "a word left out": left_out,
                            "was or were": agreement, "which book": book}


def score(make: Broken, pairs: Sequence[Item], seed: int) -> dict[str, np.ndarray]:
    """Hits [K] (0 or 1) of every arm's probe on the checked texts of one task; the same texts for all arms."""
    rng = np.random.default_rng(seed)
    made = [(make(item, rng), item[2]) for item in pairs]
    made = [(*one, source) for one, source in made if one is not None]
    early = np.zeros(len(made), bool)
    for source in range(len(BOOKS)):  # the first part of every book
        own = [i for i, one in enumerate(made) if one[2] == source]
        early[own[: int(LEARN * len(own))]] = True
    texts, truth = [one[0] for one in made], np.array([one[1] for one in made])
    read = {name: features(bundle, texts) for name, bundle in arms().items()}
    return {name: ridge(x[early], truth[early], x[~early], truth[~early]) for name, x in read.items()}


def arms() -> dict[str, Bundle]:
    """Both trained encoders, and one of the same layout that learned nothing."""
    from dataclasses import replace

    from transformers import ElectraForPreTraining
    found = {name: load(name) for name in (ELECTRA, MLM)}
    torch.manual_seed(0)
    blank = ElectraForPreTraining(found[ELECTRA].model.config).eval().requires_grad_(False)
    return found | {BLANK: replace(found[ELECTRA], model=blank)}


@torch.no_grad()
def features(bundle: Bundle, texts: Sequence[str]) -> np.ndarray:
    """Mean of the last states of each text [K, D]."""
    room, found = bundle.model.config.max_position_embeddings, []
    ids = [bundle.tokenizer(text)["input_ids"][:room] for text in texts]
    for some in (ids[i : i + 50] for i in range(0, len(ids), 50)):
        longest = max(map(len, some))
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in some])
        padded = torch.tensor([one + [bundle.tokenizer.pad_token_id] * (longest - len(one)) for one in some])
        states = bundle.model.electra(padded, attention_mask=mask).last_hidden_state.float() * mask[..., None]
        found.append(states.sum(1) / mask.sum(1, keepdim=True))
    return torch.cat(found).double().numpy()


# What the discriminator notices


Suspected = list[tuple[np.ndarray, np.ndarray, np.ndarray]]  # per text: suspicion [n], replaced [n], same kind [n]


@torch.no_grad()
def suspected(lab: Lab, trained: bool) -> Suspected:
    """The discriminator's scores on texts of LENGTH tokens, RATE of them selected."""
    from models.backbones.electra import proposals
    bundle, writer = load("text-electra-1"), load("text-electra-1/generator").model
    text, draws = (ASSETS / "texts" / "heldout.txt").read_text("utf-8"), torch.Generator().manual_seed(SEEDS[0])
    ids = bundle.tokenizer(text)["input_ids"]
    ids = torch.tensor([ids[i : i + LENGTH] for i in range(0, len(ids) - LENGTH, LENGTH)][: lab.size(10_000, 4)])
    never = tuple(bundle.tokenizer.all_special_ids)
    pieces = bundle.tokenizer.batch_decode([[i] for i in range(writer.config.vocab_size)])
    kinds = np.array([kind(piece) for piece in pieces])  # [V]
    found = []
    for some in ids.split(32):
        places = select(some, torch.isin(some, torch.tensor(never)), round(RATE * LENGTH), draws)
        logits = proposals(writer, hide(some, places, bundle.tokenizer.mask_token_id, draws), places).float()
        written = sample(logits if trained else torch.zeros_like(logits), 1.0, never, draws)
        fake, replaced = corrupt(some, places, written)
        score = bundle.model(fake).logits.float().numpy()
        found += list(zip(score, replaced.numpy(), kinds[fake.numpy()] == kinds[some.numpy()]))
    return found


def kind(piece: str) -> str:
    """In place of the part of speech, by rule: a small word, a mark, a capital, the start or the inside of a word."""
    bare = piece.strip()
    if bare.lower() in SMALL:
        return "small word"
    if not bare[:1].isalpha():
        return "mark"
    return "capital" if bare[0].isupper() else "start" if piece[0] == " " else "inside"


def with_only(found: Suspected, same: bool) -> Suspected:
    """Of the replaced words only those of the same kind as the original (or of another); all originals stay."""
    keep = [~truth | (alike == same) for _, truth, alike in found]
    return [tuple(part[use] for part in one) for one, use in zip(found, keep)]


def area(found: Suspected, which=None) -> float:
    """Area under the curve of the suspicion, over all tokens of these texts."""
    which = range(len(found)) if which is None else which
    return auc(np.concatenate([found[at][0] for at in which]), np.concatenate([found[at][1] for at in which]))


def apart(name: str, found: Suspected, other: Suspected) -> Quantity:
    """Difference of the areas on the same texts planted in two ways, with an interval over texts."""
    return Quantity(name, np.arange(len(found), dtype=np.float64), "AUC",
                    lambda which: area(found, which.astype(int)) - area(other, which.astype(int)), -0.5, 0.5)


def work(name: str) -> float:
    """Training multiply-adds of an arm in T, forward, from its card; the generator's are in ELECTRA's."""
    if name == BLANK:
        return 0.0
    card = load(name).card
    figures = {title: one["value"] for title, one in card["metrics"].items()}
    done = card["examples_seen"] * figures["forward work per training text"]
    return (done + figures.get("forward work before, on text-mlm-1", 0.0)) / 1e6
