"""The records of multi-token prediction, and what a look back over its text shows.

Sample: what each call verified; refused guesses stand struck in a row of their own behind the text. Unmask: what the
call guessed, k masks at once, before anybody knows whether they are right. Attend: one call in the layout of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from models.backbones.layout import blocks, reals
from models.engine.method import Close, Emit, Event, Job
from models.engine.recording import array, bars, line, numbered, numbers, table
from models.loops.attend.groups import lens
from models.loops.attend.loop import TokenLayout
from models.loops.sample import judged_drafts
from models.loops.sample.cached_lm import Reader, greedy
from models.loops.sample.foresight import rank, right_chart
from models.loops.sample.text_record import TOP, TextRecord
from models.papers.mtp_future.network import FutureAdapters, behind
from models.trace import CODE, YES, Canvas, Chart, Fact, Field, states
from models.trace.spelling import joined

BASE, GUESS, ALONE = "the base", "the sampler's guess", "the mask alone"
WAYS = ("the base, fed with fillers", "trained masks", "sampler")
MOST = 32  # places from which one looks ahead
WINDOW, BLOCKS = 24, 4  # tokens and blocks of the training layout that is shown
FIELDS = {"entropy": Field("Entropy of the base", "nats", low=0.0),
          "probability": Field("Probability by the base", "", 0.0, 1.0),
          "guessed": Field("Probability that the guess gave itself", "", 0.0, 1.0)}
AHEAD = {"confidence": Field("Probability that the guess gives itself", "", 0.0, 1.0)}


def told(job: Job, source: Reader, reader, decoded) -> Iterator[Event]:
    """The run as events: what the layout of training looks like, both records while it decodes, then what a look back
    over the text shows. Your turn has the Sample record alone."""
    sheet = FutureText(source, job.params)
    if job.choice is not None:
        yield from judged_drafts.game(job, decoded, lambda one: sheet.verified(*one), lambda: sheet.drafts,
                                      lambda one: sheet.pending(one[0].ahead) if one[1][-1] != source.end else None)
        return
    slots = TextRecord(source.labels, source.prompt, job.params.length, AHEAD, source.texts, "unmask",
                       roles=source.roles, then="discarded", fleeting=AHEAD)
    yield slots.open()
    for found, new in decoded:
        yield from sheet.verified(found, new)
        yield filled(slots, len(sheet.log), found, new, over=new[-1] == source.end)
        if len(sheet.log) == 1:
            yield from training_mask(reader, source, sheet.written, job.params.k)
    sentence, charts, found = foreseen(foresight(reader, sheet.written, sheet.start, job.params.k))
    facts = sheet.facts(greedy(source, job.params.length, job.interventions.written)[0])
    yield Close("sample", sheet.sentence(facts), (*sheet.charts(), *charts), facts)
    yield Close("unmask", sentence, charts, found)


class FutureText(TextRecord):
    """The Sample record: the page of the text, and behind it a row for the guesses refused in this call. log: guesses,
    accepted ones and rows fed, of each call."""

    def __init__(self, source: Reader, p):
        super().__init__(source.labels, source.prompt, p.length + 1 + p.k, FIELDS, source.texts, roles=source.roles)
        self.set_beside(self.start + p.length, "\n\nrefused: ")
        self.log, self.chain = [], torch.zeros(0)  # chain: what was said when the guesses verified now were made

    @property
    def written(self) -> list[int]:
        """The text so far."""
        return self.ids[: self.count].tolist()

    def verified(self, found, new: list[int]) -> Iterator[Event]:
        """What a call verified: the base's distributions at the new tokens, the guesses' own where they stand."""
        right = min(found.accepted, len(new))
        refused = self.put_beside(found.guesses[right:], "refused")
        where = self.told(new, found.base[: len(new)], BASE)
        self.state[where[:right]] = CODE["accepted"]
        if found.guesses:
            at = [*where[:right], *refused]
            self.guess(at, self.chain, found.guesses, GUESS, top=TOP, measure=False)
            self.note(at, guessed=numbers(self.chain, found.guesses)["probability"])
        self.chain = found.chain
        self.log.append((len(found.guesses), right, len(found.layout)))
        verdict = f"{right} of {len(found.guesses)} guesses right" if found.guesses else "nothing to verify"
        yield self.open()
        yield self.step(f"call {len(self.log)}: {verdict}", cost=found.cost,
                        note=f"{len(found.layout)} rows fed, {len(new)} tokens written")

    @property
    def drafts(self) -> list[tuple[int, int]]:
        """Guesses and accepted ones of each draft."""
        return [(guesses, right) for guesses, right, _ in self.log if guesses]

    def pending(self, ahead: Sequence[int]) -> Emit | None:
        """The step that offers a draft, if there is one: its guesses stand beside the text, not yet judged."""
        self.put_beside(ahead, "new", titled=False)
        return self.step(f"{judged_drafts.PENDING}: {len(ahead)} guesses") if ahead else None

    def facts(self, base: list[int]) -> dict[str, Fact]:
        """What was gained in calls and spent in rows, against the text that the base writes alone."""
        (guesses, right, rows), new = np.sum(self.log, 0), self.written[self.start :]
        return {"per_call": Fact("Written", len(new) / len(self.log), "tokens per call of the model", "higher"),
                "right": Fact("Guesses accepted", float(100 * right / max(guesses, 1)), f"% of {guesses}", "higher"),
                "rows": Fact("Rows fed per token", float((rows - self.start) / len(new)), "(the base alone: 1)",
                             "lower"),
                "same": Fact("The base's own text", float(base == new), YES, "higher")}

    def sentence(self, facts: dict[str, Fact]) -> str:
        calls = f"{len(self.log)} calls wrote {self.count - self.start} tokens"
        if not facts["same"].value:
            return f"{calls}, but not those of the base: with the gate open its verdicts are no longer its own."
        return (f"{calls}, the very ones the base writes alone: {sum(right for _, right, _ in self.log)} of them were "
                f"guessed ahead and accepted. The base alone makes one call per token and feeds one row; here "
                f"{facts['rows'].value:.0f} rows were fed per token.")

    def charts(self) -> tuple[Chart, ...]:
        """By call: guesses verified and accepted, tokens per call so far, rows fed."""
        verified, accepted, rows = np.transpose(self.log)
        so_far = (accepted + 1).cumsum() / np.arange(1, len(accepted) + 1)
        return (line("Guesses", "tokens", {"verified": verified, "accepted": accepted}, x="call"),
                line("Tokens per call so far", "tokens", {"tokens per call": so_far}, x="call", reference=1.0,
                     caption="The base alone writes one token per call (dashed)."),
                line("Rows fed", "rows", {"rows": rows}, x="call",
                     caption="The token before, its guesses, and a block of masks behind each of them."))


def filled(page: TextRecord, number: int, found, new: list[int], over: bool) -> Emit:
    """A call as a step of the Unmask record: verified tokens are known, and the k masks behind them are filled in,
    which stands there until the next call. Guesses that were wrong and have no successor are taken back."""
    where = range(page.count, page.count + len(new))
    page.fill(where, new, "known")
    page.guess(where, found.base[: len(new)], new, BASE, top=TOP, measure=False)
    page.count += len(new)
    page.ids[page.count:] = -1
    masks = 0 if over else min(len(found.ahead), page.room)
    if masks:
        where, ids = range(page.count, page.count + masks), found.ahead[:masks]
        page.fill(where, ids)
        page.guess(where, found.chain[:masks], ids, GUESS, top=TOP)
        page.guess(where, found.masks[:masks], ids, ALONE, top=TOP, measure=False)
    return page.step(f"call {number}: " + (f"{masks} masks at once" if masks else "no masks to fill in"))


def foreseen(ranks: np.ndarray) -> tuple[str, tuple[Chart, ...], dict[str, Fact]]:
    """What ranks [3, A, k] say: a sentence, charts and facts."""
    _, places, k = ranks.shape
    if not places:
        return "The text ended before anybody could look ahead.", (), {}
    ticks, typical, right = numbered("mask", k), np.median(ranks, 1), ranks == 1  # typical [3, k]
    charts = (bars("Does it know the future? Rank of the token that came", "mask", "median rank (1: first)",
                   dict(zip(WAYS, typical)), ticks, caption="Mask i speaks of the token i places beyond the next one. "
                   f"Behind {places} tokens of this text."),
              right_chart(ranks, WAYS, "mask",
                          caption="The sampler is told the true token before each of its guesses."))
    facts = {name: Fact(f"Right, {title}", 100 * float(share), "% of guesses", "higher") for name, title, share in
             reversed([*zip(("fillers", "masks", "sampler"), WAYS, right.mean((1, 2)))])}
    return (f"{k} masks are filled in by one call. For the last of them the token that came is at rank "
            f"{typical[0, -1]:,.0f} by the untouched base, at rank {typical[1, -1]:,.0f} by the trained masks "
            "(medians)."), charts, facts


@torch.inference_mode()
def foresight(reader, ids: Sequence[int], start: int, k: int, most: int = MOST) -> np.ndarray:
    """Ranks int [3, A, k], from 1, of the true token i places beyond the next one, by each of WAYS: behind the last
    prompt token and those written behind it, at most so many."""
    anchors = range(start - 1, len(ids) - k - 1)[:most]
    if not anchors:
        return np.zeros((3, 0, k), int)
    layout, text = blocks(anchors, [k] * len(anchors)), torch.tensor([ids], device=reader.base.device)
    fillers = FutureAdapters.beside(reader.base, masks=k, noise=0.0).on(reader.base)
    untaught, masks = (behind(one, text, layout)[1] for one in (fillers, reader))
    found = reader.head(untaught), reader.head(masks), reader.sampled(masks, text[:, layout.position])
    return np.stack([array(rank(logits, text[:, layout.position + 1]), int).reshape(-1, k) for logits in found])


def training_mask(reader, source, ids: Sequence[int], k: int) -> Iterator[Event]:
    """The Attend record: the end of the text with blocks of masks behind some of its tokens, as in training."""
    ids = list(ids)[-WINDOW:]
    anchors = np.linspace(len(ids) // 5, len(ids) * 4 // 5 - 1, min(BLOCKS, len(ids) - 1)).astype(int).tolist()
    rows = reals(0, len(ids)) + blocks(anchors, [k] * len(anchors))
    order = np.lexsort((rows.mask.numpy(), rows.anchor.numpy()))  # each block stands behind its token
    position, block, _, mask = (part.numpy()[order] for part in rows.parts)
    texts = joined(source.texts(ids))
    labels = tuple(f" [m{number}]" if number else texts[i] for number, i in zip(mask, order))
    canvas = Canvas("text", labels, roles=tuple(f"block {number}" if number else "text" for number in block))
    layout = TokenLayout(canvas, order, position[:, None].astype(np.float32), "tokens")
    state = np.where(mask > 0, states("visible"), states("context"))
    state[np.flatnonzero(mask)[-1]] = states("new")[0]  # the query shown at first: the last mask
    sees, names = rows.visible().numpy()[order][:, order], [label.strip() or "space" for label in labels]
    chart = table("The training mask", "is seen", "sees", np.where(sees, 1 + block[:, None], 0), names, names,
                  unit="block",
                  caption="0: hidden. 1: text sees the text before it. 2 and up: what each block of masks sees.")
    text = torch.tensor([ids], device=reader.base.device)
    kinds = {"text": mask == 0, "m1": mask == 1, "later": mask > 1}
    return lens(reader.body, lambda: reader(text, rows), layout, kinds, ask=len(order) - 1, state=state,
                say=lambda mass: f"In training one call holds many prefixes: {len(anchors)} blocks of "
                f"{k} mask{'s' * (k != 1)} here. "
                "Point at a mask: it sees the text up to its block's token and its own block, nobody sees it.",
                facts=lambda mass: {} if k == 1 else {"own": Fact(  # of one mask there is no later one to look on
                    "Masks' attention to their own block", 100 * float(mass[:, 2, 1:].sum(-1).mean()), "%")},
                charts=lambda mass: (chart,))
