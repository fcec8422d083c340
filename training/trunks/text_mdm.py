"""text-mdm-1: masked diffusion language model on text-ar's vocabulary (loss of LLaDA, arXiv 2502.09992)."""
import numpy as np

from training import data, text
from training.export import figure, save_hub
from training.language import Masked
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE, shipped_text


class TextMDM(Masked):
    name = "text-mdm-1"
    minutes, lr, lr_adam, decay, ema = 20.0, 0.015, 2e-3, 0.6, 0.995
    warm_lr = 0.7  # its first run was short
    architecture = "MaskedTransformer, 6 layers, width 256, 4 heads (2 key-value), 1-D positions, text-ar-1's tokenizer"
    trained_on, data_licence = BOOKS + ", starting from the weights of text-ar-1", BOOKS_LICENCE
    weak_at = "Writes phrases well and whole sentences badly; its bound stays above text-ar-1's exact figure."
    budget_fraction = "about the 20 minutes of the plan"

    def prepare(self, folder):
        self.tok, self.train, self.val = text.cached(folder, 4096)
        self.folder = folder

    def build(self):
        """The causal model's weights with the causal mask taken off."""
        from models.backbones.masked import MaskedTransformer

        model = MaskedTransformer(4096, hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
                                  num_key_value_heads=2, intermediate_size=576, positions="1d", mask_token_id=self.mask)
        causal = {k.removeprefix("model."): v for k, v in shipped_text("text-ar-1").state_dict().items()}
        causal.pop("lm_head.weight", None)  # tied
        model.load_state_dict(causal)
        return model

    def quick(self, model):
        piece = self.val[:15_000]
        return {"bound": round(float(np.sum(self.bound(model, piece)) / len(self.tok.decode(piece.tolist()))), 3)}

    def evaluate(self, model):
        n_chars = sum(map(len, data.stories("val")))
        per_block = n_chars / len(self.val) * self.length
        draws = self.bound(model, self.val) / per_block
        simple = figure(text.five_gram(self.folder), "bits/char", n_chars)
        return {"metrics": {"bound (NELBO), six held-out books": figure(
                    draws.mean(), "bits/char (blocks of 512 tokens, each on its own)", len(draws), draws)},
                "trivial_baseline": {"character 5-gram, Witten-Bell": simple}}

    def save(self, model, folder):
        save_hub(model, folder)
        text.wrap(self.tok).save_pretrained(folder)


class TextMDMSecond(TextMDM):
    name, start, replaces, minutes, pack = "text-mdm-2", "text-mdm-1", "text-mdm-1", 90.0, 6
    budget_fraction = ("82 of 100 minutes of one thread beside other work, on top of text-mdm-1; the rate had fallen "
                       "to 3 tenths")
