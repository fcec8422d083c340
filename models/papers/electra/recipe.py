"""text-electra-1: a small generator plants words, the discriminator judges every token (arXiv 2003.10555)."""
import json

import torch

from training.export import SHIPPED, figure, read_shipped
from training.trunks.text_mlm import COUNT, LENGTH, SPECIALS, TextMLM, config, game


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
