"""A loopback Hub with tiny random weights in the layouts of the real repositories, and the faults that a Hub can have.

`serving(folders)` speaks what snapshot_download asks: the tree of a revision, then HEAD and GET of its
files. The layouts are those of the files on the real Hub where they differ from what today's libraries write: GPT-2
without a prefix and with its old mask buffers, BERT's gamma and beta, ViT's old layer names, tokenizer files that name
no special token.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from models.checkpoints import hub, registry, verify
from models.trace import limits
from tests.fake_llava import llava
from tests.loopback import Answers, answering
from tests.tiny import CORPUS, mae, text_tokenizer


def today(name: str) -> str:
    """The commit of a repository that no public text pins."""
    return hashlib.sha1(name.encode()).hexdigest()


class Faults:
    """What the Hub does wrong, and what it was asked. status: of every answer; error: its X-Error-Code; short: bytes
    missing at the end of the weights; flip: whether one byte of them is another; hold: how long weights take."""

    def __init__(self):
        self.status, self.error, self.short, self.flip, self.hold = 200, "", 0, False, 0.0
        self.asked: list[tuple[str, str]] = []
        self.tokens: list[str | None] = []


@contextmanager
def serving(folders: dict[tuple[str, str], Path]) -> Iterator[tuple[str, Faults]]:
    """The address of a Hub that has these (repository, revision) -> folder, and its faults."""
    faults = Faults()
    with answering(_handler(folders, faults)) as address:
        yield address, faults


def _handler(folders: dict[tuple[str, str], Path], faults: Faults):
    class Hub(Answers):
        def do_GET(self):
            path = self.path.partition("?")[0]
            faults.asked.append((self.command, path))
            faults.tokens.append(self.headers.get("Authorization"))
            if faults.status != 200:
                return self.answer(b"{}", faults.status, **({"X_Error_Code": faults.error} if faults.error else {}))
            for (repository, revision), folder in folders.items():
                if path == f"/api/models/{repository}":
                    return self.answer(json.dumps(_information(repository, revision, folder)).encode())
                if path == f"/api/models/{repository}/tree/{revision}":
                    return self.answer(json.dumps([_entry(file, folder) for file in _files(folder)]).encode())
                if path.startswith(start := f"/{repository}/resolve/{revision}/"):
                    return self.file(folder / path.removeprefix(start), revision)
            known = any(path.startswith((f"/api/models/{name}/", f"/{name}/")) for name, _ in folders)
            return self.answer(b"{}", 404, X_Error_Code="RevisionNotFound" if known else "RepoNotFound")

        def file(self, file: Path, revision: str):
            if not file.is_file():
                return self.answer(b"{}", 404, X_Error_Code="EntryNotFound")
            data, large = file.read_bytes(), file.suffix == ".safetensors"
            if large and self.command == "GET":
                time.sleep(faults.hold)
                data = data[: len(data) - faults.short]
                data = data[:-1] + bytes([data[-1] ^ 1]) if faults.flip else data
            return self.answer(data, X_Repo_Commit=revision, ETag=f'"{_etag(file)}"', Accept_Ranges="bytes")

    return Hub


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _entry(file: Path, folder: Path) -> dict:
    """One line of a repository's tree."""
    data = file.read_bytes()
    found = {"type": "file", "path": file.relative_to(folder).as_posix(), "size": len(data),
             "oid": hashlib.sha1(data).hexdigest()}
    if file.suffix == ".safetensors":
        found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return found


def _information(repository: str, revision: str, folder: Path) -> dict:
    """What the Hub says of a repository when it is asked about the blobs too."""
    def sibling(file: Path) -> dict:
        entry = _entry(file, folder)
        found = {"rfilename": entry["path"], "size": entry["size"], "blobId": entry["oid"]}
        return found | ({"lfs": entry["lfs"] | {"sha256": entry["lfs"]["oid"]}} if "lfs" in entry else {})
    return {"id": repository, "sha": revision, "private": False, "gated": False, "tags": [],
            "siblings": [sibling(file) for file in _files(folder)]}


