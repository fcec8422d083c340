"""text-mlm-1: a masked language model on short windows of the books, in transformers' ELECTRA layout.

The baseline `mlm` judges with it, and ELECTRA's discriminator starts from it and is compared with it.
"""
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from training import data, text
from training.export import figure
from training.trainer import Recipe, rng_of
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE, shipped_text

LENGTH, BATCH = 96, 48
MASK, SPECIALS = 1, (0, 1, 2)
SHARE = 0.15
COUNT = max(1, round(SHARE * LENGTH))  # selected places per text


def config(width: int, heads: int):
    """ELECTRA's layout at teaching scale; no dropout, because no text is seen twice."""
    from transformers import ElectraConfig

    return ElectraConfig(
        vocab_size=4096, embedding_size=128, hidden_size=width, num_hidden_layers=4, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=LENGTH, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0, pad_token_id=2, attn_implementation="sdpa")


class TextMLM(Recipe):
    name = "text-mlm-1"
    minutes = 11.0
    warm_lr = 1.0  # the discriminator, which starts from the same weights, trains at full rates too
    architecture = ("ElectraForMaskedLM, 4 layers, width 192, 4 heads, tied embeddings of width 128, text-ar-1's "
                    "tokenizer; 15 % of the tokens selected, 85 % of these hidden")
    trained_on = BOOKS + ", windows of 96 tokens; the embedding table starts from text-ar-1's main directions"
    data_licence = BOOKS_LICENCE
    weak_at = "A control for text-electra-1 at the same training FLOPs: one seed, short training, weak guesses."
    budget_fraction = "the plan's minutes on two cores; the spec asks for 20,000 steps of 64 texts"

    def prepare(self, folder):
        self.tok, self.train, self.val = text.cached(folder, 4096)

    def build(self):
        from transformers import ElectraForMaskedLM

        model = ElectraForMaskedLM(config(192, 4))
        start_from(model.electra.embeddings, shipped_text("text-ar-1").get_input_embeddings().weight)
        return model

    def batch(self, step, progress):
        ids = torch.from_numpy(data.blocks(self.train, LENGTH, BATCH, step, self.seed)[:, :LENGTH])
        return game(ids, int(rng_of(self.seed, step).integers(2**40)))

    def loss(self, model, batch, progress):
        return fill_loss(model, **batch), {}

    def quick(self, model):
        return {"nats per hidden word": round(float(self.nats(model, 8).mean()), 3)}

    halfway: dict = {}  # the same figures at half of the training

    def after_step(self, model, step, progress):
        if not self.halfway and progress >= 0.5:
            self.halfway = self.quick(model)

    def state(self):
        return {"halfway": self.halfway}

    def load_state(self, state):
        self.halfway = state["halfway"]

    @torch.no_grad()
    def nats(self, generator, most: int = 10_000) -> np.ndarray:
        """Mean loss [windows] of the selected words of held-out windows."""
        from models.backbones.electra import proposals

        found = []
        for ids in self.windows(most):
            made = game(ids, 5)
            logp = proposals(generator, made["hidden"], made["places"]).float().log_softmax(-1)
            found.append(-logp.gather(2, ids.gather(1, made["places"])[..., None])[..., 0].mean(1))
        return torch.cat(found).numpy()

    def windows(self, most: int):
        """Held-out windows [64, LENGTH], spread over the books, at most so many batches."""
        count = min(most, len(self.val) // LENGTH // 64)
        starts = np.linspace(0, len(self.val) - LENGTH, 64 * count).astype(int)
        for some in starts.reshape(count, 64):
            yield torch.from_numpy(np.stack([self.val[s : s + LENGTH] for s in some]).astype(np.int64))

    def macs(self) -> int:
        """Multiply-adds of one training text, forward."""
        from models.backbones.electra import macs

        return macs(config(192, 4), LENGTH, COUNT)

    def rarity(self) -> np.ndarray:
        """Nats [V] per word for a reader who knows word frequencies alone."""
        counts = np.bincount(self.train, minlength=4096) + 1.0
        return -np.log(counts / counts.sum())

    def evaluate(self, model):
        nats = self.nats(model)
        half = {f"at half of the training: {name}": figure(value, "on 512 windows", 512)
                for name, value in self.halfway.items()}
        return {"metrics": {"loss of a selected word, six held-out books": figure(nats.mean(), "nats", len(nats), nats),
                            "forward work per training text": figure(self.macs() / 1e6, "M multiply-adds", 1), **half},
                "trivial_baseline": {"word frequencies": figure(self.rarity()[self.val].mean(), "nats", len(self.val))}}

    def save(self, model, folder):
        model.config.dtype = "float16"
        model.save_pretrained(folder)
        text.wrap(self.tok).save_pretrained(folder)


def game(ids: torch.Tensor, seed: int) -> dict:
    """The text [B, n], what the generator sees of it [B, n], and the selected places [B, k]."""
    from models.loops.mask.planting import hide, select

    generator = torch.Generator().manual_seed(seed)
    places = select(ids, ids <= max(SPECIALS), COUNT, generator)
    return {"ids": ids, "hidden": hide(ids, places, MASK, generator), "places": places}


def fill_loss(model, ids: Tensor, hidden: Tensor, places: Tensor) -> Tensor:
    """A masked language model's loss, on the selected places."""
    from models.backbones.electra import proposals

    logits = proposals(model, hidden, places)
    return cross_entropy(logits.flatten(0, 1).float(), ids.gather(1, places).flatten())


@torch.no_grad()
def start_from(embeddings, table: Tensor, scale: float = 0.05) -> None:
    """Puts the main directions of a trained embedding table [V, D] into a narrower one, and waves into its positions.

    Both arms begin so: minutes on two cores are too few to learn a vocabulary from nothing.
    """
    words, places = embeddings.word_embeddings.weight, embeddings.position_embeddings.weight
    centred = table.float() - table.float().mean(0)
    main = torch.linalg.svd(centred, full_matrices=False)[2][: words.shape[1]]  # [d, D]
    short = centred @ main.T
    words.copy_(short * (scale / short.std()))
    count, width = places.shape
    angles = torch.arange(count)[:, None] * 10_000 ** (-torch.arange(0, width, 2) / width)  # [P, d / 2]
    places.copy_(torch.cat([angles.sin(), angles.cos()], 1) * scale)
