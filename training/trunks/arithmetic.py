"""algo-arithmetic-1 and -2: worked sums with checkable answers, stopped while they still make mistakes."""
import numpy as np
import torch

from models.worlds import arithmetic, routes
from training.export import figure
from training.trainer import Recipe, rng_of

LENGTH, BATCH = 64, 128


def word_tokenizer():
    """One token per word or punctuation mark; specials first, as in the text checkpoints."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<|endoftext|>", "<|mask|>", "<|pad|>", "<|unk|>", *arithmetic.WORDS]
    tok = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<|unk|>"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()  # splits words and punctuation
    tok.add_special_tokens(words[:4])
    return tok


def digit_tokenizer():
    """One token per digit or sign; spaces are ignored, and written back for the reader."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    words = ["<|endoftext|>", "<|mask|>", "<|pad|>", "<|unk|>", *routes.WORDS]
    tok = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<|unk|>"))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\s+"), "removed"), pre_tokenizers.Split(Regex("[a-z]+|[^a-z]"), "isolated")])
    tok.decoder = decoders.Sequence([*(decoders.Replace(w, f"{w} ") for w in (",", ".", "answer")), decoders.Fuse()])
    tok.add_special_tokens(words[:4])
    return tok


class Arithmetic(Recipe):
    name = "algo-arithmetic-1"
    world, rows, length, room = arithmetic, BATCH, LENGTH, 50  # room: tokens of a solution, for measuring
    minutes, lr, lr_adam, decay, ema = 8.0, 0.02, 3e-3, 0.6, 0.0
    look, reached = 8.0, 0.0
    target = 0.62  # greedy accuracy at which training stops: cntp needs mistakes to repair
    architecture = "LlamaForCausalLM, 4 layers, width 192, 4 heads, one token per word, number or punctuation mark"
    trained_on = "worded chains of 3-5 operations on 0-99, made by program (models/worlds/arithmetic.py)"
    data_licence = "none: made by program"
    weak_at = "Stopped early on purpose: it adds, subtracts and multiplies with slips, and knows nothing else."
    budget_fraction = "stopped by accuracy, not by budget (cntp asks for 10,000 steps)"

    def prepare(self, folder):
        self.tok = word_tokenizer()

    def build(self):
        from transformers import LlamaConfig, LlamaForCausalLM

        return LlamaForCausalLM(LlamaConfig(
            vocab_size=self.tok.get_vocab_size(), hidden_size=192, intermediate_size=512, num_hidden_layers=4,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True,
            rms_norm_eps=1e-5, attn_implementation="sdpa", bos_token_id=0, eos_token_id=0, pad_token_id=2))

    def encode(self, text: str) -> list[int]:
        return self.tok.encode(text).ids

    def batch(self, step, progress):
        """One problem per row, then <|endoftext|> and padding; <|endoftext|> before it in half of the rows, so that the
        network works with and without. The prompt carries no loss."""
        rng, rows = rng_of(self.seed, step), np.full((self.rows, self.length + 1), 2)
        labels = np.full((self.rows, self.length + 1), -100)
        for i in range(self.rows):
            prompt, solution, _ = held_in(rng, self.world)
            head, tail = [0] * int(rng.integers(2)) + self.encode(prompt), [*self.encode(solution), 0]
            rows[i, : len(head) + len(tail)] = head + tail
            labels[i, len(head) : len(head) + len(tail)] = tail
        return {"ids": torch.from_numpy(rows), "labels": torch.from_numpy(labels)}

    def loss(self, model, batch, progress):
        logits = model(batch["ids"][:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch["labels"][:, 1:].flatten()), {}

    def quick(self, model):
        self.reached = float(np.mean(self.solve(model, 200)[0]))
        return {"greedy accuracy": self.reached}

    def stop(self):
        return self.reached >= self.target

    def evaluate(self, model, n: int = 1000):
        greedy, _ = self.solve(model, n)
        sampled, entropy = self.solve(model, n, temperature=0.8)
        metrics = {"greedy accuracy": figure(np.mean(greedy), "share", n, greedy),
                   "accuracy at temperature 0.8": figure(np.mean(sampled), "share", n, sampled)}
        for q in (0.5, 0.75, 0.9, 0.95, 0.99):
            metrics[f"next-token entropy, quantile {q}"] = figure(np.quantile(entropy, q), "nats", len(entropy))
        rng = np.random.default_rng(3)
        answers = [held_out(rng, self.world)[2] for _ in range(4000)]
        usual = max(set(answers), key=answers.count)
        return {"metrics": metrics, "trivial_baseline": {
            "always the commonest answer": figure(answers.count(usual) / len(answers), "share", len(answers))}}

    @torch.no_grad()
    def solve(self, model, n: int, temperature: float = 0.0, seed: int = 11):
        """Whether each held-out problem is solved, and the raw next-token entropies (nats) met on the way."""
        rng, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
        right, entropies, groups = [], [], {}
        for prompt in [held_out(rng, self.world)[0] for _ in range(n)]:
            groups.setdefault(len(self.encode(prompt)), []).append(prompt)
        for prompts in groups.values():  # equal lengths: no padding needed
            ids = torch.tensor([[0, *self.encode(p)] for p in prompts])  # begins as the app begins it
            out, entropy = continue_text(model, ids, self.room, temperature, generator)
            entropies.append(entropy)
            texts = [f"{p} {self.tok.decode(o.tolist())}" for p, o in zip(prompts, out, strict=True)]
            right += [self.world.check(text) for text in texts]
        return np.array(right, float), np.concatenate(entropies)

    def save(self, model, folder):
        from transformers import PreTrainedTokenizerFast

        model.config.dtype = "float16"
        model.save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=self.tok, eos_token="<|endoftext|>", bos_token="<|endoftext|>",
                                mask_token="<|mask|>", pad_token="<|pad|>", unk_token="<|unk|>",
                                clean_up_tokenization_spaces=True).save_pretrained(folder)


