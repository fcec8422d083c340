"""Five networks on one text, as records: what each finds surprising (Sample), and how each goes on (Prune).

Letters: N tokens of the text, V vocabulary, T written tokens, L layers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

import kernels
from models.backbones.weight_masks import Masks, kept
from models.engine.method import Close, Event
from models.engine.recording import bars, distribution, line
from models.engine.recording import table as matrix
from models.loops.sample.cached_lm import Reader, Stream
from models.loops.sample.rollouts import Trial
from models.loops.sample.text_record import TextRecord
from models.papers.bigram_subnetworks.network import BigramTable, correlation
from models.trace import Chart, Fact, Field

FULL, MASK, RANDOM = "all weights", "only the chosen weights", "only random weights"
WITHOUT, WITHOUT_RANDOM = "without the chosen weights", "without random weights"
SHORT = {FULL: "all", MASK: "chosen", RANDOM: "random", WITHOUT_RANDOM: "all but random", WITHOUT: "all but chosen"}
PAIRS = "table of word pairs"
BLOCKS = {"attention": "self_attn", "into the MLP": "gate_proj|up_proj", "out of the MLP": "down_proj"}
SHUFFLES, TOP = 8, 10


# --- Sample: the text as each network reads it ----------------------------------------------------------------------

def reading(source: Reader, five: Mapping[str, nn.Module], table: BigramTable, charted: bool) -> Iterator[Event]:
    """One step per network: its surprise at every token, its guesses beside the table's. charted: with all charts."""
    ids = torch.tensor([source.prompt])
    field = Field("Surprise at this token", "nats", 0.0, 12.0)
    page = TextRecord(source.labels, source.prompt, 0, {"surprisal": field}, source.texts, roles=source.roles)
    yield page.open(len(five))
    places, pairs = range(1, len(source.prompt)), pairs_of(table, source.prompt[:-1])
    found = {PAIRS: -table(ids[0, :-1]).log().gather(-1, ids[0, 1:, None])[:, 0]}
    for name, model in five.items():
        stream = Stream(model)
        logits = stream.read(ids, every=True)[:, :-1].float().cpu()
        found[name] = surprise(logits, ids)[0]
        page.note(places, surprisal=found[name])
        yield page.step(name, distributions={name: distribution(logits[0], places, source.prompt[1:], top=TOP),
                                             PAIRS: distribution(pairs, places, source.prompt[1:], top=TOP)},
                        cost=stream.meter.lap(), note=f"mean surprise {float(found[name].mean()):.2f} nats a token")
    charts = (against_table(found), lens(five, ids)) if charted else ()
    yield Close("sample", said(found), (strips(found, source.labels), *charts), reading_facts(found))


def pairs_of(table: BigramTable, ids: list[int]) -> Tensor:
    """Logarithms [P, V] of the table's probabilities; a pair that the books have not has nearly none."""
    return table(torch.tensor(ids)).clamp_min(1e-30).log()


def said(found: Mapping[str, Tensor]) -> str:
    full, without, chance = (float(found[name].mean()) for name in (FULL, WITHOUT, WITHOUT_RANDOM))
    r = correlation(found[MASK], found[PAIRS])
    alike = f"where the table of word pairs is (r = {r:.2f})" if r == r else "by pairs that no table of the books knows"
    return (f"A token of this text surprises the whole model by {full:.1f} nats; without the chosen weights by "
            f"{without:.1f}, without as many random ones by {chance:.1f}. Alone, the chosen weights are surprised "
            f"{alike}.")


def reading_facts(found: Mapping[str, Tensor]) -> dict[str, Fact]:
    means = {name: Fact(f"Surprise, {name}", float(found[name].mean()), "nats a token", "lower")
             for name in (FULL, WITHOUT, WITHOUT_RANDOM, MASK, RANDOM)}
    alike = {f"r of {name}": Fact(f"Surprised where the table is, {name}", correlation(found[name], found[PAIRS]),
                                  "correlation", "higher") for name in (MASK, FULL)}
    cost = float(found[WITHOUT].mean() - found[FULL].mean())
    return {"cost": Fact("Leaving them out costs", cost, "nats a token", "higher"),
            **{name.replace(" ", "-"): fact for name, fact in (alike | means).items()}}


