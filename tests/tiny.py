"""Tiny random-weight stand-ins for every shipped checkpoint, in exactly their layouts, for tests without weights.

`use()` makes models.checkpoints.store.load(name) return them; `forget()` undoes it. Two layers, width 32: a run takes
milliseconds and its numbers mean nothing.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path

import torch

import models
from models.checkpoints import store
from models.checkpoints.store import Bundle

CORPUS = ("Once upon a time there was a little red hen. The hen lived near a mill, and the cat slept by the fire. "
          "3 plus 4 is 7, 7 times 2 is 14. answer 14. Question: What is the secret number? Answer: 7412.\n\n") * 20


@cache
def text_tokenizer(vocab: int = 400):
    """A byte-level BPE with the specials of the shipped ones (<|endoftext|> <|mask|> <|pad|>)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab, special_tokens=["<|endoftext|>", "<|mask|>", "<|pad|>"],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator([CORPUS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", mask_token="<|mask|>",
                                   pad_token="<|pad|>")


@cache
def words_tokenizer(name: str = "algo-arithmetic-1"):
    """The word-level tokenizer of a shipped checkpoint: words, or digits and signs, and punctuation."""
    folder = store.SHIPPED / name
    if (folder / "tokenizer.json").is_file():
        from models.checkpoints.registry import tokenizer
        return tokenizer(folder)
    return text_tokenizer()


@cache
def tale_tokenizer():
    """The word-level tokenizer of the tales, as tale-ar-1 ships it."""
    from models.worlds import tales
    from training.text import wrap
    return wrap(tales.WORLD.tokenizer(), unk_token="<|unk|>")


def star_tokenizer():
    """The tokenizer of the star graphs, as star-ar-1 ships it."""
    from models.worlds import stars
    from training.text import wrap
    return wrap(stars.WORLD.tokenizer(), unk_token="<|unk|>")


def tree(chain: bool = False):
    """A stand-in for tree-dot-1 or, with a chain, for tree-cot-1: it recites a document of theirs."""
    import numpy as np

    from models.worlds import dialogues, trees
    return recited((trees.chain if chain else dialogues.dialogue)(np.random.default_rng(0)).text)


def recited(text: str):
    """A network that says a text about a tree word by word, more or less, whatever stands before them."""
    from models.worlds.dialogues import VOCABULARY
    from models.worlds.world import word_tokenizer
    from training.text import wrap
    tokenizer = wrap(word_tokenizer(VOCABULARY, "spaces"), unk_token="<|unk|>")
    model, words = llama(tokenizer).eval(), tokenizer(f"<|endoftext|> {text} <|endoftext|>")["input_ids"]

    def recites(module, args, options, made):
        cache = options.get("past_key_values")
        if cache is not None:
            end, count = cache.get_seq_length(), made.logits.shape[1]
            for row, word in enumerate(words[end - count + 1 : end + 1]):
                made.logits[:, row, word] += 15.0
    model.register_forward_hook(recites, with_kwargs=True)
    return model, tokenizer


@cache
def maze_tokenizer():
    from models.worlds import mazes
    from training.text import wrap
    return wrap(mazes.WORLD.tokenizer(), unk_token="<|unk|>")


def tale(seed: int = 0):
    """A stand-in for tale-ar-1, or, by another seed, for one that was trained on from it."""
    tokenizer = tale_tokenizer()
    model = llama(tokenizer)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * seed * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    return model, tokenizer


def tale_blocks():
    """A stand-in for tale-blocks-1."""
    from models.backbones.block_diffusion import BlockDiffusionLM
    from models.backbones.stand_in import stirred
    return stirred(BlockDiffusionLM(len(tale_tokenizer()), 32, 2, 2, 64)), tale_tokenizer()


def story_labels():
    """A stand-in for tale-guide-1 and tale-judge-1."""
    from models.backbones.stand_in import stirred
    from models.backbones.story_classifier import StoryClassifier
    return stirred(StoryClassifier(len(tale_tokenizer()), 32, 1, 2, 64))


def llama(tokenizer, layers: int = 3):
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
                         tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=2,
                         initializer_range=0.2)
    return LlamaForCausalLM(config)


def moves():
    """A stand-in for algo-othello-1, of the same depth."""
    from models.worlds import othello
    from training.text import wrap
    tokenizer = wrap(othello.WORLD.tokenizer(), unk_token="<|unk|>")
    return llama(tokenizer, 6), tokenizer


