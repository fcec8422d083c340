"""Learning from answers that a model drew itself: groups of answers to one prompt, and what they are worth against
their group or against one another.

    drawn_on       the next tokens of many texts, drawn at temperature 1 with a key-value cache
    answer_logp    log pi of the answers to prompts, summed over their tokens
    above_group    rewards minus the mean of their group, not normalised
    reinforce      the loss whose gradient is that of REINFORCE with such an advantage
    dpo            the loss that prefers one answer to another, held to a reference

Letters: P prompts, k answers to each, B = P k texts, T tokens.
"""
from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.utils.rnn import pad_sequence

from models.worlds.world import END, PAD
from training.language import alike, continued


@torch.no_grad()
def drawn_on(model, rows: Sequence[Sequence[int]], count: int, generator: torch.Generator) -> list[list[int]]:
    """Every text with up to `count` more tokens, <|endoftext|> the last of them where it came. The texts may be begun
    answers: nothing is asked again."""
    found: list[list[int]] = [[] for _ in rows]
    for places, ids in alike(rows):
        made, _ = continued(model, ids, count, 1.0, generator)
        for place, new in zip(places, made.tolist(), strict=True):
            found[place] = [*rows[place], *(new[: new.index(END) + 1] if END in new else new)]
    return found


def batched(rows: Sequence[Sequence[int]], prompt: int) -> tuple[Tensor, Tensor]:
    """(ids [B, T] with PAD behind each text, which of them belong to answers, bool [B, T]); the first `prompt` tokens
    of each text are told."""
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=PAD)
    at, ends = torch.arange(ids.shape[1]), torch.tensor([len(row) for row in rows])
    return ids, (at >= prompt) & (at < ends[:, None])


def answer_logp(model, ids: Tensor, answer: Tensor) -> Tensor:
    """Log-probability [B] of the answers: the sum over their tokens, not the mean. ids, answer (bool) [B, T]; padding
    stands behind."""
    logits = model(ids[:, :-1], use_cache=False).logits.float()
    chosen = logits.gather(-1, ids[:, 1:, None])[..., 0] - logits.logsumexp(-1)  # [B, T - 1]
    return (chosen * answer[:, 1:]).sum(-1)


def above_group(rewards: Tensor) -> Tensor:
    """Rewards [P, k] minus the mean of the k answers to the same prompt."""
    return rewards - rewards.mean(-1, keepdim=True)


def reinforce(logp: Tensor, advantage: Tensor) -> Tensor:
    """Its gradient is minus the mean of advantage times the gradient of log pi; both [B]."""
    return -(advantage * logp).mean()


def dpo(policy: Tensor, reference: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """Direct preference optimisation (arXiv 2305.18290): (loss, margin [B]). policy, reference: log pi [2, B] of the
    chosen and of the rejected answers to the same prompts.

        loss = -log sigmoid(margin)    margin = beta [ (log pi(y+) - log ref(y+)) - (log pi(y-) - log ref(y-)) ]
    """
    gain = policy - reference.detach()
    margin = beta * (gain[0] - gain[1])
    return -logsigmoid(margin).mean(), margin