def strips(found: Mapping[str, Tensor], labels: Sequence[str]) -> Chart:
    """Every network's surprise at every token, side by side."""
    order = (FULL, WITHOUT_RANDOM, WITHOUT, RANDOM, MASK, PAIRS)  # alike ones beside each other
    values = np.stack([np.where(torch.isfinite(found[name]), found[name], np.nan) for name in order], 1)
    said = "; ".join(f"{number}: {name}" for number, name in enumerate(order, 1))
    return matrix("Surprise at every token", "network", "", values, range(1, len(order) + 1),
                  [label.strip() or "space" for label in labels[1:]], unit="nats",
                  caption=f"Lower is better. {said} (empty: never in the books).")


def against_table(found: Mapping[str, Tensor]) -> Chart:
    """Each token by the table's surprise and a network's."""
    seen = torch.isfinite(found[PAIRS])
    series = {name: torch.stack([found[PAIRS][seen], found[name][seen]], 1).numpy() for name in (MASK, FULL)}
    return Chart("scatter", "Surprised by the same tokens?", "surprise of the table of word pairs (nats)",
                 "surprise of the network (nats)", series,
                 caption="A network that only counts word pairs lies on the diagonal; the whole model knows more.")


@torch.no_grad()
def lens(five: Mapping[str, nn.Module], ids: Tensor) -> Chart:
    """Per layer, how far the state still is the token read and already is the token that will be said."""
    series = {}
    for name in (FULL, MASK):
        made, words = five[name](ids, output_hidden_states=True, use_cache=False), five[name].get_input_embeddings()
        states = torch.stack(made.hidden_states)[:, 0].float()  # [L + 1, N, D]
        for end, token in (("read", ids[0]), ("said", made.logits[0].argmax(-1))):
            towards = torch.cosine_similarity(states, words(token).float()[None], dim=-1)  # [L + 1, N]
            series[f"token {end}, {name}"] = towards.mean(1).cpu().numpy()
    return line("From the token read to the token said", "cosine", series, x="after layer", by_step=False,
                caption="Mean over the text: the state against the embedding of either. The last point is after the "
                        "final norm.")


# --- Prune: how each network goes on --------------------------------------------------------------------------------

def writing(source: Reader, five: Mapping[str, nn.Module], table: BigramTable, masks: Masks,
            written: Iterable[tuple[str, Trial, Stream]], length: int, charted: bool,
            dice: torch.Generator) -> Iterator[Event]:
    """One step per network: what it writes behind the text, its guesses beside the table's. charted: as above."""
    field = Field("Surprise to the whole model", "nats", 0.0, 12.0)
    page = TextRecord(source.labels, source.prompt, length, {"surprisal": field}, source.texts, "prune",
                      source.roles)
    yield page.open(len(five))
    odd = {}
    for name, trial, stream in written:
        places = range(page.start, page.start + len(trial.ids))
        judged = judge(five[FULL], source.prompt, trial.ids)
        odd[name] = float(judged.mean())
        on = page.tried(trial.ids, {"surprisal": judged}, "known")
        before = pairs_of(table, [source.prompt[-1], *trial.ids[:-1]])
        yield on.step(name, distributions={name: distribution(torch.stack(trial.logits), places, trial.ids, top=TOP),
                                           PAIRS: distribution(before, places, trial.ids, top=TOP)},
                      cost=stream.meter.lap(), note=f"the whole model is surprised by {odd[name]:.1f} nats a token")
    moves = {name: float(np.mean(found)) for name, found in shuffled(five, source.prompt, dice).items()}
    yield Close("prune", told(masks, odd), (*((blocks_chart(masks),) if charted else ()), shuffle_chart(moves)),
                writing_facts(masks, odd, moves))


def judge(model: nn.Module, prompt: list[int], ids: list[int]) -> Tensor:
    """Surprise [T] of a model at what was written behind a text."""
    whole = torch.tensor([[*prompt, *ids]])
    logits = Stream(model).read(whole, every=True)[:, :-1].float().cpu()
    return surprise(logits, whole)[0, len(prompt) - 1:]


