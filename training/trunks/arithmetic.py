"""algo-arithmetic-1 and -2: worked sums with checkable answers, stopped while they still make mistakes."""
import numpy as np

from models.worlds import arithmetic, routes
from training.export import figure
from training.language import WorldLM


class Arithmetic(WorldLM):
    name = "algo-arithmetic-1"
    world, rows = arithmetic.WORLD, 128
    minutes, lr, lr_adam, decay, ema = 8.0, 0.02, 3e-3, 0.6, 0.0
    look = 8.0
    target = 0.62  # cntp needs mistakes to repair
    architecture = "LlamaForCausalLM, 4 layers, width 192, 4 heads, one token per word, number or punctuation mark"
    trained_on = "worded chains of 3-5 operations on 0-99, made by program (models/worlds/arithmetic.py)"
    weak_at = "Stopped early on purpose: it adds, subtracts and multiplies with slips, and knows nothing else."
    budget_fraction = "stopped by accuracy, not by budget (cntp asks for 10,000 steps)"

    def evaluate(self, model):
        found = super().evaluate(model)
        sampled, entropy = self.solve(model, self.asked, temperature=0.8)
        found["metrics"]["accuracy at temperature 0.8"] = figure(np.mean(sampled), "share", self.asked, sampled)
        for q in (0.5, 0.75, 0.9, 0.95, 0.99):
            name = f"next-token entropy, quantile {q}"
            found["metrics"][name] = figure(np.quantile(entropy, q), "nats", len(entropy))
        return found


class Routes(Arithmetic):
    name = "algo-arithmetic-2"
    world, rows, length, room = routes.WORLD, 64, 72, 54
    minutes, look, target = 40.0, 45.0, 0.66
    architecture = "LlamaForCausalLM, 4 layers, width 192, 4 heads, one token per digit, sign or punctuation mark"
    trained_on = "sums of 4-6 signed numbers worked off in any order, made by program (models/worlds/routes.py)"
    weak_at = "Stopped early on purpose: it adds and subtracts with slips, takes numbers twice, and knows nothing else."
