"""What learns to tell boards of discs: channels between two frozen copies of algo-discs-1, and three networks that are
trained for theirs from end to end: words, as many bits, vectors. All see the same boards in the same order, in messages
of the same lengths; in one step of three the second receiver counts as well, because what was told is to be told on."""
from __future__ import annotations

import numpy as np
import torch
from torch.nn.functional import cross_entropy, one_hot, pad

from models.papers.agent_language.network import FLOAT, StateChannel, VectorLlama
from models.papers.agent_language.telling import SAID, Channel, words
from models.worlds import discs
from training.export import mean_figure, read_shipped
from training.kinds import Beside, FineTune
from training.trainer import rng_of
from training.trunks.algo_discs import Discs

BASE, LENGTHS = "algo-discs-1", (2, 4, 6)  # slots of a message, drawn for each step


class Telling(Discs):
    """What an arm adds: `line`, its channel as it learns and as it is used."""

    minutes, lr, lr_adam, warmup, decay, look = 4.0, 0.002, 5e-4, 0.03, 0.5, 30.0
    rows, target = 32, 2.0  # boards of a step; the whole budget is used
    trained_on = "boards of twelve discs, made by program (models/worlds/discs.py), told over one and two hops"
    budget_fraction = "a few minutes of one core, 32 boards a step, one training; the spec asks for three on a GPU"

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        boards = torch.tensor([discs.board(rng) for _ in range(self.rows)])
        lengths = torch.tensor([LENGTHS[int(rng.integers(len(LENGTHS)))], 1 + (step % 3 == 0)])
        return {"boards": boards, "lengths": lengths}  # of messages and of the chain

    def loss(self, model, batch, progress):
        heard = self.line(model, learning=True).chain(batch["boards"], *batch["lengths"].tolist())
        return sum(cross_entropy(one.colours.flatten(0, 1).float(), batch["boards"].flatten()) for one in heard) / len(
            heard), {}

    @torch.no_grad()
    def measured(self, line: Channel, n: int, slots: int = 4) -> np.ndarray:
        some = discs.boards(61, n)
        return discs.known(line.chain(some, slots, 1)[0].chances, some).sum(1)

    def quick(self, model):
        return {f"{k} slots": round(float(self.measured(self.line(model), 60, k).mean()), 2) for k in LENGTHS}

    def evaluate(self, model):
        own, usual = (mean_figure(self.measured(line, 500), "bits of 24")
                      for line in (self.line(model), words(read_shipped(BASE))))
        return {"metrics": {"known of a board from 4 slots": own},
                "trivial_baseline": {f"known from 4 words of {BASE}": usual}}


class TrainedWords(FineTune, Telling):
    name, trunk = "algo-discs-words-1", BASE
    architecture = "LlamaForCausalLM as algo-discs-1, trained on for its messages of words"

    def line(self, model, learning=False):
        table = model.get_input_embeddings().weight
        return Channel(model, lambda state, logits: straight_through(logits) @ table[SAID], trained=True
                       ) if learning else words(model, trained=True)


class TrainedBits(FineTune, Telling):
    name, trunk, bits = "algo-discs-bits-1", BASE, 4  # as many bits a slot as a word has
    architecture = "VectorLlama: algo-discs-1 and a codebook of 16 vectors, trained on together"

    def build(self):
        model = VectorLlama.on(super().build(), self.bits)
        begin(model.channel, model)
        return model

    def line(self, model, learning=False):
        return Channel(model, lambda state, logits: model.channel(state, learning and straight_through), trained=True)


class TrainedVectors(TrainedBits):
    name, bits = "algo-discs-vectors-1", FLOAT
    architecture = "VectorLlama: algo-discs-1 and a linear channel, trained on together"


class FrozenBits(Beside, Telling):
    name, trunk, bits = "algo-discs-bits-frozen-1", BASE, 4
    minutes, lr, lr_adam, pack = 1.0, 0.0, 1e-4, 0
    architecture = "StateChannel: a codebook of 16 vectors (algo-discs-1 not included)"

    def build(self):
        made = StateChannel(self.base.config.hidden_size, self.bits, self.trunk, self.revision)
        begin(made, self.base)
        return made

    def line(self, model, learning=False):
        return Channel(self.base, lambda state, logits: model(state, learning and straight_through))


class FrozenVectors(FrozenBits):
    name, bits = "algo-discs-vectors-frozen-1", FLOAT
    architecture = "StateChannel: a linear map of whole vectors (algo-discs-1 not included)"


def straight_through(scores: torch.Tensor) -> torch.Tensor:
    """The best one, one hot; it learns as if it had been the mean of all by their probabilities, at temperature 2."""
    soft = (scores / 2).softmax(-1)
    return one_hot(scores.argmax(-1), scores.shape[-1]) + soft - soft.detach()


@torch.no_grad()
def begin(channel: StateChannel, network) -> None:
    """As words: a codebook has those of messages, whole vectors are told by the linear map that is nearest to them."""
    table, line = network.get_input_embeddings().weight[SAID], Channel(network, lambda state, logits: state)
    states, said = line.speak(line.told([discs.board(np.random.default_rng(i)) for i in range(200)]), max(LENGTHS))
    found = torch.linalg.lstsq(pad(states, (0, 1), value=1.0).flatten(0, 1), table[said.argmax(-1)].flatten(0, 1),
                               driver="gelsd").solution
    channel.into.weight.copy_(table if channel.bits else found[:-1].T)
    channel.into.bias.copy_(torch.zeros(len(table)) if channel.bits else found[-1])
    if channel.bits:
        channel.out.weight.copy_(table.T)
