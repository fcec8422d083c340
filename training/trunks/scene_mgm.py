"""scene-mgm-1: masked generation of scenes, 16x16 codes, from a caption (MaskGIT training, arXiv 2202.04200)."""
import math

import numpy as np
import torch

from kernels import schedule
from models.backbones.pictures import from_uint8
from models.worlds import scenes
from training.export import read_shipped
from training.painted import ScenePainter, told
from training.trainer import rng_of

STEPS = (1, 2, 4, 8, 16, 32)
SETTING = {"guidance": 0.5, "noise": 2.0, "temperature": 0.8}  # the tab's defaults, best of 20 on other captions


class SceneMGM(ScenePainter):
    name = "scene-mgm-1"
    minutes, lr, lr_adam, decay, ema = 30.0, 0.02, 3e-3, 0.5, 0.999
    # until which progress: cells per side, pictures per batch, most objects. One cell teaches what each word looks
    # like for a thirteenth of the tokens; 2x2 cells teach placing; then the full size.
    stages = ((0.12, 1, 96, 1), (0.4, 2, 48, 3), (1.0, 4, 16, 4))
    settings = {f"at {steps} steps": {"steps": steps, **SETTING} for steps in STEPS}
    glances = ("at 8 steps", "at 32 steps")
    architecture = "MaskedTransformer, 6 layers, width 192, caption prefix, 2-D rotary positions"
    trained_on = "procedurally drawn scenes (models/worlds/scenes.py) as codes of scene-vq-1"
    weak_at = "Few steps: objects are started twice or mixed. Only this world's 36 objects, at most four at a time."
    budget_fraction = "CPU budget of the plan; no paper's budget applies to this world"

    def build(self):
        from models.backbones.masked import MaskedTransformer

        return MaskedTransformer(
            self.tokenizer.codebook_size, hidden_size=192, num_hidden_layers=6, num_attention_heads=4, absolute=True,
            cond_vocab_size=len(scenes.WORDS), cond_length=scenes.MAX_OBJECTS, rope_theta=100.0)

    def prepare(self, folder):
        self.tokenizer = read_shipped("scene-vq-1")
        self.blocks, self.background = self._code_table()

    @torch.no_grad()
    def _code_table(self):
        """Codes [4, 4] of each of the 36 objects, and the background's code: scenes are put together from these."""
        looks = [(c, s) for c in scenes.COLOURS for s in scenes.SHAPES]
        cells = np.stack([scenes.draw([scenes.Thing(c, s, 0)], side=1) for c, s in looks])
        codes = self.tokenizer.encode(from_uint8(cells)).numpy()
        empty = self.tokenizer.encode(from_uint8(scenes.draw([], side=1)[None])).numpy()
        return dict(zip(looks, codes, strict=True)), int(empty[0, 0, 0])

    def codes_of(self, things, side: int) -> np.ndarray:
        """The same codes as encode(draw(things)), without drawing: int64 [4 side, 4 side]."""
        grid = np.full((4 * side, 4 * side), self.background)
        for t in things:
            y, x = 4 * (t.cell // side), 4 * (t.cell % side)
            grid[y : y + 4, x : x + 4] = self.blocks[t.colour, t.shape]
        return grid

    def stage(self, progress: float):
        """Cells per side, batch size and most objects at this point of training."""
        if self.warmed:
            return self.stages[-1][1:]
        return next(rest for until, *rest in self.stages if progress < until or until == 1)

    def captioned(self, rng, progress: float) -> tuple[np.ndarray, np.ndarray]:
        """Pictures as codes [B, N] and their condition words [B, C], some of them dropped."""
        side, size, most = self.stage(progress)
        things = scenes.several(size, rng, side, most)
        return np.stack([self.codes_of(t, side).ravel() for t in things]), told(things, rng, self.dropout)

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        ids, cond = self.captioned(rng, progress)
        count = np.ceil(np.cos(math.pi / 2 * rng.random(len(ids))) * ids.shape[1])  # cosine, at least one
        order = rng.random(ids.shape).argsort(1).argsort(1)
        return {"ids": torch.from_numpy(ids), "cond": torch.from_numpy(cond),
                "masked": torch.from_numpy(order < count[:, None])}

    def loss(self, model, batch, progress):
        ids, masked = batch["ids"], batch["masked"]
        logits = model(torch.where(masked, model.mask_token_id, ids), batch["cond"])
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids.flatten(), reduction="none")
        weight = masked.flatten().float()
        return (losses * weight).sum() / weight.sum(), {}

    side = None

    @torch.no_grad()
    def after_step(self, model, step, progress):
        """When the canvas grows, new rows and columns start as copies of the trained ones."""
        side = self.stage(progress)[0]
        if self.side and side > self.side:
            old = 4 * self.side
            for table in (model.embed_rows.weight, model.embed_columns.weight):
                table[old : 4 * side] = table[:old].repeat(side // self.side, 1)[: 4 * side - old]
        self.side = side

    def quick(self, model):
        return super().quick(model) if self.side == 4 else {}

    def generate(self, model, cond, generator, **setting):
        """Codes [B, 256] for the captions."""
        return generate(model, cond, generator=generator, **setting)

    def paint(self, model, cond, generator, **setting):
        return self.tokenizer.decode(self.generate(model, cond, generator, **setting).unflatten(1, (16, 16)))


@torch.no_grad()
def generate(model, cond, steps: int, guidance: float = 1.0, noise: float = 1.0, temperature: float = 1.0,
             generator=None):
    """MaskGIT decoding: [B, 256] codes in `steps` steps of the cubic schedule, most confident first, with annealed
    Gumbel noise.

    guidance g: logits = (1 + g) conditional - g unconditional; 0 needs no second pass.
    """
    ids, left = torch.full((len(cond), 256), model.mask_token_id), 256
    for step, count in enumerate(schedule(256, steps, "cubic")):
        left -= count  # still masked after this step
        hidden = ids == model.mask_token_id
        with torch.autocast(cond.device.type, dtype=torch.bfloat16):
            logits = model(ids, cond).float()
            if guidance:
                logits = (1 + guidance) * logits - guidance * model(ids, None).float()
        logp = logits.log_softmax(-1)
        p = (logp / temperature).softmax(-1).flatten(0, 1)
        drawn = torch.multinomial(p, 1, generator=generator).reshape(ids.shape)
        u = torch.rand(ids.shape, generator=generator).clamp(1e-9, 1 - 1e-7)
        gumbel = -torch.log(-torch.log(u))
        confidence = logp.gather(-1, drawn[..., None])[..., 0] + noise * (1 - (step + 1) / steps) * gumbel
        rank = confidence.masked_fill(~hidden, math.inf).argsort(1).argsort(1)
        ids = torch.where(hidden & (rank >= left), drawn, ids)
    return ids
