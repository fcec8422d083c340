"""text-mdm-1: masked diffusion language model on text-ar's vocabulary (loss of LLaDA, arXiv 2502.09992)."""
import numpy as np
import torch

from training import data, text
from training.export import figure, save_hub
from training.trainer import Recipe, rng_of
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE, shipped_text

LENGTH, BATCH, MASK = 512, 16, 1


class TextMDM(Recipe):
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
                                  num_key_value_heads=2, intermediate_size=576, positions="1d", mask_token_id=MASK)
        causal = {k.removeprefix("model."): v for k, v in shipped_text("text-ar-1").state_dict().items()}
        causal.pop("lm_head.weight", None)  # tied
        model.load_state_dict(causal)
        return model

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        ids = data.blocks(self.train, LENGTH, BATCH, step, self.seed)[:, :LENGTH]
        t = (rng.permutation(BATCH) + rng.random(BATCH)) / BATCH  # uniform on 0..1, one draw per sixteenth
        t = np.clip(t, 1e-3, 1)[:, None]
        masked = rng.random(ids.shape) < t
        return {"ids": torch.from_numpy(ids), "masked": torch.from_numpy(masked),
                "weight": torch.from_numpy((masked / t).astype(np.float32))}

    def loss(self, model, batch, progress):
        ids = batch["ids"]
        logits = model(torch.where(batch["masked"], MASK, ids))
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none")
        return (losses * batch["weight"].flatten()).sum() / ids.numel(), {}

    def quick(self, model):
        piece = self.val[:15_000]
        return {"bound": round(float(np.sum(self.bound(model, piece)) / len(self.tok.decode(piece.tolist()))), 3)}

    @torch.no_grad()
    def bound(self, model, tokens, seed: int = 3) -> np.ndarray:
        """Bits of each block of 512 tokens, an upper bound on average: hide l ~ U{1..L}, weight its loss by L / l.

        l is drawn one per stratum over the blocks, which keeps the estimate unbiased and quieter.
        """
        rng, count = np.random.default_rng(seed), len(tokens) // LENGTH
        ids = torch.from_numpy(tokens[: count * LENGTH].astype(np.int64).reshape(count, LENGTH))
        hide = np.ceil((rng.permutation(count) + rng.random(count)) / count * LENGTH).clip(1, LENGTH)
        masked = torch.from_numpy(rng.random(ids.shape).argsort(1).argsort(1) < hide[:, None])
        bits = []
        for x, m, h in zip(ids.split(16), masked.split(16), torch.from_numpy(hide).split(16), strict=True):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = model(torch.where(m, MASK, x)).float()
            losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1), x.flatten(), reduction="none")
            bits.append((losses.reshape(x.shape) * m).sum(1) * LENGTH / h / np.log(2))
        return torch.cat(bits).numpy()

    def evaluate(self, model):
        n_chars = sum(map(len, data.stories("val")))
        per_block = n_chars / len(self.val) * LENGTH
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
    budget_fraction = "100 minutes of one thread beside other work, on top of text-mdm-1"
