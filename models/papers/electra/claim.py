"""ELECTRA's claim, small: probes of two encoders trained with the same work, and what the discriminator notices.

Five tasks whose truth is known by construction, on sentences of three books that no checkpoint was trained on; a linear
probe on mean-pooled last states, learned on the first part of every book and checked on the rest. One training run per
arm, so the verdict never reads "holds". The third arm (uniform replacements in training) was not trained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from models.checkpoints.store import Bundle, load
from models.claims import Claim, Lab, Row, bootstrap, row
from models.claims.ridge import RIDGES, solve
from models.engine.statistics import auc
from models.loops.mask.planting import corrupt, hide, sample, select
from models.trace.subject import ASSETS

SEEDS, LEARN, LENGTH, RATE = (0, 1, 2), 0.6, 96, 0.15
ARMS = ("text-electra-1", "text-mlm-1")
BOOKS = ((0, 49_500), (50_000, 99_000), (99_500, None))  # characters of heldout.txt: Lang, MacDonald, Bailey
SMALL = frozenset("a an and are as at be but by for from had has have he her him his i in is it its me my not of on or "
                  "our she so that the their them there they this to up was we were what when which who will with you "
                  "your".split())


def measure(lab: Lab) -> Claim:
    pairs = sentence_pairs(lab.size(1200, 60))
    tasks = {name: [score(make, pairs, seed) for seed in SEEDS[: lab.size(3, 1)]] for name, make in TASKS.items()}
    hits = {name: {arm: np.mean([found[arm] for found in seeds], 0) for arm in seeds[0]}
            for name, seeds in tasks.items()}
    gains = [hits[name][ARMS[0]] - hits[name][ARMS[1]] for name in hits]
    main = gap("probe accuracy, mean of the tasks: ELECTRA minus masked language model", gains, "at least 1", 1.0)
    above = gap("control: masked language model minus an untrained network",
                [hits[name][ARMS[1]] - hits[name]["untrained"] for name in hits], "interval above 0", 0.0)
    noticed = notices(lab)
    rows = (main, *(row(f"probe: {name}, ELECTRA minus masked language model", 100 * gain, "points")
                    for name, gain in zip(hits, gains)),
            *(row(f"probe: {name}, {arm}", 100 * hits[name][arm], "% correct") for name in hits for arm in ARMS),
            above, *noticed, *work())
    good = [r.holds for r in rows if r.holds is not None and r is not above]
    return Claim(
        method="electra",
        paper="ELECTRA (arXiv 2003.10555): outperforms BERT at the same size, data and compute, most for small models.",
        here="At equal training work, the generator's counted, mean probe accuracy is at least 1 point above a masked "
             "language model's of the same size; the generator's words are harder to notice than random ones (AUC at "
             "least 0.05 lower), and words of the same kind as the original harder than others.",
        metric="accuracy of a linear probe on mean-pooled last states, points; area under the curve of the suspicion",
        baseline="text-mlm-1: same layout, data, length and training multiply-adds; the generator against random words",
        budget=f"{len(pairs)} sentence pairs, {len(TASKS)} tasks, {len(tasks['order'])} draws each; one training run "
               "per arm", rows=rows, verdict="mixed" if any(good) else "does not hold", reason=reason(main, noticed),
        control="An untrained network of the same layout under the same probe; random words for the judge.",
        seeds=SEEDS)


def reason(main: Row, noticed: Sequence[Row]) -> str:
    sign = "above" if main.low > 0 else "below" if main.high < 0 else "not clearly different from"
    return (f"One training run per arm: ELECTRA is {sign} the masked language model at equal work ({main.value:+.1f} "
            f"points [{main.low:.1f}, {main.high:.1f}]); it notices random words with AUC {noticed[1].value:.2f}, the "
            f"generator's with {noticed[0].value:.2f}. Uniform replacement was not trained as an arm.")


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
    return {name: probed(features(bundle, texts), truth, early) for name, bundle in arms().items()}


def arms() -> dict[str, Bundle]:
    """Both trained encoders, and one of the same layout that learned nothing."""
    from dataclasses import replace

    from transformers import ElectraForPreTraining
    found = {name: load(name) for name in ARMS}
    torch.manual_seed(0)
    blank = ElectraForPreTraining(found[ARMS[0]].model.config).eval().requires_grad_(False)
    return found | {"untrained": replace(found[ARMS[0]], model=blank)}


@torch.no_grad()
def features(bundle: Bundle, texts: Sequence[str]) -> np.ndarray:
    """Mean of the last states of each text, and a constant: [K, D + 1]."""
    room, found = bundle.model.config.max_position_embeddings, []
    ids = [bundle.tokenizer(text)["input_ids"][:room] for text in texts]
    for some in (ids[i : i + 50] for i in range(0, len(ids), 50)):
        longest = max(map(len, some))
        mask = torch.tensor([[1] * len(one) + [0] * (longest - len(one)) for one in some])
        padded = torch.tensor([one + [bundle.tokenizer.pad_token_id] * (longest - len(one)) for one in some])
        states = bundle.model.electra(padded, attention_mask=mask).last_hidden_state.float() * mask[..., None]
        found.append(states.sum(1) / mask.sum(1, keepdim=True))
    return np.concatenate([torch.cat(found).double().numpy(), np.ones((len(texts), 1))], 1)


def probed(x: np.ndarray, truth: np.ndarray, early: np.ndarray) -> np.ndarray:
    """Hits of a ridge classifier; its ridge is chosen on the last fifth of the texts it learns from."""
    x = np.concatenate([(x[:, :-1] - x[early, :-1].mean(0)) / (x[early, :-1].std(0) + 1e-6), x[:, -1:]], 1)
    learn, goal = x[early], np.eye(truth.max() + 1)[truth[early]]
    held = np.arange(len(learn)) % 5 == 4
    right = [np.mean((learn[held] @ solve(learn[~held], goal[~held], ridge)).argmax(1) == truth[early][held])
             for ridge in RIDGES]
    weights = solve(learn, goal, RIDGES[int(np.argmax(right))])
    return ((x[~early] @ weights).argmax(1) == truth[~early]).astype(np.float64)


def gap(name: str, gains: Sequence[np.ndarray], expected: str, least: float) -> Row:
    """Mean over tasks of the mean paired difference, in points, with an interval over the texts of every task."""
    rng = np.random.default_rng(0)
    draws = np.mean([[one[rng.integers(0, len(one), len(one))].mean() for _ in range(2000)] for one in gains], 0)
    value, (low, high) = 100 * np.mean([one.mean() for one in gains]), 100 * np.quantile(draws, [0.025, 0.975])
    return Row(name, float(value), "points", sum(map(len, gains)), float(low), float(high),
               f"{expected}, interval above 0", bool(value >= least and low > 0))


# What the discriminator notices


def notices(lab: Lab) -> tuple[Row, ...]:
    """AUC over all tokens of held-out texts with the generator's and with random words, and by kind of word."""
    trained, uniform = (suspected(lab, writer) for writer in (True, False))
    rows = [area(f"AUC of the discriminator, {name}", found) for name, found in
            (("the generator's words", trained), ("random words", uniform))]
    harder = area("AUC, random words minus the generator's", uniform, trained, "at least 0.05, interval above 0", 0.05)
    alike, unlike = (with_only(trained, same) for same in (True, False))
    kinds = area("AUC, the generator's words of another kind minus of the same kind", unlike, alike, "interval above 0",
                 0.0)
    return (*rows, harder, kinds)


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


