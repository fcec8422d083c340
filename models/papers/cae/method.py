"""CAE: one part of the network guesses what the encoder would say of hidden patches; another draws from that alone.

Chen et al., Context Autoencoder for Self-Supervised Representation Learning (arXiv 2202.03026), from a description of
it, since its code has no licence: the network is in network.py, its losses in recipe.py, what is measured of its
guesses in guesses.py. The codes are photo-vq-1's 512 tiles.
"""

from dataclasses import dataclass
from typing import Annotated

from models.baselines.mae.method import EXAMPLES, budget
from models.engine.method import Card, Job, Method, Turn
from models.papers.cae import record
from models.trace.params import Choice, Span


@dataclass(frozen=True)
class Params:
    mask_ratio: Annotated[float, Span(0.25, 0.75, 0.05, "Mask ratio", "How much of the picture is hidden; trained at "
                                      "one half.", unit="of patches")] = 0.5
    rule: Annotated[str, Choice(("block", "random"), "What is hidden", "It was trained on blocks: rectangles of four "
                                "patches or more.", titles=("blocks", "random patches"))] = "block"
    hole: Annotated[int, Span(0, 63, 1, "Hole", "Whose look is shown first in Attend, counted from 0: the hidden patch "
                              "nearest to it. Any hole can be clicked.", fold=True)] = 27


def run(job: Job):
    guess = record.guess(job)
    yield from record.drawn(job, guess)
    yield from record.looked(job, guess)


METHOD = Method(
    card=Card(
        id="cae", title="Context autoencoder", tabs=("mask", "attend"), arxiv="2202.03026", year=2022, seed="A",
        summary="A regressor guesses what the encoder would say of the hidden patches; a decoder that sees nothing "
                "else turns the guesses into codes. So the encoder is left to represent.",
        flow="photo > blocks hidden > encoder on visible patches > *regressor guesses hidden features > decoder > "
             "codes of hidden patches; photo > encoder on hidden patches > *guesses aligned",
        look_at="Tiles drawn from the guess and from the encoder's own features: what the second mends was guessed "
                "wrongly, what it does not was drawn wrongly.",
        not_covered="Fine-tuning, segmentation, detection; CAE v2; the class token's attention; nearest real patches. "
                    "The arm without alignment is measured, not shown: its cosine is 0, but 0.72 behind a linear map "
                    "fitted afterwards (CAE: 0.79). Ours: codes are the nearest of 512 tiles, not a dVAE's; two blocks "
                    "each of regressor and decoder, MLPs of twice the width; no LayerScale in encoder and decoder; "
                    "cosines are of features minus their mean; 350 steps of 96 photos behind a masked autoencoder.",
        unverified="From memory: the smallest block and the tokenizer's picture size. The last rectangle is cut where "
                   "exactly half is hidden.",
        shown={"attend": "the regressor: holes look at visible patches and at each other"}),
    params=Params, accepts="photo", checkpoints=("photo-cae-1",), companions=("photo-vq-1",), run=run,
    examples=EXAMPLES, baseline="mae", baseline_params=lambda p: {"mask_ratio": p.mask_ratio, "rule": p.rule},
    bound="it needs a network that guesses features and names photo-vq-1's codes",
    fixed={"attend": "The codes come out of guesses, not heads; hide other patches and look again."},
    turn=Turn("Hide the patches whose codes are hardest to guess.", "hard", budget))