def _etag(file: Path) -> str:
    kind = hashlib.sha256 if file.suffix == ".safetensors" else hashlib.sha1
    return kind(file.read_bytes()).hexdigest()


def served(folders: dict[str, Path], pinned: bool = False) -> tuple[dict[str, hub.Public], dict[tuple[str, str], Path]]:
    """The real table with the sizes of these stand-ins, and what a Hub that has them serves. pinned: as if whoever runs
    the server had pinned all."""
    table = {entry.repo: tiny_entry(entry, folders[entry.repo], pinned) for entry in hub.WRITTEN
             if entry.repo in folders}
    return table, {(name, entry.revision or today(name)): folders[name] for name, entry in table.items()}


def tiny_entry(entry: hub.Public, folder: Path, pinned: bool = False) -> hub.Public:
    """The table's line for a stand-in; a sha256 that nobody stated stays unstated."""
    if pinned and not entry.revision:
        paths = dict.fromkeys(registry.parts(entry.architecture), hub.Weights(1, "stated"))
        entry = replace(entry, revision=today(entry.repo), weights=paths)

    def sizes(path: str, sha256: str) -> hub.Weights:
        return hub.Weights((folder / path).stat().st_size, sha256 and verify.fingerprint(folder / path))
    return replace(entry, weights={path: sizes(path, one.sha256) for path, one in entry.weights.items()})


@contextmanager
def in_use(root: Path) -> Iterator[Faults]:
    """This process may fetch the stand-ins, and nothing else, from a Hub on loopback; for the browser tests."""
    from huggingface_hub import constants
    folders = {name: make(root / "layouts" / name.replace("/", "--")) for name, make in LAYOUTS.items()
               if name not in hub.pinnable()}
    hub.TABLE, there = served(folders)
    limits.DISK_FREE = 0
    constants.HF_HUB_OFFLINE, constants.HF_HUB_CACHE = False, str(root / "cache")
    with serving(there) as (address, faults):
        os.environ["HF_ENDPOINT"] = address
        yield faults


# ---- layouts ---------------------------------------------------------------------------------------------------------


