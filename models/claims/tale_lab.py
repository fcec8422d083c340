"""Judging networks of the tales (models/worlds/tales): clozes, held-out texts, and whether what they write is right.

Any causal LM with the vocabulary of the tales; a text begins behind <|endoftext|>, as in training. Letters: K items, V
words.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from models.backbones.around import around
from models.backbones.one_token import next_logits
from models.backbones.story_classifier import labels_of
from models.claims.probe import ridge
from models.loops.unmask.blocks import Choose, Guide, by_blocks, by_size, texts
from models.loops.unmask.steering import agreement, orders
from models.worlds import tales
from models.worlds.tales.forms import Cloze
from models.worlds.tales.headings import ABOUT, LENGTH, MOODS, heading
from models.worlds.world import END, MASK, PAD, exam

AT_ONCE = 32  # texts


@torch.no_grad()
def next_words(model, tokenizer, asked: Sequence[Cloze]) -> Tensor:
    """Logits [K, V] of the word behind each prompt."""
    return torch.stack([found[-1] for found in read(model, [[END, *encoded(tokenizer, one.prompt)] for one in asked])])


def right(tokenizer, logits: Tensor, asked: Sequence[Cloze]) -> np.ndarray:
    """Whether the likeliest word is right [K]."""
    words = logits.argmax(-1).tolist()
    return np.array([word in wanted(tokenizer, one) for word, one in zip(words, asked, strict=True)], float)


def wanted(tokenizer, one: Cloze) -> list[int]:
    return [encoded(tokenizer, word)[0] for word in one.right]


@torch.no_grad()
def nats(model, tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Nats per word of each text [K], its end included."""
    rows = [[END, *encoded(tokenizer, text), END] for text in texts]
    losses = [torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(ids[1:], device=logits.device))
              for logits, ids in zip(read(model, rows), rows, strict=True)]
    return torch.stack(losses).cpu().numpy().astype(float)


