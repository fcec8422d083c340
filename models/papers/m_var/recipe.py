"""scene-mvar-1 and its two controls: one code, one seed, the same batches and steps, parameters within 1 %."""
from models.loops.unmask.growth import ids_of
from models.papers.m_var.method import grow
from models.papers.m_var.network import DecoupledScales
from training.export import figure
from training.pyramids import PyramidPainter


class SceneMVAR(PyramidPainter):
    """All arms start from nothing: layers of scene-var-1 have learned VAR's attention and would favour it."""

    name = "scene-mvar-1"
    steps, lr, lr_adam, decay, ema, pack = 700, 0.02, 3e-3, 0.6, 0.99, 6
    size, more = 10, 24
    options: dict = {}
    settings = {f"at guidance {pull:g}": {"guidance": pull} for pull in (0.0, 1.5)}
    glances = ("at guidance 0",)
    architecture = ("DecoupledScales, 5 layers, width 128: attention inside each of 6 scales, a Mamba-2 scan over all "
                    "130 tokens, nine modulation vectors a block")
    trained_on = ("procedurally drawn scenes (models/worlds/scenes.py) as pyramids of scene-mvq-1, "
                  "seven in ten up to their 4 x 4 map only; a map counts with its side, not with its tokens")
    weak_at = "700 steps from nothing, one seed: far from learned out, and pictures are poor."
    budget_fraction = "700 steps of 34 pictures; the paper trains 200 to 350 epochs of ImageNet"

    def build(self):
        return DecoupledScales(self.tokenizer.codebook_size, self.tokenizer.channels, self.tokenizer.scales,
                               **self.options)

    def paint(self, model, cond, generator, guidance: float):
        return self.tokenizer.decode(ids_of(grow(model, self.tokenizer, cond, generator, guidance)))

    def evaluate(self, model, n: int = 96):
        found = super().evaluate(model, n)
        nats = sum(side**2 * found["metrics"][f"cross-entropy at {side} x {side}"]["value"] for side in model.scales)
        name = "cross-entropy of a pyramid"
        return {**found, "metrics": {**found["metrics"], name: figure(nats, "nats", n)}, "headline": name}


class SceneMVARFull(SceneMVAR):
    """The control that is VAR: attention across scales, no scan, a wider MLP instead."""

    name = "scene-mvar-full-1"
    options = {"across": True, "ssm": False, "intermediate_size": 960}
    architecture = ("DecoupledScales, 5 layers, width 128, as VAR: block-causal attention over 6 scales, no scan, MLP "
                    "of 960 instead of 512, six modulation vectors a block")


class SceneMVARIntra(SceneMVAR):
    """The control that hears nothing of coarser scales but what its input adds up to."""

    name = "scene-mvar-intra-1"
    options = {"ssm": False, "intermediate_size": 960}
    architecture = ("DecoupledScales, 5 layers, width 128: attention inside each of 6 scales and nothing between them, "
                    "MLP of 960 instead of 512, six modulation vectors a block")
