"""The claim of horizon-length prediction: gaps of at least four words in stories and programs that no training drew,
filled greedily up to twice their length, nothing cut off to fit. Nothing was tuned: one training of each arm."""
import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, as_good, at_most, better, conclude, context, more_than_chance
from models.claims.tale_lab import encoded, nats
from models.papers.hlp.gaps import EOI, KINDS, Gap, asked, fill, horizon, right, said
from models.papers.hlp.method import HLP, NTP
from models.worlds import tales
from models.worlds.world import exam

ARMS = {"HLP": HLP, "next word alone": NTP}
SCORED, LEARNED, PLAIN = 83, 84, 85  # seeds: gaps that are scored, gaps that the clock learns from, texts without any


def measure(lab: Lab):
    bundles = {name: load(of) for name, of in ARMS.items()}
    words, count = bundles["HLP"].tokenizer, lab.size(400, 4)
    scored, learned = ({kind: asked(kind, lambda text: encoded(words, text), count, seed) for kind in KINDS}
                       for seed in (SCORED, LEARNED))
    gaps = sum(scored.values(), [])
    made = {name: fill(bundle.model, gaps) for name, bundle in bundles.items()}

    def arms(metric: Metric, score):
        return [metric.arm(name, [float(score(*pair)) for pair in zip(gaps, made[name], strict=True)],
                           checkpoints=ARMS[name], budget=Budget(1, "gaps")) for name in ARMS]

    pieced = arms(Metric("texts right again", "of 1", floor=np.array([right(words, gap, []) for gap in gaps], float),
                         ceiling=1.0), lambda gap, found: right(words, gap, found))
    endless = arms(Metric("no end within twice the gap", "of 1", "lower", floor=1.0, ceiling=0.0),
                   lambda gap, found: found[-1] != EOI)
    halved = endless[1].metric.arm("half of next word alone's", 0.5 * endless[1].scores, checkpoints=NTP,
                                   budget=Budget(1, "gaps"))  # no ratio: there may be none at all
    usual = [abs(gap.count - np.median([one.count for one in learned[kind]])) for kind in KINDS for gap in scored[kind]]
    length = arms(Metric("length, off by", "words", "lower", ceiling=0.0, floor=np.array(usual)),
                  lambda gap, found: abs(len(found) - (found[-1] == EOI) - gap.count))
    same = arms(Metric("the very words that stood there", "of 1"), lambda gap, found: gap.middle == found[:-1])
    loss = Metric("loss on texts without a gap", "nats a word", "lower")
    plain = [doc.text for kind in KINDS for doc in exam(tales.GRAMMARS[kind], PLAIN, lab.size(300, 4))]
    kept = [loss.arm(name, nats(bundle.model, words, plain), checkpoints=ARMS[name], budget=Budget(1, "texts"))
            for name, bundle in bundles.items()]
    clocks = {kind: clock(learned[kind]) for kind in KINDS}
    far = {**{name: [inside(said(bundle.model, gap), gap) for gap in gaps] for name, bundle in bundles.items()},
           "a clock": [inside(clocks[kind][: gap.count + 1], gap) for kind in KINDS for gap in scored[kind]],
           "always one half": [inside(np.full(gap.count + 1, 0.5), gap) for gap in gaps]}
    off = Metric("gauge inside the gap, off by", "of 1", "lower", floor=np.array(far["always one half"]), ceiling=0.0)
    gauge, read_off, ticks, half = (off.arm(name, one, checkpoints=ARMS.get(name, ()), budget=Budget(1, "gaps"))
                                    for name, one in far.items())
    return conclude(
        "hlp", paper="Fill-in-the-middle up to 24 % better (relative), in files and repositories, without cutting "
        "what was written; better code reasoning; no cost when it is used (abstract).",
        here="Beside next-word prediction on the same batches, half as many gaps find no end, their length is off by "
        "15 % less, more texts are right again, texts without a gap cost at most 0.5 % more; the gauge is off by at "
        "most 0.12, less than always one half, a clock, and what can be read off the control.",
        arms=tuple(pieced), trainings=1, seeds=(SCORED,),
        expect=[better(endless[0], halved), better(*length, least=15, by="percent"), better(*pieced),
                as_good(*kept, within=0.5, by="percent"), at_most(gauge, 0.12), better(gauge, half, least=0.05),
                better(gauge, ticks, least=0.02), better(gauge, read_off)],
        controls=[more_than_chance(pieced[1], pieced[1].metric.floor)],
        context=[*(context(f"{arm.metric.name}, {kind}, {arm.name}", arm.scores[i * count: (i + 1) * count],
                           arm.metric.unit) for arm in (*pieced, *endless, *length, gauge, read_off, ticks)
                   for i, kind in enumerate(KINDS)),
                 *(context(f"{arm.metric.name}, {arm.name}", arm) for arm in same)])


def inside(said: np.ndarray, gap: Gap) -> float:
    """Mean distance to what is left, without [MID], where that is always 1, and the last word."""
    return float(np.abs(said - horizon(gap.count))[1:-1].mean())


def clock(learned: list[Gap]) -> np.ndarray:
    """What is best said behind t words by one who counts them and reads nothing: the median of what was left."""
    return np.array([np.median([horizon(gap.count)[t] for gap in learned if gap.count >= t] or 0) for t in range(250)])