def word_nats(model, prompts: Sequence[Sequence[int]], made: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """What each word of each text costs a causal network behind its prompt; both are ids."""
    logits = read(model, [[*prompt, *ids] for prompt, ids in zip(prompts, made, strict=True)])
    return [torch.nn.functional.cross_entropy(rows[len(prompt) - 1 : -1], torch.tensor(ids, device=rows.device),
                                              reduction="none").cpu().numpy()
            for prompt, ids, rows in zip(prompts, made, logits, strict=True)]


class Stories(NamedTuple):
    """Short stories without their headings: ids with their end, words, and passes per word [K]."""

    ids: list[list[int]]
    words: list[str]
    passes: np.ndarray


def in_blocks(model, tokenizer, headings: Sequence[str], choose: Choose, seed: int, guide: Guide | None = None
              ) -> Stories:
    """What a block diffusion writes behind headings, in blocks whose sizes `choose` says."""
    prompts, dice = [[END, *encoded(tokenizer, one)] for one in headings], torch.Generator().manual_seed(seed)
    made = texts(by_blocks(model, prompts, choose, dice, LENGTH, guide=guide), len(headings))
    return Stories([one.ids for one in made], [tokenizer.decode(one.ids, skip_special_tokens=True) for one in made],
                   np.array([one.calls for one in made]))


def story_nats(model, tokenizer, headings: Sequence[str], stories: Sequence[Sequence[int]]) -> np.ndarray:
    """Per word of each story [K], ids, behind its heading."""
    prompts = [[END, *encoded(tokenizer, one)] for one in headings]
    return np.array([row.mean() for row in word_nats(model, prompts, stories)])


def story_labels(classifier, tokenizer, stories: Sequence[Sequence[int]]) -> np.ndarray:
    """Mood and topic of each [K, 2] as a classifier says, under a heading that says nothing."""
    return labels_of(classifier, [[END, *encoded(tokenizer, heading()), *ids] for ids in stories])


def ranked(model, tokenizer, classifier, stories: Sequence[Sequence[int]], labels: np.ndarray, seed: int,
           tried: int = 64) -> np.ndarray:
    """At a place in each story [K]: how alike the likeliest words are ranked by the classifier's gradient towards a
    label and by what it says with each of them there."""
    found, rng = [], np.random.default_rng(seed)
    for ids, label in zip(stories, labels.tolist(), strict=True):
        begun = [END, *encoded(tokenizer, heading()), *ids[: int(rng.integers(len(ids)))]]
        turn = next(by_blocks(model, [begun], by_size(0), torch.Generator(), LENGTH))
        words = turn.ahead.logits[0, 0].topk(tried).indices.clone()
        text = torch.tensor([*begun, *[MASK] * (LENGTH - len(begun))])
        found.append(agreement(*orders(classifier, text, len(begun), words, label)))
    return np.array(found)


def open_nats(model, tokenizer, stories: Sequence[Sequence[int]]) -> np.ndarray:
    """Nats per word of short stories [K], ids, whose heading says nothing: under the mixture of all headings that say
    both mood and topic."""
    each = []
    for mood, topic in product(MOODS, ABOUT):
        prompt = [END, *encoded(tokenizer, heading(mood, topic))]
        each.append([row.sum() for row in word_nats(model, [prompt] * len(stories), stories)])
    return (np.log(len(each)) - np.logaddexp.reduce(-np.array(each))) / [len(ids) for ids in stories]


def held_out_texts(count: int, seed: int = 23) -> list[str]:
    """Documents of all grammars that no training drew."""
    return [doc.text for doc in exam(tales.WORLD, seed, count)]


@torch.no_grad()
def read(model, rows: Sequence[Sequence[int]]) -> list[Tensor]:
    """Logits [T, V] behind each word of each text; those that differ in length are padded behind, where no causal
    network looks."""
    found: list[Tensor] = []
    for some, ids in together(rows, next(model.parameters()).device):
        found += [one[: len(row)] for one, row in zip(model(ids, use_cache=False).logits.float(), some, strict=True)]
    return found


def together(rows: Sequence[Sequence[int]], device) -> Iterator[tuple[Sequence[Sequence[int]], Tensor]]:
    """Some texts at a time, and their ids [B, T] with padding behind."""
    for first in range(0, len(rows), AT_ONCE):
        some = rows[first : first + AT_ONCE]
        ids = [torch.as_tensor(row, dtype=torch.long, device=device) for row in some]
        yield some, pad_sequence(ids, batch_first=True, padding_value=PAD)


@torch.no_grad()
def pooled(model, rows: Sequence[Sequence[int]], layers: int) -> Tensor:
    """Of each text the mean over its words of the states behind so many layers, normed as at the end: [K, D]."""
    shallow = around(model.model)  # no layer above is run
    shallow.layers, found = shallow.layers[:layers], []
    for _, ids in together(rows, model.device):
        inside = (ids != PAD)[..., None]
        states = shallow(ids, use_cache=False).last_hidden_state.float() * inside
        found.append((states.sum(1) / inside.sum(1)).cpu())
    return torch.cat(found)


@torch.no_grad()
def asked_behind(model, tokenizer, texts: Sequence[str],
                 questions: Sequence[Sequence[str]]) -> list[tuple[list[int], Tensor, Tensor]]:
    """(ids, last states [T, D], those of the last word of each question [Q, D]) of texts with questions behind them,
    each as if it alone stood there: all in one call."""
    pages = [[END, *encoded(tokenizer, text)] for text in texts]
    most, rows = max(map(len, pages)), []
    for page, some in zip(pages, questions, strict=True):
        asked, empty = [encoded(tokenizer, one) for one in some], most - len(page)
        parts = [0] * len(page) + [-1] * empty + [at for at, words in enumerate(asked, 1) for _ in words]
        places = [*range(len(page)), *[0] * empty, *(len(page) + at for words in asked for at in range(len(words)))]
        rows.append([[*page, *[PAD] * empty, *sum(asked, [])], parts, places])
    wide = max(len(parts) for _, parts, _ in rows)
    ids, part, place = torch.tensor([[[*one, *[fill] * (wide - len(one))] for one, fill in zip(row, (PAD, -1, 0))]
                                     for row in rows], device=next(model.parameters()).device).unbind(1)  # [B, S]
    order = torch.arange(wide, device=ids.device)
    seen = (order[:, None] >= order) & ((part == 0)[:, None] | (part[:, :, None] == part[:, None]))
    states = model.model(ids, attention_mask=seen[:, None], position_ids=place, use_cache=False).last_hidden_state
    last = (part.diff(dim=1, append=torch.full_like(part[:, :1], -2)) != 0) & (part > 0)
    return [(page, row[: len(page)], row[ends]) for page, row, ends in zip(pages, states, last, strict=True)]


def topics(readers: Mapping[str, Callable[[Tensor], Tensor]], tokenizer, learn: int,
           check: int) -> dict[str, np.ndarray]:
    """name -> whether a linear probe reads the topic of a story [check] off the vector of the word in its middle; it
    learns from `learn` others. readers: ids [1, T] -> vectors [1, T, D]; the heading, which names the topic, is left
    out."""
    docs = [doc for doc in exam(tales.GRAMMARS["stories"], 59, 2 * (learn + check)) if len(doc.truth["topics"]) == 1]
    halves = [[END, *encoded(tokenizer, doc.pieces[1])] for doc in docs[: learn + check]]
    named = sorted({doc.truth["topics"][0] for doc in docs})
    labels = np.array([named.index(doc.truth["topics"][0]) for doc in docs[: learn + check]])
    with torch.no_grad():
        found = {name: np.stack([reads(torch.tensor([ids[: len(ids) // 2]]))[0, -1].numpy() for ids in halves])
                 for name, reads in readers.items()}
    return {name: ridge(z[:learn], labels[:learn], z[learn:], labels[learn:]) for name, z in found.items()}


def taught(model, texts: Sequence[Sequence[int]], steps: int, look: Callable[[int], None], rate: float = 1e-4) -> None:
    """A few steps of plain fine-tuning, in place: every weight, all texts at once. look(step) before each and after
    the last."""
    optimiser = torch.optim.AdamW(model.requires_grad_(True).parameters(), rate, weight_decay=0.0)
    for step in range(steps):
        look(step)
        losses = []
        for row in texts:
            ids = torch.tensor([row], device=model.device)
            losses.append(torch.nn.functional.cross_entropy(model(ids[:, :-1]).logits[0].float(), ids[0, 1:]))
        torch.stack(losses).mean().backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
    look(steps)


def student(vocabulary: int, texts: Sequence[Sequence[int]], steps: int, width: int = 64):
    """A small Llama of two layers that has read these texts: what other texts are worth to it tells what they are."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = LlamaForCausalLM(LlamaConfig(
            vocab_size=vocabulary, hidden_size=width, intermediate_size=3 * width, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=256, tie_word_embeddings=True,
            pad_token_id=PAD, bos_token_id=END, eos_token_id=END))
    return schooled(made, texts, steps, 4e-3)


def schooled(model, texts: Sequence[Sequence[int]], steps: int, rate: float, seed: int = 0):
    """A copy of a network that reads AT_ONCE of these texts a step, at a rate that falls to zero."""
    model, rng = copy.deepcopy(model), np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=0.0)
    rates = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    for _ in range(steps):
        some = [[END, *texts[i]] for i in rng.integers(len(texts), size=AT_ONCE)]
        _, ids = next(together(some, model.device))
        logits = model(ids[:, :-1], use_cache=False).logits.flatten(0, 1).float()
        torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten(), ignore_index=PAD).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        rates.step()
    return model


def foreseen(model, texts: Sequence[Sequence[int]], told: int) -> float:
    """The share of the words of some texts, behind the first `told` of each, that are the likeliest next ones."""
    right = [logits[told:-1].argmax(-1).cpu() == torch.as_tensor(text[told:]) for logits, text in zip(
        read(model, [[END, *text] for text in texts]), texts, strict=True)]
    return float(torch.cat(right).float().mean())


def encoded(tokenizer, text: str) -> list[int]:
    """Ids of a text by either kind of tokenizer."""
    found = tokenizer.encode(text, add_special_tokens=False)
    return getattr(found, "ids", found)


@torch.no_grad()
def written(model, tokenizer, prompts: Sequence[str], *, longest: int, temperature: float = 0.0, seed: int = 5,
            until: str = "") -> list[str]:
    """What a network writes behind each prompt, up to the end of the text, the first sign `until`, or `longest` words:
    its likeliest words, or draws at a temperature. Prompts of one length are read together."""
    rows, found = [[END, *encoded(tokenizer, prompt)] for prompt in prompts], [""] * len(prompts)
    dice = torch.Generator().manual_seed(seed)
    for length in sorted(set(map(len, rows))):
        places = [i for i, row in enumerate(rows) if len(row) == length]
        for at, ids in zip(places, _grown(model, [rows[i] for i in places], longest, temperature, dice), strict=True):
            said = tokenizer.decode(ids[: ids.index(END)] if END in ids else ids)
            found[at] = f"{said.partition(until)[0]}{until}" if until else said
    return found


def _grown(model, rows: list[list[int]], longest: int, temperature: float, dice: torch.Generator) -> list[list[int]]:
    """New words of texts of one length, until all of them have ended. Those that have are read no further, but draws
    are made for all, so that each of them is what it would be."""
    from transformers import DynamicCache

    past, step, made = DynamicCache(), torch.tensor(rows, device=next(model.parameters()).device), []
    live, logits = torch.arange(len(rows)), torch.zeros(len(rows), model.config.vocab_size)
    while len(made) < longest and len(live):
        logits[live] = next_logits(model, step, past)[:, -1].float().cpu()
        made.append(torch.multinomial((logits / temperature).softmax(-1), 1, generator=dice)[:, 0] if temperature
                    else logits.argmax(-1))
        on = made[-1][live] != END
        if not on.all():
            live = live[on]
            past.batch_select_indices(on.nonzero()[:, 0].to(step.device))
        step = made[-1][live, None].to(step.device)
    return torch.stack(made, 1).tolist()
