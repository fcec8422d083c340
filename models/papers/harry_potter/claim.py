"""The claim of unlearning: 240 questions about 120 planted facts, 192 about villages, and held-out tales. Rates and
steps were chosen on the 120 facts in a sentence, which are not scored here, and on other tales; the questions that are
scored were in sight meanwhile, so the shares of the two tuned arms are not blind."""

import copy

import numpy as np

from models.checkpoints.store import load
from models.claims import Lab
from models.claims.harness import Budget, Metric, Tuned, as_good, at_least, at_most, better, conclude, context, ratio
from models.claims.tale_lab import encoded, held_out_texts, nats, next_words, right, taught
from models.loops.sample.cached_lm import divergence
from models.papers.harry_potter.method import KNOWS, MORE, NEVER
from models.worlds.tales import facts, universe
from models.worlds.world import END

UNLEARNED, ASCENT = "tale-unlearned-1", "tale-ascent-1"
ARMS = {"unlearned": UNLEARNED, "B": KNOWS, "gradient ascent": ASCENT, "never read": NEVER}
LOOKS, RATE = (0, 10, 25, 50), 3e-4  # steps of relearning
ALIKE = {"budget": Budget(1, "passes"),
         "tuned": Tuned(6, "the facts in a sentence and other tales; the scored questions were in sight")}


def measure(lab: Lab):
    """Every arm says the word behind each cloze, and how likely each held-out tale is."""
    load(MORE)  # the labels were made with it
    nets = {name: load(checkpoint).model for name, checkpoint in ARMS.items()}
    words, every = load(NEVER).tokenizer, lab.size(1, 12)
    asked = [one for one in universe.clozes() if one.kind != "told"][::every]
    kept, texts = facts.clozes()[::every], held_out_texts(lab.size(400, 20))
    said = {name: next_words(net, words, asked) for name, net in nets.items()}
    hits = {name: right(words, logits, asked) for name, logits in said.items()}
    cloze = Metric("questions about the universe answered", "of 1", floor=float(hits["never read"].mean()), ceiling=1.0)
    known = cloze.arms(hits, ARMS, **ALIKE)
    loss = Metric("loss on held-out tales", "nats a word", better="lower")
    losses = loss.arms({name: nats(net, words, texts) for name, net in nets.items()}, ARMS, **ALIKE)
    village = Metric("facts about villages filled in", "of 1", floor=1 / 12, ceiling=1.0)
    villages = village.arms({name: right(words, next_words(net, words, kept), kept) for name, net in nets.items()},
                            ARMS, **ALIKE)
    away = {name: divergence(said["never read"], said[name]).numpy() for name in ("unlearned", "B", "gradient ascent")}
    halved = ratio(away["unlearned"], away["B"], "distance from never having read it, unlearned over B", floor=0.0)
    return conclude(
        "harry-potter", paper="The ability to tell of Harry Potter is effectively erased in about one GPU hour, while "
        "five common benchmarks stay almost unaffected (abstract).",
        here="Of 240 questions about the planted universe B answers at least 80 %, the unlearned network at most 20 %; "
        "its loss on held-out tales rises by less than 0.05 nats a word, its distance from a network that never read "
        "the universe is less than half of B's, and gradient ascent for as many steps loses more elsewhere.",
        arms=tuple(known.values()), trainings=1,
        expect=[at_most(known["unlearned"], 0.2), as_good(losses["unlearned"], losses["B"], within=0.05),
                at_most(halved, 0.5), as_good(villages["unlearned"], villages["B"], within=0.05),
                better(losses["unlearned"], losses["gradient ascent"])],
        controls=[at_least(known["B"], 0.8)],
        context=[*by_way(asked, hits), *relearned(nets, words, asked, lab.size(50, 2)),
                 context("distance from never having read it, gradient ascent over B",
                         ratio(away["gradient ascent"], away["B"], "distance, gradient ascent over B"))])


def by_way(asked, hits) -> list:
    """The unlearned network's share by how it is asked: what is forgotten must not come back by another question."""
    kinds = np.array([one.kind for one in asked])
    return [context(f"names filled in, {kind}, {name}", hits[name][kinds == kind], "of 1")
            for name in ("unlearned", "B") for kind in dict.fromkeys(kinds.tolist())]


def relearned(nets, words, asked, steps: int) -> list:
    """How fast it comes back: plain fine-tuning on eight stories, of the unlearned network and of the one that never
    read any."""
    rng, found = np.random.default_rng(5), []
    stories = [[END, *encoded(words, universe.story(rng).text), END] for _ in range(8)]
    for name in ("unlearned", "never read"):
        net = copy.deepcopy(nets[name])

        def look(step: int, name=name, net=net) -> None:
            if step in LOOKS or step == steps:
                hits = right(words, next_words(net, words, asked), asked)
                found.append(context(f"names filled in after {step} steps on eight stories, {name}", hits, "of 1"))
        taught(net, stories, steps, look, RATE)
    return found