def area(name: str, found: Suspected, minus: Suspected | None = None, expected: str = "",
         least: float | None = None) -> Row:
    """AUC over all tokens, or its difference to that of texts planted otherwise, with an interval over texts."""

    def of(which) -> float:
        parts = [auc(np.concatenate([one[at][0] for at in which]), np.concatenate([one[at][1] for at in which]))
                 for one in (found, minus) if one is not None]
        return parts[0] - sum(parts[1:])

    value, low, high = bootstrap(np.arange(len(found)), rounds=300, statistic=lambda which: of(which.astype(int)))
    holds = None if least is None else bool(value >= least and low > 0)
    return Row(name, value, "AUC", len(found), low, high, expected, holds)


def work() -> tuple[Row, ...]:
    """Training multiply-adds of both arms, forward, from their cards; the generator's are in ELECTRA's."""
    found = []
    for name in ARMS:
        card = load(name).card
        figures = {title: one["value"] for title, one in card["metrics"].items()}
        done = card["examples_seen"] * figures["forward work per training text"]
        done += figures.get("forward work before, on text-mlm-1", 0.0)  # M multiply-adds
        found.append(Row(f"training work, {name} (forward, with its generator if it has one)", done / 1e6,
                         "T multiply-adds", card["steps"]))
    return tuple(found)
