"""Tiny random-weight stand-ins for every shipped checkpoint, in exactly their layouts, for tests without weights.

`use()` makes models.checkpoints.load(name) return them; `forget()` undoes it. Two layers, width 32: a run takes
milliseconds and its numbers mean nothing.
"""

from __future__ import annotations

from functools import cache

import torch

from models import checkpoints
from models.checkpoints import Bundle

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
def words_tokenizer():
    """A word-level tokenizer like algo-arithmetic's: words, single digits' numbers and punctuation."""
    folder = checkpoints.SHIPPED / "algo-arithmetic-1"
    if (folder / "tokenizer.json").is_file():
        from models.architectures import tokenizer
        return tokenizer(folder)
    return text_tokenizer()


def llama(tokenizer, layers: int = 3):
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=layers,
                         num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
                         tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=2,
                         initializer_range=0.2)
    return LlamaForCausalLM(config)


def masked_text():
    from models.backbones.masked import MaskedTransformer
    torch.manual_seed(0)
    tokenizer = text_tokenizer()
    return MaskedTransformer(len(tokenizer), 32, 2, 4, 4, 64, positions="1d", mask_token_id=tokenizer.mask_token_id)


def masked_scene():
    from models.backbones.masked import MaskedTransformer
    from models.worlds import scenes
    torch.manual_seed(0)
    codes = scene_tokenizer().codebook_size
    return MaskedTransformer(codes, 32, 2, 4, 4, 64, positions="2d", grid=(16, 16),
                             cond_vocab_size=len(scenes.WORDS), cond_length=len(scenes.condition("red circle")))


def enat():
    from models.unmask.enat_net import EnatTransformer
    made = EnatTransformer.beside(masked_scene())
    torch.nn.init.normal_(made.reuse.narrow.weight, std=0.3)  # an untrained projection would change nothing
    return made


@cache
def scene_tokenizer():
    from models.backbones.fsq import FsqTokenizer
    torch.manual_seed(0)
    return FsqTokenizer(patch_size=4, hidden_size=32, levels=(4, 3, 3), image_size=64)


@cache
def scale_tokenizer():
    from models.unmask.var_tokens import ScaleTokenizer
    torch.manual_seed(0)
    made = ScaleTokenizer(64, channels=6, overview=4, layouts=16, hidden_size=32)
    made.entries.data *= 10
    for phi in made.phi:  # as they begin they would change nothing
        torch.nn.init.normal_(phi.conv.weight, std=0.1)
    return made


def scale_transformer():
    from models.unmask.var_net import ScaleTransformer
    torch.manual_seed(0)
    made = ScaleTransformer(64, 10, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64)
    for weight in made.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.2)  # else every token would be drawn alike
    return made


@cache
def light_tokenizer():
    from models.backbones.codebook import PatchCodebook
    torch.manual_seed(0)
    return PatchCodebook(48)


def causal_scene():
    from models.backbones.causal import CausalTransformer
    from models.worlds import scenes
    torch.manual_seed(0)
    return CausalTransformer(48, 32, 2, 4, 4, 64, grid=(8, 8), absolute=True, cond_vocab_size=len(scenes.WORDS) + 1,
                             cond_length=scenes.MAX_OBJECTS + 1)


def drafter():
    from models.sample.lantern_net import FeatureDrafter
    torch.manual_seed(0)
    return FeatureDrafter.beside(bundle("scene-ar-1").model)


@cache
def question_tokenizer():
    from training.recipes.scene_vlm import word_tokenizer
    from training.text import wrap
    return wrap(word_tokenizer())


def scene_vlm():
    from models.backbones.vlm import SceneVLM
    torch.manual_seed(0)
    made = SceneVLM(len(question_tokenizer()), encoder_size=32, encoder_layers=2, encoder_heads=2, hidden_size=32,
                    num_hidden_layers=4, num_attention_heads=2, intermediate_size=64)
    for weight in made.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)  # attention of its own weights' size would be nearly even
    return made


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


def hpm():
    from models.mask.hpm_net import HpmForPreTraining
    torch.manual_seed(0)
    return HpmForPreTraining(mae_config())


def spark(sparse: bool = True):
    from models.mask.spark_net import Norm, SparkNet
    torch.manual_seed(0)
    made = SparkNet(widths=(8, 8, 16), depth=2, decoder_width=16, sparse=sparse)
    for norm in filter(lambda module: isinstance(module, Norm), made.modules()):
        torch.nn.init.uniform_(norm.bias, 1.0, 2.0)  # untrained norms would add nothing to a hole
    return made


def illama(cls_first: bool = False):
    from models.attend.illama_net import IllamaForImageClassification
    torch.manual_seed(0)
    made = IllamaForImageClassification(hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                                        intermediate_size=64, labels=tuple("abcde"), cls_first=cls_first)
    for weight in made.parameters():
        if weight.dim() == 2:
            torch.nn.init.normal_(weight, std=0.3)  # attention of its own weights' size would be nearly even
    return made


