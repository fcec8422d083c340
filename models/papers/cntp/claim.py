"""cntp's claim: right answers against stochastic decoding, and against best of n for the same tokens."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch

from kernels import Sampler
from models.checkpoints.store import load
from models.claims import Claim, Lab, bootstrap, row
from models.loops.sample.cached_lm import Reader, Stream
from models.loops.sample.loop import Policy, decide
from models.loops.sample.rollouts import Ends, roll_out
from models.papers.cntp.method import Params, bounds, count_of, stop_tokens
from models.trace.subject import ASSETS, Subject
from models.worlds import arithmetic

LENGTH, BEAMS, SAMPLES = 48, 10, 12
STORIES = ("sample-garden.txt", "sample-mill.txt")
STEPPED = ("cntp", "constant", "reversed")  # policies that branch; plain and greedy need no branch and run in batches


def measure(lab: Lab) -> Claim:
    """Accuracy and tokens of every policy on held-out problems, paired over problems and seeds."""
    bundle, seeds = load("algo-arithmetic-1"), tuple(range(lab.size(2, 1)))
    problems = arithmetic.held_out(lab.size(60, 1))
    right = {name: [] for name in (*STEPPED, "plain", "best of n")}
    spent = {name: [] for name in (*STEPPED, "best of n")}
    for seed in seeds:
        drawn = plain(bundle, problems, Params(), torch.Generator().manual_seed(seed), SAMPLES)
        for i, (problem, samples) in enumerate(zip(problems, drawn)):
            dice = torch.Generator().manual_seed(seed * 1_000_003 + i)
            for name in STEPPED:
                ids, tokens = branching(bundle, problem, Params(policy=name), dice)
                right[name].append(solved(bundle, problem, ids))
                spent[name].append(tokens)
            right["plain"].append(np.mean([solved(bundle, problem, one.ids) for one in samples]))
            best, tokens = best_of(samples, spent["cntp"][-1])
            right["best of n"].append(solved(bundle, problem, best.ids))
            spent["best of n"].append(tokens)
    greedy = [solved(bundle, problem, found[0].ids)
              for problem, found in zip(problems, plain(bundle, problems, Params(policy="greedy"), None, 1))]
    beam = [solved(bundle, problem, ids) for problem, ids in zip(problems, beam_search(bundle, problems))]
    right, spent = by_problem(right, len(problems)), by_problem(spent, len(problems))
    rows = [row(f"{name}: right answers", right[name], "of 1") for name in right]
    rows += [row("greedy: right answers", greedy, "of 1"), row(f"beam {BEAMS}: right answers", beam, "of 1")]
    rows += [row(f"{name}: tokens generated per problem", spent[name], "tokens") for name in spent]
    rows += compared(right)
    rows += diversity(2) if not lab.quick else []
    return Claim(
        method="cntp",
        paper="Consistently beats standard decoding strategies on language and multimodal models by a clear margin; "
              "helps self-consistency further (no numbers in the abstract).",
        here="On worded chain arithmetic: at least 3 points more right answers than plain sampling with the same "
             "warpers, more than the reversed policy, and no fewer than best of n for the same tokens.",
        metric="share of right answers", baseline="plain sampling; best of n by perplexity for the same tokens",
        budget="best of n draws whole texts until it has generated as many tokens as cntp on that problem and seed",
        rows=tuple(rows), verdict=verdict(rows),
        reason=because(rows),
        control="Greedy decoding answers " + f"{np.mean(greedy):.0%} of the same problems, plain sampling "
                f"{right['plain'].mean():.0%}: the metric tells decoders apart.",
        seeds=seeds)


def by_problem(found: dict[str, list], count: int) -> dict[str, np.ndarray]:
    """Means over seeds [problems]: runs on one problem are not independent, problems are."""
    return {name: np.reshape(np.array(values, float), (-1, count)).mean(0) for name, values in found.items()}


def compared(right: dict[str, np.ndarray]) -> list:
    """Paired differences over problems."""
    over_plain = row("cntp above plain sampling", right["cntp"] - right["plain"], "of 1", expected="at least 0.03")
    over_reversed = row("cntp above reversed", right["cntp"] - right["reversed"], "of 1", expected="above 0")
    over_best = row("cntp above best of n for the same tokens", right["cntp"] - right["best of n"], "of 1",
                    expected="0 or more")
    return [replace(over_plain, holds=over_plain.value >= 0.03 and over_plain.low > 0),
            replace(over_reversed, holds=over_reversed.low > 0), replace(over_best, holds=over_best.value >= 0)]


def because(rows) -> str:
    """What failed, and what the same answers cost each decoder."""
    value = {r.name: r.value for r in rows}
    failed = [r.name for r in rows if r.holds is False]
    return ("All rows hold." if not failed else "Not as expected: " + "; ".join(failed) + ".") + (
        f" Right answers for the tokens generated: cntp {value['cntp: right answers']:.0%} for "
        f"{value['cntp: tokens generated per problem']:.0f}, reversed {value['reversed: right answers']:.0%} for "
        f"{value['reversed: tokens generated per problem']:.0f}; greedy decoding reaches "
        f"{value['greedy: right answers']:.0%} in one pass, because on sums the least perplexing clause is the most "
        "probable one.")


def verdict(rows) -> str:
    judged = [r.holds for r in rows if r.holds is not None]
    return "holds" if all(judged) else "mixed" if any(judged) else "does not hold"


def opened(bundle, text: str, kind: str = "problem") -> Reader:
    """A source that has read the prompt."""
    source = Reader(bundle, Subject(kind, text=text), LENGTH)
    source.read([source.prompt])
    return source


def branching(bundle, text: str, p: Params, dice, kind: str = "problem") -> tuple[list[int], int]:
    """The tokens kept and how many were generated, by the tab's own decisions without its page."""
    source = live = opened(bundle, text, kind)
    warpers = Sampler(0.0) if p.policy == "greedy" else Sampler(p.temperature, top_p=p.top_p)
    policy = Policy(warpers, LENGTH, close=None, trials=count_of(p, *bounds(p, bundle.name)), longest=p.longest,
                    stops=stop_tokens(source.tokenizer, p.stops))
    ids, spent = [], 0
    while len(ids) < LENGTH and ids[-1:] != [source.end]:
        trials, kept, live = decide(live, source.end, policy, LENGTH - len(ids), dice)
        ids, spent = ids + trials[kept].ids, spent + sum(len(t.ids) for t in trials)
        if len(ids) < LENGTH and ids[-1] != source.end:
            live.push(ids[-1:])
    return ids, spent


