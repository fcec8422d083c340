"""A small decoder that knows a memory and no text: transformers' GPT-2 with cross-attention, told its words as vectors.

Letters: N memories, P places of one, W width.
"""
from __future__ import annotations

from transformers import DynamicCache, GPT2Config, GPT2Model
from transformers.cache_utils import EncoderDecoderCache


def memory_decoder(width: int, places: int, blocks: int, heads: int, inside: int | None = None) -> GPT2Model:
    """Of so many blocks, for texts of up to `places` words; inside: width of the MLP, four times W by default. Memories
    [N, P, W] go in as `encoder_hidden_states`, words as `inputs_embeds`."""
    return GPT2Model(GPT2Config(
        vocab_size=1, n_positions=places, n_embd=width, n_inner=inside, n_layer=blocks, n_head=heads,
        add_cross_attention=True, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False,
        attn_implementation="sdpa", bos_token_id=None, eos_token_id=None))


def memory_work(decoder: GPT2Model) -> int:
    """Multiply-adds by which one place of a memory becomes keys and values; once, since they are kept."""
    return sum(block.crossattention.c_attn.weight.numel() for block in decoder.h)


def nothing_said() -> EncoderDecoderCache:
    """The cache of a decoder that has read no word and no memory."""
    return EncoderDecoderCache(DynamicCache(), DynamicCache())