def masked_text(tokenizer=None):
    from models.backbones.masked import MaskedTransformer
    torch.manual_seed(0)
    tokenizer = tokenizer or text_tokenizer()
    return MaskedTransformer(len(tokenizer), 32, 2, 4, 4, 64, positions="1d", mask_token_id=tokenizer.mask_token_id)


def masked_scene():
    from models.backbones.masked import MaskedTransformer
    from models.worlds import scenes
    torch.manual_seed(0)
    codes = scene_tokenizer().codebook_size
    return MaskedTransformer(codes, 32, 2, 4, 4, 64, positions="2d", grid=(16, 16),
                             cond_vocab_size=len(scenes.WORDS), cond_length=len(scenes.condition("red circle")))


@cache
def scene_tokenizer():
    from models.backbones.fsq import FsqTokenizer
    torch.manual_seed(0)
    return FsqTokenizer(patch_size=4, hidden_size=32, levels=(4, 3, 3), image_size=64)


@cache
def light_tokenizer():
    from models.backbones.codebook import PatchCodebook
    torch.manual_seed(0)
    return PatchCodebook(48)


def photo_tokenizer():
    from models.backbones.codebook import PatchCodebook
    torch.manual_seed(0)
    return PatchCodebook(512, 8)


def scale_tokenizer():
    from models.backbones.scales import ScaleTokenizer
    torch.manual_seed(0)
    made = ScaleTokenizer(64, channels=6, overview=4, layouts=16, hidden_size=32)
    made.entries.data *= 10
    for phi in made.phi:  # as they begin they would change nothing
        torch.nn.init.normal_(phi.conv.weight, std=0.1)
    return made


def causal_scene():
    from models.backbones.causal import CausalTransformer
    from models.worlds import scenes
    torch.manual_seed(0)
    return CausalTransformer(48, 32, 2, 4, 4, 64, grid=(8, 8), absolute=True, cond_vocab_size=len(scenes.WORDS) + 1,
                             cond_length=scenes.MAX_OBJECTS + 1)


def drafter():
    from models.backbones.drafter import FeatureDrafter
    torch.manual_seed(0)
    return FeatureDrafter.beside(bundle("scene-ar-1").model)


@cache
def question_tokenizer():
    from models.worlds.questions import WORDS
    from models.worlds.world import word_tokenizer
    from training.text import wrap
    return wrap(word_tokenizer(WORDS, "spaces"))


@cache
def discs_tokenizer():
    from models.worlds import discs
    from training.text import wrap
    return wrap(discs.WORLD.tokenizer(), unk_token="<|unk|>")


def scene_vlm():
    from models.backbones.stand_in import stirred
    from models.backbones.vlm import SceneVLM
    torch.manual_seed(0)
    return stirred(SceneVLM(len(question_tokenizer()), encoder_size=32, encoder_layers=2, encoder_heads=2,
                            hidden_size=32, num_hidden_layers=4, num_attention_heads=2, intermediate_size=64))


def mae_config():
    from transformers import ViTMAEConfig
    return ViTMAEConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
                        image_size=64, patch_size=8, decoder_hidden_size=32, decoder_num_hidden_layers=1,
                        decoder_num_attention_heads=2, decoder_intermediate_size=64, mask_ratio=0.75,
                        norm_pix_loss=False)


def mae():
    from transformers import ViTMAEForPreTraining
    torch.manual_seed(0)
    return ViTMAEForPreTraining(mae_config())


def vit():
    from transformers import ViTConfig, ViTForImageClassification
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(
        image_size=64, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        id2label=dict(enumerate("abcde")), initializer_range=0.3))