def vit():
    from transformers import ViTConfig, ViTForImageClassification
    torch.manual_seed(0)
    return ViTForImageClassification(ViTConfig(
        image_size=64, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        id2label=dict(enumerate("abcde")), initializer_range=0.3))


def predictors():
    from models.attend.sparsifiner_net import ConnectivityPredictors
    torch.manual_seed(0)
    made = ConnectivityPredictors.beside(bundle("photo-vit-1").model)
    for own in made.layers:
        for weight in (own.q_proj.weight, own.k_proj.weight, own.down, own.up):
            torch.nn.init.normal_(weight, std=0.3)  # an untrained one would mix all maps alike
    return made


def joint():
    from models.unmask.joint_sampling_net import JointSampler
    torch.manual_seed(0)
    sampler = JointSampler.beside(bundle("text-mdm-1").model)
    torch.nn.init.normal_(sampler.state_projection.weight, std=0.3)  # an untrained layer would repeat the trunk
    return sampler


def futures(base: str):
    from models.sample.mtp_future_net import FutureAdapters
    torch.manual_seed(0)
    made = FutureAdapters.beside(bundle(base).model, rank=4, sampler_size=32)
    for name, weight in made.named_parameters():
        if name.endswith("up.weight") or name == "sampler.mlp.5.weight":
            torch.nn.init.normal_(weight, std=0.3)  # untrained adapters would change nothing
    return made


def electra(kind: str, width: int, heads: int):
    import transformers
    torch.manual_seed(0)
    config = transformers.ElectraConfig(
        vocab_size=len(text_tokenizer()), embedding_size=16, hidden_size=width, num_hidden_layers=2,
        num_attention_heads=heads, intermediate_size=64, max_position_embeddings=384, initializer_range=0.2,
        pad_token_id=2, attn_implementation="sdpa")
    return getattr(transformers, kind)(config)


MAKERS = {
    "text-ar-1": lambda: (llama(text_tokenizer()), text_tokenizer()),
    "text-ar-retrieval-1": lambda: (llama(text_tokenizer(), 6), text_tokenizer()),
    "text-ar-1k-1": lambda: (llama(text_tokenizer(330)), text_tokenizer(330)),
    "algo-arithmetic-1": lambda: (llama(words_tokenizer()), words_tokenizer()),
    "text-mdm-1": lambda: (masked_text(), text_tokenizer()),
    "text-joint-1": lambda: (joint(), None),
    "text-mtp-1": lambda: (futures("text-ar-1"), None),
    "algo-mtp-1": lambda: (futures("algo-arithmetic-1"), None),
    "text-electra-1": lambda: (electra("ElectraForPreTraining", 32, 4), text_tokenizer()),
    "text-electra-1/generator": lambda: (electra("ElectraForMaskedLM", 16, 1), text_tokenizer()),
    "text-mlm-1": lambda: (electra("ElectraForMaskedLM", 32, 4), text_tokenizer()),
    "scene-mgm-1": lambda: (masked_scene(), None),
    "scene-enat-1": lambda: (enat(), None),
    "scene-vq-1": lambda: (scene_tokenizer(), None),
    "scene-mvq-1": lambda: (scale_tokenizer(), None),
    "scene-var-1": lambda: (scale_transformer(), None),
    "scene-vlm-1": lambda: (scene_vlm(), question_tokenizer()),
    "scene-ar-1": lambda: (causal_scene(), None),
    "scene-ar-draft-1": lambda: (drafter(), None),
    "scene-vq-2": lambda: (light_tokenizer(), None),
    "photo-mae-1": lambda: (mae(), None),
    "photo-hpm-1": lambda: (hpm(), None),
    "photo-spark-1": lambda: (spark(), None),
    "photo-spark-zero-1": lambda: (spark(sparse=False), None),
    "photo-vit-1": lambda: (vit(), None),
    "photo-illama-1": lambda: (illama(), None),
    "photo-illama-first-1": lambda: (illama(cls_first=True), None),
    "photo-sparsifiner-1": lambda: (vit(), None),
    "photo-sparsifiner-dense-1": lambda: (vit(), None),
    "photo-sparsifiner-predictor-1": lambda: (predictors(), None),
}


@cache
def bundle(name: str) -> Bundle:
    """The stand-in for a checkpoint; its card has no metrics."""
    model, tokenizer = MAKERS[name]()
    model = model.eval().requires_grad_(False)
    return Bundle(name, model, tokenizer, {"name": name}, revision="tiny", device="cpu", dtype="float32")


def use() -> None:
    """From now on every shipped name loads its stand-in."""
    checkpoints._loaded.clear()
    for name in MAKERS:
        checkpoints.register(name, lambda name=name: bundle(name))


def forget() -> None:
    """Back to the shipped weights."""
    checkpoints._loaded.clear()
    checkpoints._makers.clear()
