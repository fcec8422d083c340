"""scene-vlm-1: a patch encoder and a causal language model that answer questions about procedurally drawn scenes.

Every picture pays off several times: its questions stand behind it in one sequence, and a mask keeps them apart, each
at the places it has when it is asked alone. Three heads tutor and are thrown away: the encoder names the thing in each
patch, the projector keeps the patch's place, and halfway up the language model says in which cell the two things of a
left-or-right question stand. Without the last two nothing asks where a thing is but a comparison of two of them: after
1,879 steps places were lost before the language model (a probe found 26 % of the columns, 12.5 % being chance). With
them left or right was learned as soon as both cells were known: after 350 further steps 0.96, after 700 all.
"""
from collections import Counter, defaultdict

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from models.backbones.layout import blocks, reals
from models.worlds import questions, scenes
from models.worlds.world import SPECIALS, word_tokenizer
from training.export import figure, save_hub
from training.trainer import Recipe, rng_of

ASKED = ("colour", "shape", "count", "count", "side", "side", "side", "small")
ROOM = {"colour": 6, "shape": 7, "count": 5, "side": 12, "small": 7}  # words of the longest question of a kind
NAMED = (3, 10)  # words of a left-or-right question with which its two things are fully named
HALFWAY = 5  # layers of the language model after which their cells should be known
HELD_OUT = 70_000  # seed of scenes that training never draws
LOOKS = {"": 0, **{f"{size}{colour} {shape}": 1 + i for i, (size, colour, shape) in enumerate(
    (size, colour, shape) for size in ("", "small ") for colour in scenes.COLOURS for shape in scenes.SHAPES)}}


IDS = {word: i for i, word in enumerate((*SPECIALS, *questions.WORDS))}


def one_layer(block: nn.Module, hidden, angles, mask):
    """Hidden states [B, N, D] after one block."""
    return block(hidden, position_embeddings=angles, attention_mask=mask)


