"""What a speculative run shows: its rounds in the Sample tab, the filled grid in the Unmask tab.

Sample: one step per round, with what the target and the drafter said of every tested code, and the verdicts. Unmask:
the same rounds as a picture that fills up, coloured by how each code came to stand.

States: accepted (the exact rule would have, too), merged (only with its neighbours' probability), refused, discarded
(drafted behind a refused one, never tested), new and known (drawn by the target itself).
"""
from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import torch

import kernels
from models.engine.method import Close, Emit, Event
from models.engine.recording import Filling, array, bars, distribution, line
from models.loops.sample import judged_drafts
from models.loops.sample.acceptance_rules import Exact, off
from models.loops.sample.speculative_decoding import Chain, DraftPlan, DraftRound, rounds
from models.loops.unmask.canvases import code_names, picture
from models.trace import CODE, Canvas, Chart, Cost, Distribution, Fact, Field
from models.trace.percent import percent
from models.trace.subject import SubjectError
from models.worlds import scenes

DRAFTER, CODES = "scene-ar-draft-1", "scene-vq-2"
TOP = 6  # codes of a stored distribution
FIELDS = {
    "q": Field("Target's probability of the draft, q(x)", "", 0.0, 1.0),
    "borrowed": Field("Borrowed from its neighbours, c_j*", "", 0.0, 1.0),
    "neighbours": Field("Neighbours it borrowed from, j*", "codes", 0.0),
    "p": Field("Drafter's probability of it, p(x)", "", 0.0, 1.0),
    "u": Field("Random number of the test, u", "", 0.0, 1.0),
    "off": Field("Output's distance from the target at this code", "total variation", 0.0, 1.0),
    "entropy": Field("Entropy of the target", "nats", 0.0),
    "top1": Field("Target's largest probability", "", 0.0, 1.0),
    "top10": Field("Target's ten largest together", "", 0.0, 1.0),
}
GRID = {"round": Field("Round that wrote it", "round", 1.0), "borrowed": FIELDS["borrowed"], "off": FIELDS["off"]}


def condition(caption: str, light: bool, device) -> torch.Tensor:
    """Condition words int64 [1, 5] of a caption; SubjectError that lists the words of the world."""
    try:
        words = scenes.condition(caption)
    except ValueError as error:
        raise SubjectError(f"This model knows only its own small world: {error}.") from error
    return torch.tensor([[*words, len(scenes.WORDS) if light else 0]], device=device)


def chain_of(job) -> Chain:
    """The job's target and drafter at the start of a picture."""
    p, drafter = job.params, job.companion(DRAFTER).model
    plan = DraftPlan(p.ahead, p.drafts == "favourite", kernels.Sampler(p.temperature, p.top_k), p.guidance)
    return Chain(job.model, drafter, condition(job.subject.text, p.light, job.device), plan)


def recorded(job, rule: Exact) -> Iterator[Event]:
    """The run of a method that is a rule, as events of both tabs."""
    tokenizer = job.companion(CODES).model
    with torch.inference_mode():
        chain = chain_of(job)
    log = DraftingLog(chain, rule, tokenizer)
    yield log.tests.open()
    yield log.grid.open()
    dice = torch.rand(chain.size, 3, generator=job.generator())
    if job.choice is not None:
        yield from game(job, log, rounds(chain, rule, dice))
        return
    for found in rounds(chain, rule, dice, job.interventions.written):
        yield from log.seen(found)
    facts = log.facts()
    yield Close("sample", log.sentence(), log.charts(), facts)
    score = scenes.score(scenes.read_caption(job.subject.text), scenes.parse(log.painted(log.ids)))
    shared = {name: facts[name] for name in ("length", "passes", "off")}
    yield Close("unmask", log.sentence(), log.run_charts(), {
        "score": Fact("Score", score, "of 1, as asked", "higher"), **shared})


def game(job, log: DraftingLog, played: Iterator[DraftRound]) -> Iterator[Event]:
    """Your turn: the Sample record alone; the first round shows how it goes."""
    verified = []

    def told(found: DraftRound) -> Iterator[Event]:
        verified.append((len(found.drafts), found.accepted))
        yield from (event for event in log.seen(found) if event.tab == "sample")

    def waiting(_) -> Emit | None:
        found = next(played, None)
        return log.pending(found) if found else None

    yield from judged_drafts.game(job, played, told, lambda: verified[1:], waiting)


