"""text-electra-1: a small generator plants words, the discriminator judges every token (arXiv 2003.10555).

text-mlm-1: a masked language model of the discriminator's size, on the same texts, for the same training FLOPs.
"""
import json

import numpy as np
import torch

from training import data, text
from training.export import SHIPPED, figure, read_shipped
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

        from models.papers.electra.network import start_from

        model = ElectraForMaskedLM(config(192, 4))
        start_from(model.electra.embeddings, shipped_text("text-ar-1").get_input_embeddings().weight)
        return model

    def batch(self, step, progress):
        ids = torch.from_numpy(data.blocks(self.train, LENGTH, BATCH, step, self.seed)[:, :LENGTH])
        return game(ids, int(rng_of(self.seed, step).integers(2**40)))

    def loss(self, model, batch, progress):
        from models.papers.electra.network import fill_loss

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


class TextElectra(TextMLM):
    name = "text-electra-1"
    architecture = ("ElectraForPreTraining, 4 layers, width 192, 4 heads, text-ar-1's tokenizer; in generator/ an "
                    "ElectraForMaskedLM, 4 layers, width 64; one embedding table of width 128")
    trained_on = TextMLM.trained_on + ", going on from text-mlm-1's first run"
    weak_at = "One seed, short training: it notices odd words, less so plausible ones. Knows children's books only."

    def build(self):
        """The discriminator goes on from text-mlm-1 as it is shipped, the generator starts anew on the same table.

        From scratch it learned nothing but the share of fakes in 700 steps (AUC 0.50); the paper (section 3.2,
        from memory) saw the same when a generator is far ahead, and there starts it from a masked language model too.
        """
        from models.papers.electra.network import ElectraPair

        model = ElectraPair(config(64, 1), config(192, 4))
        start = read_shipped("text-mlm-1")
        model.discriminator.electra.load_state_dict(start.electra.state_dict())
        return model

    def rate(self, name: str) -> float:
        """The discriminator is trained gently. At the generator's rate it forgot what it had begun with and said the
        same of every word: its gradient is mostly noise at first, and Muon's steps are as long for noise."""
        return 1.0 if name.startswith("generator.") else 0.3 if "embeddings" in name else 0.1

    @staticmethod
    def before() -> float:
        """Forward work, in M multiply-adds, that went into the start; asked while text-mlm-1 is still the one used."""
        card = json.loads((SHIPPED / "text-mlm-1" / "card.json").read_text())
        return card["examples_seen"] * card["metrics"]["forward work per training text"]["value"]

    def loss(self, model, batch, progress):
        found = model.losses(**batch, never=SPECIALS)
        return found.pop("loss"), {name: value.detach() for name, value in found.items()}

    def quick(self, model):
        return {"nats per hidden word": round(float(self.nats(model.generator, 8).mean()), 3),
                "auc": round(self.auc(model, 8)[0], 4), "auc, uniform fakes": round(self.auc(model, 8, True)[0], 4)}

    @torch.no_grad()
    def auc(self, model, most: int = 10_000, uniform: bool = False, rarity=None) -> tuple[float, int]:
        """Area under the curve of the suspicion, all tokens of held-out windows, and how many fakes there were.

        rarity: scores [V] of the words that judge in the discriminator's place.
        """
        from models.backbones.electra import proposals
        from models.engine.statistics import auc
        from models.loops.mask.planting import corrupt, sample

        generator, score, truth = torch.Generator().manual_seed(6), [], []
        for ids in self.windows(most):
            made = game(ids, 5)
            logits = proposals(model.generator, made["hidden"], made["places"]).float()
            logits = torch.zeros_like(logits) if uniform else logits
            fake, replaced = corrupt(ids, made["places"], sample(logits, 1.0, SPECIALS, generator))
            judged = model.discriminator(fake).logits.float() if rarity is None else rarity[fake]
            score.append(judged.flatten())
            truth.append(replaced.flatten())
        return auc(torch.cat(score).numpy(), torch.cat(truth).numpy()), int(torch.cat(truth).sum())

    def macs(self) -> int:
        """Generator and discriminator."""
        from models.backbones.electra import macs

        return macs(config(64, 1), LENGTH, COUNT) + macs(config(192, 4), LENGTH)

    def evaluate(self, model):
        found = super().evaluate(model.generator)
        found["metrics"]["forward work before, on text-mlm-1"] = figure(self.before(), "M multiply-adds", 1)
        rarity = torch.from_numpy(self.rarity())
        for name, uniform in (("the generator's fakes", False), ("random fakes", True)):
            value, count = self.auc(model, uniform=uniform)
            found["metrics"][f"AUC of the discriminator, {name}"] = figure(value, "AUC", count)
            simple, count = self.auc(model, uniform=uniform, rarity=rarity)
            found["trivial_baseline"][f"AUC of word rarity, {name}"] = figure(simple, "AUC", count)
        return found | {"headline": "AUC of the discriminator, the generator's fakes",
                        "headline_beside": "AUC of word rarity, the generator's fakes"}

    def save(self, model, folder):
        super().save(model.discriminator, folder)
        super().save(model.generator, folder / "generator")

    def read(self, folder):
        from models.papers.electra.network import ElectraPair

        model = ElectraPair(config(64, 1), config(192, 4))
        model.discriminator, model.generator = super().read(folder), super().read(folder / "generator")
        return model


def game(ids: torch.Tensor, seed: int) -> dict:
    """The text [B, n], what the generator sees of it [B, n], and the selected places [B, k]."""
    from models.loops.mask.planting import hide, select

    generator = torch.Generator().manual_seed(seed)
    places = select(ids, ids <= max(SPECIALS), COUNT, generator)
    return {"ids": ids, "hidden": hide(ids, places, MASK, generator), "places": places}