class Tutored(nn.Module):
    """The network, and the heads that only teach: what is in each patch, where it is, and where a thing stands."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.patch_head = nn.Linear(net.encoder.config.hidden_size, len(LOOKS))
        self.place_head = nn.Linear(net.config.hidden_size, net.count)
        self.cell_head = nn.Linear(net.config.hidden_size, scenes.SIDE**2)


class SceneVLMRecipe(Recipe):
    name = "scene-vlm-1"
    minutes, lr, lr_adam, decay, ema = 24.0, 0.02, 3e-3, 0.6, 0.0
    size, lit = 32, 0.5  # pictures of a batch, share of lit ones
    first_steps, few = 0.12, 2  # share of the budget with at most so many things in a scene
    compile = False  # not the loss as a whole, which takes minutes: one layer, in `place`
    tutor = 0.5  # weight of naming the patches, falling to 0 at half of the budget
    guide = 0.5  # weight of places and cells, falling to 0 at the end
    warm_lr = 0.5
    architecture = ("SceneVLM: 4 bidirectional layers of width 128 over 8 x 8 patches of 8 x 8 pixels, projector, "
                    "LlamaForCausalLM of 8 layers, width 128, 4 heads; one token per word")
    trained_on = "procedurally drawn scenes, half of them lit, with several questions each (models/worlds/questions.py)"
    data_licence = "none: made by program"
    weak_at = "Counting: one answer in thirty is wrong. It knows one world of 36 looks and five kinds of questions."
    budget_fraction = "1 of the plan's minutes; no paper's budget applies to this world"

    def place(self, device):
        if device.type == "cpu":  # the fused kernel's backward pass with a mask takes as long as all the rest
            torch.backends.cuda.enable_flash_sdp(False)
        self.layer = torch.compile(one_layer, dynamic=False)  # once for all layers of one shape

    def build(self):
        from models.backbones.vlm import SceneVLM as Network

        return Tutored(Network(len(IDS)))

    def batch(self, step, progress):
        rng = rng_of(self.seed, step)
        most = self.few if progress < self.first_steps else questions.MOST
        weights = [self.tutor * max(0.0, 1 - 2 * progress), self.guide * (1 - progress)]
        return {**tensors(questions.cases(rng, self.size, kinds=(), lit=self.lit, most=most), rng),
                "weights": torch.tensor(weights)}

    layer = staticmethod(one_layer)

    def through(self, blocks, hidden, angles, mask=None):
        """Hidden states [B, N, D] after all blocks."""
        for block in blocks:
            hidden = self.layer(block, hidden, angles, mask)
        return hidden

    def loss(self, model, batch, progress):
        net = model.net
        seen = net.encoder.norm(self.through(net.encoder.layers, *net.patches(batch["pixels"])))
        visual = net.visual(seen)
        hidden = torch.cat([visual, net.lm.model.embed_tokens(batch["ids"])], 1)
        turned = net.lm.model.rotary_emb(hidden, PLACES)
        halfway = self.through(net.lm.model.layers[:HALFWAY], hidden, turned, VISIBLE)
        last = self.through(net.lm.model.layers[HALFWAY:], halfway, turned, VISIBLE)[:, net.count :]
        last = last.gather(1, batch["ends"][..., None].expand(-1, -1, last.shape[-1]))  # [B, Q, D]
        asked = entropy(net.head(last), batch["answers"])
        named = entropy(model.patch_head(seen), batch["looks"])
        own = torch.arange(net.count, device=visual.device).expand(len(visual), -1)
        placed = entropy(model.place_head(visual), own)
        found = entropy(model.cell_head(net.lm.model.norm(halfway[:, net.count + PLACED])), batch["cells"])
        loss = asked + batch["weights"][0] * named + batch["weights"][1] * (placed + found)
        parts = {"asked": asked, "named": named, "placed": placed, "found": found}
        return loss, {name: part.detach() for name, part in parts.items()}

    def quick(self, model):
        hits = hits_of(model.net, held_out(400, seed=5))
        return {kind: round(float(np.mean(found)), 3) for kind, found in hits.items()}

    def warm(self, model):
        model.net.load_state_dict(self.shipped().state_dict())
        self.warmed, self.tutor, self.first_steps = True, 0.0, 0.25
        self.lr, self.lr_adam = self.lr * self.warm_lr, self.lr_adam * self.warm_lr

    def final(self, model):
        return model.net

    @torch.no_grad()
    def evaluate(self, model, n: int = 2000):
        """Exact answers per kind on held-out scenes, beside the best answer that the question alone allows."""
        hits, blind = hits_of(model, found := held_out(n)), blind_hits(found)
        shares = lambda found: {f"exact answers, {kind}": figure(np.mean(hit), "share", len(hit), hit)  # noqa: E731
                                for kind, hit in found.items()}
        return {"metrics": shares({"all": np.concatenate(list(hits.values())), **hits}),
                "trivial_baseline": shares({"all": np.concatenate(list(blind.values())), **blind})}

    def save(self, model, folder):
        from training.text import wrap

        save_hub(model, folder)
        wrap(word_tokenizer(questions.WORDS, "spaces")).save_pretrained(folder)


def tensors(found: list[questions.Case], rng) -> dict:
    """A training batch: pixels [B, 3, 64, 64], words [B, T], where each of Q questions ends and its answer [B, Q]
    (-100: could not be asked), what is in each patch [B, L], and the cells [B, 2 S] of the things of S questions
    about sides."""
    from models.backbones.vlm import normalise

    ids = np.full((len(found), sum(ROOM[kind] for kind in ASKED)), IDS[SPECIALS[2]])
    ends, answers = np.zeros((len(found), len(ASKED)), np.int64), np.full((len(found), len(ASKED)), -100)
    for row, case in enumerate(found):
        for slot, (kind, start) in enumerate(zip(ASKED, STARTS, strict=True)):
            if question := questions.ask(rng, case.items, kind):
                words = [IDS[word] for word in question.text.split()]
                ids[row, start : start + len(words)] = words
                ends[row, slot], answers[row, slot] = start + len(words) - 1, IDS[question.answer]
    cells = np.stack([named_cells(case.items, words) for case, words in zip(found, ids, strict=True)])
    looks = np.stack([patch_looks(case.items) for case in found])
    made = {"ids": ids, "ends": ends, "answers": answers, "cells": cells, "looks": looks}
    pixels = normalise(torch.from_numpy(np.stack([case.picture for case in found])))
    return {"pixels": pixels, **{name: torch.from_numpy(value) for name, value in made.items()}}


def named_cells(items, words: np.ndarray) -> np.ndarray:
    """Int64 [2 S]: the cell of the thing named by the words at PLACED and before; -100 where nothing was asked."""
    cells = {(IDS[item.colour], IDS[item.shape]): item.cell for item in items}
    return np.array([cells.get((int(words[at - 1]), int(words[at])), -100) for at in PLACED.tolist()])


def entropy(logits, truth):
    """Mean cross-entropy in nats of logits [..., C] where truth [...] is not -100."""
    return cross_entropy(logits.flatten(0, 1).float(), truth.flatten(), ignore_index=-100)


def patch_looks(items, patch: int = 8) -> np.ndarray:
    """What stands in each patch, int64 [L]: 0 nothing, else a number of LOOKS."""
    side = scenes.CELL * scenes.SIDE // patch
    looks = np.zeros((side, side), np.int64)
    for item in items:
        top, left, width = (value // patch for value in questions.box(item))
        looks[top : top + width, left : left + width] = LOOKS["small " * item.small + item.look]
    return looks.ravel()


STARTS = np.cumsum([0, *(ROOM[kind] for kind in ASKED[:-1])]).tolist()  # where each question begins
PACKED = reals(0, 64) + blocks([63] * len(ASKED), [ROOM[kind] for kind in ASKED])  # the picture, then each kind
PLACES, VISIBLE = PACKED.position[None], PACKED.visible()[None, None]  # [1, N] and [1, 1, N, N]
PLACED = torch.tensor([start + at for kind, start in zip(ASKED, STARTS, strict=True) if kind == "side" for at in NAMED])


def held_out(count: int, seed: int = HELD_OUT) -> list[questions.Case]:
    """Scenes that no step of a training sees, with one question of each kind that can be asked."""
    return questions.cases(np.random.default_rng(seed), count)


@torch.no_grad()
def hits_of(net, found: list[questions.Case], size: int = 250) -> dict[str, np.ndarray]:
    """kind -> 1.0 where the word after the question is the answer; questions of one length go together."""
    from models.backbones.vlm import normalise

    alike, hits = defaultdict(list), defaultdict(list)
    for case in found:
        for question in case.questions:
            alike[len(question.text.split())].append((case.picture, question))
    for group in alike.values():
        for at in range(0, len(group), size):
            drawn, asked = zip(*group[at : at + size], strict=True)
            ids = torch.tensor([[IDS[word] for word in q.text.split()] for q in asked])
            said = net(normalise(torch.from_numpy(np.stack(drawn))), ids).argmax(1).tolist()
            for question, word in zip(asked, said, strict=True):
                hits[question.kind].append(float(word == IDS[question.answer]))
    return {kind: np.array(hits[kind]) for kind in questions.KINDS if kind in hits}


def blind_hits(found: list[questions.Case], seen: int = 20_000) -> dict[str, np.ndarray]:
    """kind -> 1.0 where the usual answer to this very question in other scenes is right: what can be known without
    the picture."""
    rng, usual = np.random.default_rng(9), defaultdict(Counter)
    for items in (questions.sample(rng) for _ in range(seen)):
        for question in filter(None, (questions.ask(rng, items, kind) for kind in questions.KINDS)):
            usual[question.text][question.answer] += 1
            usual[question.kind][question.answer] += 1
    hits = defaultdict(list)
    for question in (question for case in found for question in case.questions):
        known = usual[question.text] or usual[question.kind]
        hits[question.kind].append(float(known.most_common(1)[0][0] == question.answer))
    return {kind: np.array(hits[kind]) for kind in questions.KINDS if kind in hits}