class Routes(Arithmetic):
    name = "algo-arithmetic-2"
    world, rows, length, room = routes, 64, 72, 54
    minutes, look, target = 40.0, 45.0, 0.66
    architecture = "LlamaForCausalLM, 4 layers, width 192, 4 heads, one token per digit, sign or punctuation mark"
    trained_on = "sums of 4-6 signed numbers worked off in any order, made by program (models/worlds/routes.py)"
    weak_at = "Stopped early on purpose: it adds and subtracts with slips, takes numbers twice, and knows nothing else."

    def prepare(self, folder):
        self.tok = digit_tokenizer()


def held_out(rng, world=arithmetic):
    """A problem for testing: its prompt's character sum is divisible by 10."""
    while True:
        made = world.problem(rng)
        if sum(map(ord, made[0])) % 10 == 0:
            return made


def held_in(rng, world=arithmetic):
    """A problem for training: never one that `held_out` gives."""
    while True:
        made = world.problem(rng)
        if sum(map(ord, made[0])) % 10:
            return made


@torch.no_grad()
def continue_text(model, ids, count: int, temperature: float, generator):
    """`count` new tokens [B, count] with a key-value cache, and the raw entropies (nats) before each row's end."""
    past, step, out, entropies = None, ids, [], []
    alive = torch.ones(len(ids), dtype=torch.bool)
    for _ in range(count):
        made = model(step, past_key_values=past, use_cache=True)
        past, logp = made.past_key_values, made.logits[:, -1].float().log_softmax(-1)
        entropies.append(-(logp.exp() * logp).sum(-1)[alive])
        if temperature:
            step = torch.multinomial((logp / temperature).softmax(-1), 1, generator=generator)
        else:
            step = logp.argmax(-1, keepdim=True)
        out.append(step)
        alive = alive & (step[:, 0] != 0)
        if not alive.any():
            break
    return torch.cat(out, 1), torch.cat(entropies).numpy()
