"""text-ar-1: the shared causal language model (Llama layout, byte-level BPE 4096)."""
import numpy as np
import torch

from training import data, text
from training.trainer import Recipe


class TextAR(Recipe):
    name = "text-ar-1"
    minutes = 50.0
    vocab, width, layers, heads, kv_heads, ff = 4096, 256, 6, 4, 2, 576
    tokens_per_batch = 8192
    long_from = 0.85  # the last part runs at twice the context, so that 1,024-token prompts work

    def prepare(self, folder):
        self.tok, self.train, self.val = text.cached(folder, self.vocab)

    def config(self):
        from transformers import LlamaConfig

        return LlamaConfig(
            vocab_size=self.vocab, hidden_size=self.width, intermediate_size=self.ff, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.kv_heads, max_position_embeddings=2048,
            tie_word_embeddings=True, rms_norm_eps=1e-5, initializer_range=0.02, attn_implementation="sdpa",
            bos_token_id=0, eos_token_id=0, pad_token_id=2)

    def build(self):
        from transformers import LlamaForCausalLM

        return LlamaForCausalLM(self.config())

    def batch(self, step, progress):
        length = 512 if progress < self.long_from else 1024
        rows = data.blocks(self.train, length, self.tokens_per_batch // length, step, self.seed)
        return {"ids": torch.from_numpy(rows)}

    def loss(self, model, batch, progress):
        ids = batch["ids"]
        logits = model(ids[:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten()), {}

    def quick(self, model):
        piece = self.val[:60_000]
        n_chars = len(self.tok.decode(piece.astype(np.int64).tolist()))
        return {"bits_per_char": round(text.bits_per_char(model, piece, n_chars, 512, 256), 4)}
