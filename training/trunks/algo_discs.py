"""algo-discs-1: a small network that is told the facts of a board, tells them on and answers for every field."""
from models.worlds import discs
from training.language import Shape, WorldLM


class Discs(WorldLM):
    name = "algo-discs-1"
    world, shape, rows, length, places = discs.WORLD, Shape(96, 4, 4, 4, 256), 64, 44, 128
    minutes, lr, lr_adam, decay, look, pack = 7.0, 0.02, 3e-3, 0.5, 30.0, 6
    room, target = 13, 0.995
    compile = autocast = False  # both cost more than they save at this width
    architecture = "LlamaForCausalLM, 4 layers, width 96, 4 heads, one token per word"
    trained_on = "boards of twelve discs told in facts of two words, made by program (models/worlds/discs.py)"
    weak_at = "Knows 12 places and 4 colours, tells on at most six facts, and in the order in which it heard them."
    budget_fraction = "7 minutes of one core; the spec asks for a million weights on a GPU"

    def batch(self, step, progress):
        """Few facts at first: among three, who is asked for is soon found, and short texts are cheap."""
        early = progress < 0.5
        self.world, self.length = (discs.FIRST_WORLD, 16) if early else (discs.WORLD, Discs.length)
        found = super().batch(step, progress)
        self.world = discs.WORLD
        return found
