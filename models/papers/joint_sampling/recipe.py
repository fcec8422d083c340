"""text-joint-2: ADJUST's layer on the frozen text-mdm-2, taught by the trunk's own sampling (arXiv 2509.22738)."""
import numpy as np
import torch

from models.papers.joint_sampling.network import JointSampler, exact_round, lesson
from training import text
from training.export import mean_figure
from training.kinds import Beside
from training.trainer import rng_of
from training.trunks.text_ar import BOOKS, BOOKS_LICENCE

LENGTH, BATCH, ROUND, MOST = 80, 12, 8, 32
ORDERS = ("random", "peak")  # both kinds of trajectory, in turns
FORBIDDEN = (0, 1, 2)  # <|endoftext|> <|mask|> <|pad|>


class TextJoint(Beside):
    name, trunk, network, replaces = "text-joint-2", "text-mdm-2", JointSampler, "text-joint-1"
    minutes, lr, lr_adam, decay, ema = 25.0, 0.01, 1e-2, 0.7, 0.99
    architecture = "JointSampler: one Llama layer without a causal mask on the states of its trunk (not included)"
    trained_on = f"prompts from {BOOKS}; every other token and every target is drawn or computed by its trunk"
    data_licence = BOOKS_LICENCE
    weak_at = "Fits one trunk only (its revision is in config.json), rounds of up to 8 tokens, texts of some 80 tokens."
    budget_fraction = ("43 minutes of one thread, the last 18 at a quarter of its rates, against the 5,000-10,000 "
                       "steps of the plan")
    pool = None  # texts [B, N] that the trunk is filling in

    def prepare(self, folder):
        super().prepare(folder)
        _, self.train, self.val = text.cached(folder, 4096)

    def fresh(self, rng, tokens) -> np.ndarray:
        """One text [N] whose middle or end is masked: a multiple of ROUND tokens, all for the trunk to fill in."""
        start = int(rng.integers(len(tokens) - LENGTH))
        ids, unknown = tokens[start : start + LENGTH].astype(np.int64), ROUND * int(rng.integers(1, 9))
        first = int(rng.integers(8, LENGTH - unknown + 1))
        ids[first : first + unknown] = self.base.mask_token_id
        return ids

    def refilled(self, step: int) -> torch.Tensor:
        """The pool [B, N]; texts that are full give way to new ones."""
        rng, mask = rng_of(self.seed, step), self.base.mask_token_id
        if self.pool is None:
            self.pool = torch.zeros(BATCH, LENGTH, dtype=torch.long)
        for row in (~(self.pool == mask).any(1)).nonzero()[:, 0].tolist():
            self.pool[row] = torch.from_numpy(self.fresh(rng, self.train))
        return self.pool

    def batch(self, step, progress):
        """One exact round of every text of the pool; what it ends on is where the pool goes on."""
        device = next(self.base.parameters()).device
        generator = torch.Generator().manual_seed(int(rng_of(self.seed, step).integers(2**40)))
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.autocast):
            found = exact_round(self.base, self.refilled(step).to(device), ROUND, ORDERS[step % len(ORDERS)],
                                generator, FORBIDDEN, MOST)
        self.pool = found.end.cpu()
        return found.lessons()

    def loss(self, model, batch, progress):
        """KL of every text from its teacher, the mean over its masked positions, then over texts."""
        return self.each(model, batch).mean(), {}

    def each(self, model, batch) -> torch.Tensor:
        """KL [texts], the mean over the masked positions of each."""
        return lesson(self.base, model, **batch, forbidden=FORBIDDEN).sum(1) / batch["counts"].sum(1)

    def state(self):
        return {"pool": self.pool}

    def load_state(self, state):
        self.pool = state["pool"]

    def quick(self, model):
        layer, stale = self.divergences(model, 1)
        return {"KL": round(float(layer.mean()), 4), "KL unchanged": round(float(stale.mean()), 4)}

    @torch.no_grad()
    def divergences(self, model, batches: int) -> tuple[np.ndarray, np.ndarray]:
        """KL from the trunk [texts], held-out prompts, random order: of the layer, and of the unchanged marginals."""
        device = next(model.parameters()).device
        self.place(device)  # an export measures on the CPU what was trained elsewhere
        untaught, found = JointSampler.beside(self.base).to(device).eval(), ([], [])
        for number in range(batches):
            rng, generator = rng_of(97, number), torch.Generator().manual_seed(number)
            ids = torch.from_numpy(np.stack([self.fresh(rng, self.val) for _ in range(BATCH)]))
            seen = exact_round(self.base, ids.to(device), ROUND, "random", generator, FORBIDDEN, MOST)
            for net, values in zip((model, untaught), found):
                values.append(self.each(net, seen.lessons()).reshape(ROUND - 1, BATCH).mean(0))
        return tuple(torch.cat(values).float().cpu().numpy() for values in found)

    def evaluate(self, model):
        layer, stale = self.divergences(model, 16)
        unit = "nats per masked position, 1 to 7 tokens into a round"
        return {"metrics": {"KL from the trunk on the new text": mean_figure(layer, unit)},
                "trivial_baseline": {"KL of unchanged marginals": mean_figure(stale, unit)}}
