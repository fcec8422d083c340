"""scene-var-1: next-scale prediction on scenes as pyramids of token maps (VAR, arXiv 2404.02905)."""
from models.loops.unmask.growth import ids_of
from models.papers.var.method import grow
from models.papers.var.network import ScaleTransformer
from training.export import read_shipped
from training.pyramids import PyramidPainter

TRUNK = "scene-mgm-1"


class SceneVAR(PyramidPainter):
    name = "scene-var-1"
    minutes, lr, lr_adam, decay, ema = 20.0, 0.01, 3e-3, 0.7, 0.998
    settings = {f"at guidance {pull:g}": {"guidance": pull} for pull in (0.0, 0.75, 1.5, 3.0)}
    glances = ("at guidance 0", "at guidance 1.5")
    architecture = ("ScaleTransformer, 6 layers, width 192, caption prefix, 130 tokens of 6 scales, block-causal; "
                    "starts from scene-mgm-1")
    trained_on = ("procedurally drawn scenes (models/worlds/scenes.py) as pyramids of scene-mvq-1, "
                  "five in six up to their 4 x 4 map only; a map counts with its side, not with its tokens")
    weak_at = ("Undertrained: 97 nats of cross-entropy a picture, 71 of them in its last two maps. Objects are lost or "
               "doubled.")

    def build(self):
        return ScaleTransformer.beside(read_shipped(TRUNK), self.tokenizer)

    def paint(self, model, cond, generator, guidance: float):
        return self.tokenizer.decode(ids_of(grow(model, self.tokenizer, cond, generator, guidance)))

    def evaluate(self, model, n: int = 96):
        return {**super().evaluate(model, n), "headline": "score at guidance 0.75"}