def surprise(logits: Tensor, ids: Tensor) -> Tensor:
    """-log p [B, N - 1] in nats of tokens ids [B, N] after the first, from logits [B, N - 1, V] of what comes next."""
    return -kernels.vocab_stats(logits, top_k=1, chosen=ids[:, 1:]).chosen_logp


def shuffled(five: Mapping[str, nn.Module], prompt: list[int], dice: torch.Generator) -> dict[str, np.ndarray]:
    """How much of the next-token distribution moves (total variation) when all but the last token change places."""
    orders = [torch.randperm(len(prompt) - 1, generator=dice) for _ in range(SHUFFLES)]
    before = torch.tensor(prompt[:-1])
    texts = torch.stack([torch.tensor(prompt), *(torch.cat([before[order], torch.tensor(prompt[-1:])])
                                                 for order in orders)])
    found = {}
    for name, model in five.items():
        probs = Stream(model).read(texts)[:, -1].float().softmax(-1).cpu()
        found[name] = (probs[1:] - probs[0]).abs().sum(-1).div(2).numpy()
    return found


def shares(masks: Masks) -> dict[str, np.ndarray]:
    """Share [L] of the weights that are kept, in percent, by kind of matrix."""
    layers = sorted({layer_of(name) for name in masks})
    inside = {kind: [{n: m for n, m in masks.items() if layer_of(n) == layer and re.search(which, n)}
                     for layer in layers] for kind, which in BLOCKS.items()}
    return {kind: np.array([100 * kept(one) for one in rows]) for kind, rows in inside.items()}


def layer_of(name: str) -> int:
    return int(re.search(r"layers\.(\d+)\.", name)[1])


def first_mlp(masks: Masks) -> tuple[float, float]:
    """The first MLP's share of the kept weights, and of all."""
    own = [mask for name, mask in masks.items() if layer_of(name) == 0 and "mlp" in name]
    return tuple(sum(count(mask) for mask in own) / sum(count(mask) for mask in masks.values())
                 for count in (lambda mask: int(mask.sum()), lambda mask: mask.numel()))


def blocks_chart(masks: Masks) -> Chart:
    found = shares(masks)
    return bars("Where the chosen weights are", "layer", "% of the weights there", found,
                range(1, 1 + len(next(iter(found.values())))),
                caption="The paper finds them mostly in the first MLP.")


def shuffle_chart(moves: Mapping[str, float]) -> Chart:
    return bars("Who cares about the words before the last?", "network", "% of the next-token probability that moves",
                {"all but the last token shuffled": [100 * one for one in moves.values()]},
                [SHORT[name] for name in moves],
                caption=f"Mean of {SHUFFLES} orders. A network that only counts word pairs does not move.")


def told(masks: Masks, odd: Mapping[str, float]) -> str:
    return (f"Chosen are {100 * kept(masks):.1f} % of the weights in the blocks. Without them the model writes "
            f"what surprises the whole one by {odd[WITHOUT]:.1f} nats a token, without as many random ones by "
            f"{odd[WITHOUT_RANDOM]:.1f}; its own text by {odd[FULL]:.1f}.")


def writing_facts(masks: Masks, odd: Mapping[str, float], moves: Mapping[str, float]) -> dict[str, Fact]:
    here, everywhere = first_mlp(masks)
    return {"cost": Fact("Leaving them out makes its text stranger by", odd[WITHOUT] - odd[FULL], "nats a token",
                         "higher"),
            "kept": Fact("Weights chosen", 100 * kept(masks), "% of those in the blocks"),
            "first": Fact("Of them in the first MLP", 100 * here, "%"),
            "fair": Fact("Of all weights in the first MLP", 100 * everywhere, "%"),
            "without": Fact(f"Text written {WITHOUT}", odd[WITHOUT], "nats of surprise", "lower"),
            "without-random": Fact(f"Text written {WITHOUT_RANDOM}", odd[WITHOUT_RANDOM], "nats of surprise", "lower"),
            "moved": Fact(f"Moved by shuffling, {MASK}", 100 * moves[MASK], "% of the probability"),
            "moved-full": Fact(f"Moved by shuffling, {FULL}", 100 * moves[FULL], "% of the probability")}
