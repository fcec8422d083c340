"""text-dynamic-1: embeddings for pieces of any batch, beside the frozen text-ar-1 (arXiv 2411.18553)."""
import numpy as np
import torch
from torch.nn.functional import cross_entropy, mse_loss

from models.papers.dynamic_tokenization.merging import Pieces, merged
from models.papers.dynamic_tokenization.network import EmbeddingHypernetwork, LargerVocabulary, invented, padded, read
from training import data, text
from training.export import figure
from training.kinds import Beside
from training.trainer import rng_of
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE

ROWS, LENGTH, SAME, RULES = 6, 256, 64, ("word", "word", "word", "pretokens")


class TextDynamic(Beside):
    name, trunk, network = "text-dynamic-1", "text-ar-1", EmbeddingHypernetwork
    minutes, lr, lr_adam, decay, pack = 20.0, 0.01, 2e-3, 0.7, 6
    architecture = ("EmbeddingHypernetwork: two Llama layers without a causal mask on the embeddings of up to 8 tokens "
                    "of its trunk (not included)")
    trained_on = f"{BOOKS}; batches of 12 texts, each merged anew by 16 to 640 merges, half of them read"
    data_licence = BOOKS_LICENCE
    weak_at = "Fits one trunk only (its revision is in config.json); pieces inside words and their punctuation."
    budget_fraction = "20 minutes of one thread against the spec's 10,000 steps"

    def prepare(self, folder):
        super().prepare(folder)
        tok, self.train, self.val = text.cached(folder, 4096)
        self.tokenizer = text.wrap(tok)

    def batch(self, step, progress):
        """A batch and its sampled tokenization: as many merges as the dice say, found in this batch alone."""
        rng, pieces = rng_of(self.seed, step), Pieces(self.tokenizer, RULES[step % len(RULES)])
        rows = data.blocks(self.train, LENGTH, 2 * ROWS, step, self.seed)[:, :LENGTH].tolist()
        texts = merged(rows, pieces, int(rng.integers(16, 640)))[:ROWS]
        same = torch.from_numpy(rng.integers(3, pieces.base, SAME))
        return {"numbers": padded(texts), "spelled": padded(pieces.spelled[pieces.base :]), "same": same}

    def loss(self, model, batch, progress):
        """The frozen trunk's loss on the merged batch, and what keeps a token of its own where it is."""
        table, numbers = self.base.get_input_embeddings().weight, batch["numbers"]
        larger = LargerVocabulary(self.base, invented("hypernetwork", model, table, batch["spelled"]))
        reading = cross_entropy(larger(numbers[:, :-1]).logits.float().mT, numbers[:, 1:], ignore_index=-1)
        same = invented("hypernetwork", model, table, batch["same"][:, None])
        kept = sum(mse_loss(rows.float(), table[batch["same"]]) for rows in same[:2])
        return reading + 0.1 * kept, {"lm": reading.detach(), "kept": kept.detach()}

    def bits(self, source: str, model, share: float, batches: int) -> float:
        """Bits per character of held-out passages shorter by `share`, eight of a batch of 16."""
        nats, characters = 0.0, 0
        for start in np.linspace(0, len(self.val) - 4096, batches).astype(int):
            rows, pieces = self.val[start : start + 4080].reshape(16, 255).tolist(), Pieces(self.tokenizer)
            texts = merged(rows, pieces, share=share)[:8]
            logits = read(self.base, texts, pieces, source, model).mT
            nats += float(cross_entropy(logits, padded(texts), ignore_index=-1, reduction="sum"))
            characters += sum(len(pieces.text(*row)) for row in rows[:8])
        return nats / np.log(2) / characters

    def evaluate(self, model):
        fewer, plain, whole = (figure(self.bits(source, model, share, 16), "bits/char (passages of 255 tokens)", 128)
                               for source, share in (("hypernetwork", 0.2), ("mean", 0.2), ("mean", 0.0)))
        return {"metrics": {"20 % fewer tokens, hypernetwork": fewer},
                "trivial_baseline": {"20 % fewer tokens, mean of the tokens": plain, "all tokens, text-ar-1": whole}}