MAKERS = {
    "text-ar-1": lambda: (llama(text_tokenizer()), text_tokenizer()),
    **dict.fromkeys(("text-ar-retrieval-1", "text-meap-2", "text-ntp-2"),
                    lambda: (llama(text_tokenizer(), 6), text_tokenizer())),
    **dict.fromkeys(("text-ar-1k-1", "text-ar-1k-2"), lambda: (llama(text_tokenizer(330)), text_tokenizer(330))),
    **{name: lambda seed=seed: tale(seed) for seed, name in enumerate((
        "tale-ar-1", "tale-universe-1", "tale-reinforced-1", "tale-unlearned-1", "tale-ascent-1",
        "tale-irl-high-1", "tale-irl-low-1", "tale-words-mle-1", "tale-words-entropy-1", "tale-words-smoothed-1"))},
    "tale-ar-2": tale,
    **{name: lambda seed=seed: tale(seed) for seed, name in enumerate(("tale-gpt-1", "tale-gpt-far-1"), 5)},
    **{f"tale-popri-{name}1": lambda seed=seed: tale(seed) for seed, name in enumerate((
        "", "second-", "fourth-", "free-", "tight-", "shuffled-"), 1)},
    "algo-arithmetic-1": lambda: (llama(words_tokenizer()), words_tokenizer()),
    "algo-arithmetic-2": lambda: (llama(words_tokenizer("algo-arithmetic-2")), words_tokenizer("algo-arithmetic-2")),
    "algo-othello-1": moves,
    **dict.fromkeys(("target-sft-1", "target-sft-short-1", "target-rl-1", "target-rl-short-1", "target-reinforce-1",
                     "target-rest-1", "target-averaged-1"), lambda: (llama(words_tokenizer("target-sft-1")),
                                                                     words_tokenizer("target-sft-1"))),
    "tale-blocks-1": tale_blocks, "tale-guide-1": story_labels, "tale-judge-1": story_labels,
    "star-ar-1": lambda: (llama(star_tokenizer()), star_tokenizer()),
    **dict.fromkeys(("tree-dot-1", "tree-dot-shuffled-1"), tree),
    "tree-cot-1": lambda: tree(chain=True),
    "maze-ar-1": lambda: (llama(maze_tokenizer()), maze_tokenizer()),
    "star-mdm-1": lambda: (masked_text(star_tokenizer()), star_tokenizer()),
    **dict.fromkeys(("algo-discs-1", "algo-discs-words-1"), lambda: (llama(discs_tokenizer()), discs_tokenizer())),
    **dict.fromkeys(("text-mdm-1", "text-mdm-2"), lambda: (masked_text(), text_tokenizer())),
    "scene-mgm-1": lambda: (masked_scene(), None),
    "scene-vq-1": lambda: (scene_tokenizer(), None),
    "scene-vlm-1": lambda: (scene_vlm(), question_tokenizer()),
    "scene-ar-1": lambda: (causal_scene(), None),
    "scene-mvq-1": lambda: (scale_tokenizer(), None),
    "scene-ar-draft-1": lambda: (drafter(), None),
    "scene-vq-2": lambda: (light_tokenizer(), None),
    **dict.fromkeys(("photo-mae-1", "photo-mae-2", "photo-mae-2-more"), lambda: (mae(), None)),
    "photo-vq-1": lambda: (photo_tokenizer(), None),
    "photo-vit-1": lambda: (vit(), None),
    "photo-sparsifiner-1": lambda: (vit(), None),
    "photo-sparsifiner-dense-1": lambda: (vit(), None),
}


@cache
def papers() -> dict:
    """checkpoint -> what makes its stand-in, from every paper's network.py (STAND_INS); each is given `bundle`."""
    found = {}
    for file in sorted((Path(models.__file__).parent / "papers").glob("*/network.py")):
        found |= getattr(import_module(f"models.papers.{file.parent.name}.network"), "STAND_INS", {})
    return found


def fresh(name: str):
    """A stand-in, made anew: for tests that train it or change it."""
    made = made_for(name)
    return made[0] if isinstance(made, tuple) else made


def made_for(name: str):
    torch.manual_seed(0)
    return MAKERS[name]() if name in MAKERS else papers()[name](bundle)


@cache
def bundle(name: str) -> Bundle:
    """The stand-in for a checkpoint; its card has no metrics."""
    with torch.random.fork_rng():  # a stand-in may ask for another's while it is made
        made = made_for(name)
    model, tokenizer = made if isinstance(made, tuple) else (made, None)
    model = model.eval().requires_grad_(False)
    return Bundle(name, model, tokenizer, {"name": name}, revision="tiny", device="cpu", dtype="float32")


def use() -> None:
    """From now on every shipped name loads its stand-in."""
    store._loaded.clear()
    for name in (*MAKERS, *papers()):
        store.register(name, lambda name=name: bundle(name))


def forget() -> None:
    """Back to the shipped weights."""
    store._loaded.clear()
    store._makers.clear()