def write(folder: Path, config: dict, state: dict[str, torch.Tensor], **files) -> Path:
    """A repository's files: config.json, model.safetensors, and more JSON files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: weight.contiguous().clone() for name, weight in state.items()}
    save_file(state, str(folder / "model.safetensors"), metadata={"format": "pt"})
    for name, content in {"config": config, **files}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def gpt2(folder: Path) -> Path:
    """openai-community/gpt2: saved without the head and the prefix, with the mask buffers of its time."""
    from transformers import GPT2Config, GPT2LMHeadModel
    torch.manual_seed(0)
    words = text_tokenizer()
    config = GPT2Config(vocab_size=len(words), n_positions=256, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2,
                        bos_token_id=0, eos_token_id=0)
    state = {name.removeprefix("transformer."): weight for name, weight in GPT2LMHeadModel(config).state_dict().items()
             if not name.startswith("lm_head")}
    for layer in range(2):
        state[f"h.{layer}.attn.bias"] = torch.tril(torch.ones(1, 1, 256, 256))
    said = {"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
            "bos_token_id": 0, "embd_pdrop": 0.1, "eos_token_id": 0, "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 256, "n_embd": 32, "n_head": 4, "n_layer": 2,
            "n_positions": 256, "resid_pdrop": 0.1, "vocab_size": len(words),
            "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}}
    write(folder, said, state, tokenizer_config={"model_max_length": 256})
    words.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def smollm(folder: Path) -> Path:
    """HuggingFaceTB/SmolLM2-135M: bfloat16, tied, grouped heads, a tokenizer_config that names everything."""
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.manual_seed(0)
    words = text_tokenizer()
    said = {"architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 0, "eos_token_id": 0,
            "hidden_act": "silu", "hidden_size": 48, "initializer_range": 0.04, "intermediate_size": 64,
            "max_position_embeddings": 2048, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 6,
            "num_hidden_layers": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-05, "rope_interleaved": False,
            "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
            "use_cache": True, "vocab_size": len(words)}
    model = LlamaForCausalLM(LlamaConfig(**{**said, "initializer_range": 0.2}))
    state = {name: weight.bfloat16() for name, weight in model.state_dict().items() if name != "lm_head.weight"}
    special = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    write(folder, said, state, special_tokens_map=special, tokenizer_config={
        "add_prefix_space": False, "clean_up_tokenization_spaces": False, "tokenizer_class": "GPT2Tokenizer",
        "model_max_length": 2048, **special})
    words.backend_tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def word_pieces():
    """A WordPiece tokenizer as BERT's tokenizer.json has it: lower case, [CLS] and [SEP] around a text."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    made = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator([CORPUS], trainers.WordPieceTrainer(vocab_size=200, special_tokens=special,
                                                                 show_progress=False))
    around = [(token, made.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", around)
    made.decoder = decoders.WordPiece()
    return made


def bert(folder: Path) -> Path:
    """google-bert/bert-base-uncased: gamma and beta, a pooler and the next-sentence head, no decoder of its own."""
    from transformers import BertConfig, BertForPreTraining
    torch.manual_seed(0)
    words = word_pieces()
    said = {"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False,
            "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 32, "initializer_range": 0.02,
            "intermediate_size": 64, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
            "num_attention_heads": 4, "num_hidden_layers": 2, "pad_token_id": 0, "position_embedding_type": "absolute",
            "type_vocab_size": 2, "use_cache": True, "vocab_size": words.get_vocab_size()}
    model = BertForPreTraining(BertConfig(**{**said, "initializer_range": 0.2}))
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {renamed(name, old): weight for name, weight in model.state_dict().items()
             if not name.startswith("cls.predictions.decoder") and not name.endswith("position_ids")}
    write(folder, said, state, tokenizer_config={"do_lower_case": True, "model_max_length": 512})
    words.save(str(folder / "tokenizer.json"))
    return folder


def electra(folder: Path, generator: bool = False) -> Path:
    """google/electra-small-discriminator or -generator, which keeps embeddings narrower than the network."""
    import transformers
    torch.manual_seed(0)
    words = word_pieces()
    kind = "ElectraForMaskedLM" if generator else "ElectraForPreTraining"
    said = {"architectures": [kind], "attention_probs_dropout_prob": 0.1, "embedding_size": 16, "hidden_act": "gelu",
            "hidden_dropout_prob": 0.1, "hidden_size": 32, "initializer_range": 0.02, "intermediate_size": 64,
            "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "electra", "num_attention_heads": 4,
            "num_hidden_layers": 2, "pad_token_id": 0, "summary_activation": "gelu", "type_vocab_size": 2,
            "vocab_size": words.get_vocab_size()}
    model = getattr(transformers, kind)(transformers.ElectraConfig(**{**said, "initializer_range": 0.2}))
    state = {name: weight for name, weight in model.state_dict().items()
             if name != "generator_lm_head.weight" and not name.endswith(("position_ids", "token_type_ids"))}
    write(folder, said, state, tokenizer_config={"do_lower_case": True, "model_max_length": 512})
    words.save(str(folder / "tokenizer.json"))
    return folder


def renamed(name: str, table: dict[str, str]) -> str:
    for new, old in table.items():
        name = name.replace(new, old)
    return name


def vit_mae(folder: Path) -> Path:
    """facebook/vit-mae-base, whose decoder's layers are called decoder_layers."""
    from safetensors.torch import load_file
    model = mae()
    for weight in model.parameters():
        if weight.dim() == 2 and weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(folder)
    state = load_file(str(folder / "model.safetensors"))
    config = json.loads((folder / "config.json").read_text())
    write(folder, config, {renamed(name, {"decoder_encoder.layer.": "decoder_layers."}): weight
                           for name, weight in state.items()})
    return preprocessor(folder, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def vit(folder: Path) -> Path:
    """google/vit-base-patch16-224, which wants its colours from -1 to 1."""
    from tests import tiny
    tiny.vit().save_pretrained(folder)
    return preprocessor(folder, [0.5] * 3, [0.5] * 3)


def dinov2(folder: Path) -> Path:
    """facebook/dinov2-small: position embeddings of another size than the pictures it is asked about."""
    from transformers import Dinov2Config, Dinov2Model
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, mlp_ratio=2, image_size=56,
                             patch_size=14, initializer_range=0.2)).save_pretrained(folder)
    return preprocessor(folder, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def amused(folder: Path) -> Path:
    """amused/amused-256: parts in folders of their own, each as its library writes it, and what is not fetched: weights
    of half the precision, a schedule that our loop has itself. The mask is the last of some unused ids."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection
    torch.manual_seed(0)
    transformer = diffusers.UVit2DModel(
        hidden_size=32, cond_embed_dim=16, micro_cond_encode_dim=8, micro_cond_embed_dim=40, encoder_hidden_size=24,
        vocab_size=48, codebook_size=40, in_channels=16, block_out_channels=16, num_res_blocks=1, block_num_heads=2,
        num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, sample_size=4)
    for weight in transformer.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.3)  # else no prompt would make a difference
    codes = diffusers.VQModel(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), latent_channels=8, vq_embed_dim=8, num_vq_embeddings=40, norm_num_groups=4,
        sample_size=8, lookup_from_codebook=True, force_upcast=True, mid_block_add_attention=False)
    torch.nn.init.normal_(codes.quantize.embedding.weight)
    words = clip_words(folder / "tokenizer", 77)
    said = CLIPTextConfig(vocab_size=words, hidden_size=24, intermediate_size=32, projection_dim=16,
                          num_hidden_layers=3, num_attention_heads=2, max_position_embeddings=77, bos_token_id=0,
                          eos_token_id=1, pad_token_id=1, initializer_range=0.3)
    for part, model in (("transformer", transformer), ("vqvae", codes),
                        ("text_encoder", CLIPTextModelWithProjection(said))):
        model.save_pretrained(folder / part)
    (folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"x" * 100)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"_class_name": "AmusedScheduler"}')
    (folder / "model_index.json").write_text(json.dumps({
        "_class_name": "AmusedPipeline", "_diffusers_version": "0.25.0.dev0",
        "scheduler": ["diffusers", "AmusedScheduler"], "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "transformer": ["diffusers", "UVit2DModel"],
        "vqvae": ["diffusers", "VQModel"]}))
    return folder


def clip_words(folder: Path, length: int) -> int:
    """A CLIP tokenizer's four files, of single letters; returns how many pieces it knows."""
    letters = "abcdefghijklmnopqrstuvwxyz,."
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    special = {"bos_token": pieces[0], "eos_token": pieces[1], "unk_token": pieces[1], "pad_token": pieces[1]}
    folder.mkdir(parents=True)
    (folder / "merges.txt").write_text("#version: 0.2\n")
    for name, content in {"vocab": {piece: i for i, piece in enumerate(pieces)}, "special_tokens_map": special,
                          "tokenizer_config": {"model_max_length": length, "tokenizer_class": "CLIPTokenizer",
                                               "do_lower_case": True, **special}}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return len(pieces)


def preprocessor(folder: Path, mean: list[float], std: list[float]) -> Path:
    said = {"do_normalize": True, "do_resize": True, "image_mean": mean, "image_std": std, "size": 224}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "openai-community/gpt2": gpt2, "HuggingFaceTB/SmolLM2-135M": smollm, "google-bert/bert-base-uncased": bert,
    "facebook/vit-mae-base": vit_mae, "amused/amused-256": amused, "HuggingFaceTB/SmolLM2-135M-Instruct": smollm,
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": llava,
    "google/electra-small-discriminator": electra, "google/electra-small-generator": partial(electra, generator=True),
    "google/vit-base-patch16-224": vit, "facebook/dinov2-small": dinov2}