def alike(bundle, texts: list[str]) -> list[tuple[list[int], list[list[int]]]]:
    """Prompts in groups of equal length, which need no padding: (their places, their ids)."""
    prompts = [Reader(bundle, Subject("problem", text=text), LENGTH).prompt for text in texts]
    lengths = sorted({len(ids) for ids in prompts})
    places = [[i for i, ids in enumerate(prompts) if len(ids) == length] for length in lengths]
    return [(where, [prompts[i] for i in where]) for where in places]


def plain(bundle, texts: list[str], p: Params, dice, count: int) -> list[list]:
    """For each prompt `count` whole texts, drawn in batches."""
    warpers = Sampler(0.0) if p.policy == "greedy" else Sampler(p.temperature, top_p=p.top_p)
    found, over = {}, Ends(bundle.tokenizer.eos_token_id, frozenset(), LENGTH)
    for where, prompts in alike(bundle, texts):
        stream = Stream(bundle.model)
        stream.read(prompts)
        trials = roll_out(stream.fork(count), warpers, over, dice)[0]
        found |= {i: trials[k * count: (k + 1) * count] for k, i in enumerate(where)}
    return [found[i] for i in range(len(texts))]


def best_of(samples: list, budget: int):
    """The least perplexing of the first samples that together reach the budget, and the tokens they took."""
    total, taken = 0, []
    for sample in samples:
        if taken and total >= budget:
            break
        taken.append(sample)
        total += len(sample.ids)
    return min(taken, key=lambda sample: sample.perplexity), total


def beam_search(bundle, texts: list[str]) -> list[list[int]]:
    """The library's own beam search."""
    found = {}
    for where, prompts in alike(bundle, texts):
        ids = torch.tensor(prompts, device=bundle.model.device)
        with torch.inference_mode():
            made = bundle.model.generate(ids, attention_mask=torch.ones_like(ids), num_beams=BEAMS, do_sample=False,
                                         max_new_tokens=LENGTH, pad_token_id=bundle.tokenizer.pad_token_id)
        found |= dict(zip(where, made[:, ids.shape[1]:].tolist()))
    return [found[i] for i in range(len(texts))]


def solved(bundle, problem: str, ids: list[int]) -> bool:
    return arithmetic.check(problem + " " + bundle.tokenizer.decode(ids))


def diversity(count: int) -> list:
    """Different neighbours of words per pair (distinct-2) on stories: cntp must keep most of what sampling has."""
    bundle, found = load("text-ar-1"), {"cntp": [], "plain": [], "greedy": []}
    for name in STORIES:
        text = (ASSETS / "texts" / name).read_text()
        for policy, values in found.items():
            for seed in range(1 if policy == "greedy" else count):
                ids = branching(bundle, text, Params(policy=policy), torch.Generator().manual_seed(seed), "text")[0]
                values.append(distinct(ids))
    rows = [row(f"{name}: distinct-2 on stories", values, "of 1") for name, values in found.items()]
    share = rows[0].value / max(rows[1].value, 1e-9)
    low, high = (bootstrap(found["cntp"])[k] / max(rows[1].value, 1e-9) for k in (1, 2))
    kept = replace(rows[0], name="cntp keeps of plain sampling's distinct-2", value=share, low=low, high=high,
                   expected="above 0.8", holds=share > 0.8)
    return [*rows, kept]


def distinct(ids: list[int]) -> float:
    pairs = list(zip(ids, ids[1:]))
    return len(set(pairs)) / max(1, len(pairs)) if pairs else math.nan