class DraftingLog:
    """Everything seen so far: the tests of every round (Sample) and the grid that fills up (Unmask)."""

    def __init__(self, chain: Chain, rule: Exact, tokenizer):
        self.chain, self.rule, self.tokenizer = chain, rule, tokenizer
        canvas, names = Canvas("grid", ("",) * chain.size, shape=chain.target.grid), labels(tokenizer).__getitem__
        self.tests, self.grid = Filling("sample", canvas, FIELDS, names), Filling("unmask", canvas, GRID, names)
        self.verdicts: list[str] = []
        self.apart: list[float] = []  # total variation of drafter and target at every tested code
        self.lengths: list[int] = []
        self.ids, self.cost = None, Cost()

    def seen(self, found: DraftRound) -> Iterator[Emit]:
        """One round as a step of each tab."""
        for one in found.tested:
            self.note(one)
        self.ids, self.cost, end = found.ids, self.cost + found.cost, found.first + found.accepted
        self.lengths.append(found.accepted)
        shared = {"label": f"round {found.index + 1}: {found.accepted} of {len(found.drafts)} drafts accepted",
                  "cost": found.cost, "note": self.words(found)}
        drafted = self.shown(found)
        yield self.tests.step(state=self.judged(found), ids=drafted, distributions=self.distributions(found),
                              picture=self.painted(drafted), **shared)
        if found.last is not None:
            self.grid.fill(end)
        self.grid.note(slice(found.first, end + (found.last is not None)), round=found.index + 1)
        yield self.grid.step(ids=found.ids, picture=self.painted(found.ids), distributions=written(found), **shared)

    def pending(self, found: DraftRound) -> Emit:
        """The step that offers the drafts of a round, not yet judged."""
        at, ids, state = found.first + np.arange(len(found.drafts)), array(self.ids, np.int32), self.grid.state.copy()
        ids[at], state[at] = found.drafts, CODE["new"]
        return self.tests.step(f"{judged_drafts.PENDING}: {len(at)} codes", ids=ids, state=state,
                               picture=self.painted(ids))

    def note(self, one) -> None:
        """What is known of one tested draft."""
        at, top = one.position, one.q.topk(min(10, len(one.q))).values
        self.verdicts.append("relaxed" if one.relaxed else "exact" if one.accepted else "refused")
        self.apart.append(float((one.p - one.q).abs().sum() / 2))
        shared = {"borrowed": one.test.spent[0], "off": off(self.rule, one.q, one.p)}
        self.grid.note(at, **shared)
        self.tests.note(at, **shared, q=one.q[one.draft], p=one.p[one.draft], neighbours=one.test.taken[0], u=one.u,
                        entropy=torch.special.entr(one.q).sum(), top1=top[0], top10=top.sum())
        if one.accepted:
            self.grid.fill(at, state="merged" if one.relaxed else "accepted")

    def judged(self, found: DraftRound) -> np.ndarray:
        """States of the Sample tab: as they stand, and the drafts of this round that do not."""
        state = self.grid.state.copy()
        drafted = found.first + np.arange(len(found.drafts))
        state[drafted[found.accepted :]] = CODE["discarded"]
        if found.accepted < len(found.tested):
            state[drafted[found.accepted]] = CODE["refused"]
        return state

    def shown(self, found: DraftRound) -> np.ndarray:
        """Codes int32 [N] with this round's drafts in place, refused or not."""
        ids = found.ids.numpy().astype(np.int32).copy()
        ids[found.first : found.first + len(found.drafts)] = found.drafts
        return ids

    def painted(self, ids) -> np.ndarray:
        """uint8 [h, w, 3]; open cells are grey."""
        ids = torch.as_tensor(np.asarray(ids), dtype=torch.long)
        return picture(self.tokenizer, ids[None].to(self.tokenizer.entries.device), -1, self.chain.target.grid)

    def distributions(self, found: DraftRound) -> dict[str, Distribution]:
        """The target's and the drafter's at every tested code, and what the draft's nearest codes hold of the target.
        """
        if not found.tested:  # a visitor's code ended the round before any test
            return {}
        at = np.array([one.position for one in found.tested], np.int32)
        chosen = np.array([one.draft for one in found.tested], np.int32)
        q, p = (torch.stack([getattr(one, side) for one in found.tested]) for side in "qp")
        made = {name: distribution(probs.clamp_min(1e-30).log(), at, chosen, top=TOP)
                for name, probs in (("target q", q), ("drafter p", p))}
        made |= written(found, found.accepted)
        order = getattr(self.rule, "order", None)
        if order is not None:
            drafts = torch.tensor([one.draft for one in found.tested])
            ids = torch.cat([drafts[:, None], order[drafts, :TOP]], 1)
            made["draft and its nearest codes, in q"] = Distribution(
                at, ids.int().numpy(), q.gather(1, ids).numpy(), torch.special.entr(q).sum(-1).numpy(), chosen=chosen)
        return made

    def words(self, found: DraftRound) -> str:
        """The verdicts of a round, counted."""
        borrowed = [float(one.test.spent[0]) for one in found.tested if one.relaxed]
        said = [f"{found.accepted - len(borrowed)} passed exactly"]
        if borrowed:
            said.append(f"{len(borrowed)} by borrowing {', '.join(f'{c:.2f}' for c in borrowed)}")
        if found.accepted < len(found.tested):
            one = found.tested[-1]
            lent = f" and {float(one.test.spent[0]):.2f} borrowed" if hasattr(self.rule, "delta") else ""
            said.append(f"one refused: it offered {float(one.q[one.draft]):.2f}{lent}, and "
                        f"{one.u * float(one.p[one.draft]):.2f} was needed")
        return ", ".join(said)

    def mean(self, name: str) -> float:
        return float(np.nanmean(self.tests.values[name]))

    def share(self, verdict: str) -> float:
        return self.verdicts.count(verdict) / len(self.verdicts)

    def facts(self) -> dict[str, Fact]:
        """Counts of the run. Work, because drafts are not free and refused ones were checked, too."""
        return {
            "length": Fact("Written", self.chain.size / len(self.lengths), "codes per pass", "higher"),
            "passes": Fact("Passes of the model", len(self.lengths), f"for {self.chain.size} codes", "lower"),
            "relaxed": Fact("Accepted only by borrowing", 100 * self.share("relaxed"), "% of tested drafts"),
            "off": Fact("Output's distance from the target", self.mean("off"), "total variation, mean per code",
                        "lower"),
            "all": Fact("Distance if every draft were accepted", float(np.mean(self.apart)), "total variation"),
            "work": Fact("Work, drafts included", 100 * self.cost.macs / self.chain.alone.macs,
                         "% of the multiply-adds of one pass per code", "lower"),
            "drafting": Fact("Spent on drafting", 100 * self.chain.drafted / self.cost.macs, "% of that work", "lower")}

    def sentence(self) -> str:
        """How far drafts carried, and what that did to the distribution."""
        start = (f"{self.chain.size} codes took {len(self.lengths)} passes of the model, which alone takes one each; "
                 f"{percent(self.share('exact'))} of the tested drafts passed the exact test")
        if not hasattr(self.rule, "delta"):
            return f"{start}, and what comes out is distributed as the model alone would draw."
        away, delta = self.mean("off"), self.rule.delta
        return (f"{start}, {percent(self.share('relaxed'))} only by borrowing. The budget is {delta:g} for "
                f"one draft; over all drafts, what comes out is {away:.2f} off the target, and accepting every draft "
                f"unseen would be {np.mean(self.apart):.2f} off (total variation).")

    def run_charts(self) -> tuple[Chart, ...]:
        return (line("Drafts accepted", "drafts", {"accepted": self.lengths}, x="round"),)

    def charts(self, first: int = 10) -> tuple[Chart, ...]:
        """Accepted drafts per round; the first tests number by number; entropy against what was borrowed."""
        values = self.tests.values
        at = np.flatnonzero(~np.isnan(values["u"]))
        bound = "The budget bounds the move for one draft, not this distance." if hasattr(self.rule, "delta") else (
            "At 0 it comes out as the model alone would draw it.")
        tests = {"needed: u p(x)": (values["u"] * values["p"])[at[:first]],
                 "offered: q(x) + c": (values["q"] + np.nan_to_num(values["borrowed"]))[at[:first]]}
        return (*self.run_charts(),
                bars(f"The first {len(at[:first])} tests: accepted where more is offered than needed", "position",
                     "probability", tests, at[:first]),
                Chart("scatter", "Where the output is off", "entropy of the target (nats)",
                      "total variation from the target",
                      {"tested codes": np.stack([values["entropy"][at], values["off"][at]], 1)},
                      caption=f"Each dot is a tested code. {bound}"))


def written(found: DraftRound, since: int = 0) -> dict[str, Distribution]:
    """What the codes that a round leaves standing were drawn from: the target, or what a refusal left of it. since: the
    first of them that is told."""
    rows = [one.q for one in found.tested if one.accepted]
    rows = [*rows, found.drawn_from][since:] if found.last is not None else rows[since:]
    if not rows:
        return {}
    at = found.first + since + np.arange(len(rows))
    return {"drawn from": distribution(torch.stack(rows).clamp_min(1e-30).log(), at, found.ids[at], top=TOP)}


@lru_cache(maxsize=4)
def labels(tokenizer) -> tuple[str, ...]:
    """`boards.code_names`, and how bright empty ground is, 0-255."""
    light = 255 * (tokenizer.entries.detach().float().cpu().mean(1) - np.mean(scenes.BACKGROUND) / 255)
    return tuple(f"{name.removesuffix('empty')}ground, light {float(glow):.0f}" if name.endswith("empty") else name
                 for name, glow in zip(code_names(tokenizer), light))
