"""The start of every run: two tables of zeros (`python -m training facts-scan-1 --export-only`)."""
import math

from models.papers.scan_and_snap.network import PairwiseTransformer
from training.export import figure
from training.trainer import Recipe


class ZeroTables(Recipe):
    name = "facts-scan-1"
    architecture = "PairwiseTransformer: a table of attention and one of decoding, 128 words, all zeros"
    trained_on = "nothing: it is the start, and the network that is shown is trained in the run"
    data_licence = "none: made by program"
    weak_at = "Knows nothing. What the page shows is trained in the run, in about a second."
    budget_fraction = "none; a run has the whole of the paper's 100 iterations"

    def build(self):
        return PairwiseTransformer()

    def evaluate(self, model):
        words = len(model.decoder)
        largest = max(float(table.abs().max()) for table in model.parameters())
        return {"metrics": {"largest weight": figure(largest, "in size", words**2 * 2)},
                "trivial_baseline": {"loss of one who knows nothing": figure(math.log(words), "nats", words)}}
