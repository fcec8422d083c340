"""scene-ar-1: scenes code by code in raster order from a caption, clean or with light; 16x16 codes of scene-vq-2."""
import numpy as np
import torch

from models.backbones.pictures import from_uint8
from models.worlds import light, scenes
from training.export import figure, read_shipped
from training.painted import ScenePainter
from training.trainer import rng_of
from training.trunks.scene_light import ground

TRUNK, LIGHT = "scene-mgm-1", len(scenes.WORDS)  # LIGHT: the condition word after the 36 objects


class SceneAR(ScenePainter):
    name = "scene-ar-1"
    minutes, lr, lr_adam, decay, ema = 9.0, 0.01, 3e-3, 0.7, 0.998
    lit = 0.5  # share of pictures with light
    settings = {"of clean scenes": {"lit": False}, "of lit scenes": {"lit": True}}
    glances = tuple(settings)
    stages = ((0.3, 2, 48, 3), (1.0, 4, 16, 4))  # as in scene_mgm, which these layers have been through once
    architecture = "CausalTransformer, 6 layers, width 192, caption prefix, 2-D rotary positions"
    trained_on = "procedurally drawn scenes, half of them lit (models/worlds), as codes of scene-vq-2"
    weak_at = "Draws from the top left on and cannot plan. Only this world's 36 objects, at most four at a time."

    def prepare(self, folder):
        self.tokenizer, self.world = read_shipped("scene-vq-2"), CodeWorld(read_shipped("scene-vq-2"))

    def build(self):
        """A causal network that starts from the layers, words and places of the masked one."""
        from models.backbones.causal import CausalTransformer

        made, old = CausalTransformer(
            self.tokenizer.codebook_size, hidden_size=192, num_hidden_layers=6, num_attention_heads=4, absolute=True,
            cond_vocab_size=LIGHT + 1, cond_length=scenes.MAX_OBJECTS + 1, rope_theta=100.0), read_shipped(TRUNK)
        shapes = {k: v.shape for k, v in made.state_dict().items()}
        made.load_state_dict({k: v for k, v in old.state_dict().items() if shapes.get(k) == v.shape}, strict=False)
        with torch.no_grad():
            made.embed_cond.weight[:LIGHT] = old.embed_cond.weight
            made.embed_slots.weight[:-1] = old.embed_slots.weight
            made.embed_tokens.weight.copy_(self.translated(old))
        return made

    @torch.no_grad()
    def translated(self, old) -> torch.Tensor:
        """Embeddings [V + 1, D] of the new codes: the old code's that paints the same patch, plus the difference of
        the patches along random directions, so that alike codes start alike."""
        before, patches = read_shipped("scene-vq-1"), self.tokenizer.entries
        codes = before.encode(self.tokenizer.decode(torch.arange(len(patches))[:, None, None])).flatten()
        seen = before.decode(codes[:, None, None]).permute(0, 2, 3, 1).flatten(1)
        directions = torch.randn(48, 192, generator=torch.Generator().manual_seed(0)) / 48**0.5
        table = old.embed_tokens.weight
        return torch.cat([table[codes] + 2 * table.std() * (patches - seen) @ directions * 48**0.5, table[-1:]])

    def batch(self, step, progress):
        side, size, most = next(rest for until, *rest in self.stages if progress < until or until == 1)
        return self.world.batch(rng_of(self.seed, step), size, self.dropout, self.lit, side, most)

    def loss(self, model, batch, progress):
        """Cross-entropy of every code, nats; the log also says how much of it is the light's."""
        logits = model(batch["ids"], batch["cond"])
        losses = torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), batch["ids"].flatten(),
                                                   reduction="none").reshape(batch["ids"].shape).mean(1)
        lit = batch["lit"].float()
        clean = (losses * (1 - lit)).sum() / (1 - lit).sum().clamp_min(1)
        return losses.mean(), {"clean": clean.detach()}

    def paint(self, model, cond, generator, lit: bool = False):
        """At temperature 1."""
        words = torch.nn.functional.pad(cond, (0, 1), value=LIGHT if lit else 0)
        return self.tokenizer.decode(draw(model, words, generator).unflatten(1, (16, 16)))

    def rebuilt(self, wanted):
        rng = np.random.default_rng(5)
        return self.tokenizer.decode(torch.from_numpy(np.stack([self.world.codes(rng, a, True) for a in wanted])))

    @torch.no_grad()
    def evaluate(self, model, n: int = 96):
        found = super().evaluate(model, n)
        for name, lit in (("clean", 0.0), ("lit", 1.0)):
            batch = self.world.batch(np.random.default_rng(77), 64, 0, lit)
            nats = self.loss(model, batch, 1)[0]
            found["metrics"][f"cross-entropy, {name}"] = figure(nats, "nats per code", 64 * 256)
        return found


class CodeWorld:
    """Scenes put together as codes of scene-vq-2, without drawing them."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer.requires_grad_(False)
        looks = [(c, s) for c in scenes.COLOURS for s in scenes.SHAPES]
        cells = np.stack([scenes.draw([scenes.Thing(c, s, 0)], side=1) for c, s in looks])
        self.blocks = dict(zip(looks, tokenizer.encode(from_uint8(cells)).numpy(), strict=True))
        self.dark = int(tokenizer.nearest(torch.from_numpy(ground())[None]))

    def codes(self, rng, things, lit: bool, side: int = scenes.SIDE) -> np.ndarray:
        """Codes int64 [4 side, 4 side] of one scene; with light on the ground if lit."""
        grid = self.glow(rng, 4 * side) if lit else np.full((4 * side, 4 * side), self.dark)
        for t in things:
            y, x = 4 * (t.cell // side), 4 * (t.cell % side)
            block = self.blocks[t.colour, t.shape]
            grid[y : y + 4, x : x + 4] = np.where(block == self.dark, grid[y : y + 4, x : x + 4], block)
        return grid

    def glow(self, rng, side: int) -> np.ndarray:
        """Codes [side, side] of lit ground."""
        shade = light.patches(rng, 1, side)[0]
        return self.tokenizer.nearest(torch.from_numpy(ground() + np.repeat(shade, 3, axis=-1))).numpy()

    def batch(self, rng, size: int, dropout: float, share: float, side: int = scenes.SIDE,
              most: int = scenes.MAX_OBJECTS) -> dict:
        """ids [B, 16 side**2], cond [B, 5] with the words in any order, and which pictures are lit."""
        lit, things = rng.random(size) < share, scenes.several(size, rng, side, most)
        ids = np.stack([self.codes(rng, t, on, side).ravel() for t, on in zip(things, lit, strict=True)])
        cond = np.stack([condition(scenes.caption(t), on) for t, on in zip(things, lit, strict=True)])
        cond[:, :-1] = rng.permuted(cond[:, :-1], axis=1)
        cond[rng.random(size) < dropout] = 0
        return {"ids": torch.from_numpy(ids), "cond": torch.from_numpy(cond), "lit": torch.from_numpy(lit)}


def condition(caption: str, lit: bool) -> np.ndarray:
    """Condition words int64 [5]: the caption's objects, and LIGHT or nothing."""
    return np.append(scenes.condition(caption), LIGHT if lit else 0)


def draw(model, cond, generator=None, temperature: float = 1.0):
    """Ancestral sampling with a key-value cache: codes [B, 256]."""
    from kernels import Sampler
    from models.loops.unmask.growth import Raster, grow, ids_of

    return ids_of(grow(Raster(model, cond), len(cond), generator, Sampler(temperature)))
