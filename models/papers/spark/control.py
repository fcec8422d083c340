"""Zero-filling: SparK's control. A dense convnet sees the hidden cells as grey pixels, and they soon are no holes.

The same network, decoder, masks and steps as spark.py (arXiv 2301.03580, its ablation); only the encoder's way with
holes differs. Every convolution carries visible information half a kernel further into the holes, and the fake pixels
shift what the norms are given.
"""

from models.baselines.mae.method import EXAMPLES
from models.engine.method import Card, Job, Method, Turn
from models.papers.spark.method import Params, budget, play


def run(job: Job):
    yield from play(job, sparse=False)


METHOD = Method(
    card=Card(
        id="zero-fill", title="Zero-filled convnet", tabs=("mask", "attend"), arxiv="2301.03580", year=2023, seed=None,
        summary="A convnet repaints hidden patches that it sees as zeros: SparK's control, alike in all but the holes.",
        flow="photo > patches hidden, filled with zeros > ordinary convolutions > mask vectors fill holes "
             "per scale > light decoder > repainted photo",
        look_at="Slide through the layers: the surroundings leak in, and after a few layers no hole is left.",
        not_covered="Training and fine-tuning; learned mask tokens in the pixels.",
        unverified="Its decoder gets mask vectors in the holes, as SparK's does, so that only the encoder differs."),
    params=Params, accepts="photo", checkpoints=("photo-spark-zero-1",), run=run, examples=EXAMPLES,
    turn=Turn("Hide the patches that you think are hardest to repaint.", "error", budget),
    fixed={"attend": "It is a convolutional network without attention heads."})
