"""How each kind of checkpoint is looked at: its tokens on a canvas, the call to observe, and what it predicts.

A Sight is made by `sight(job)` from what kind of network the model's class is (models/checkpoints/families.py): one
that reads a text from the left or from both sides, one that sees pictures, or our masked scene model. Letters: N canvas
tokens, S tokens of the sequence, V vocabulary.

Not covered: encoder-decoder models, and networks that do not ask transformers for their attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.pictures import from_uint8
from models.backbones.text import Reading, names, read, room
from models.checkpoints import families
from models.engine.method import Job
from models.loops.attend.loop import TokenLayout, grid_layout, marked, text_layout
from models.trace import limits, states
from models.trace.subject import SubjectError

FEATURES = 224  # pixels, at which self-taught features are usually read
SELF_TAUGHT = ("Dinov2Model", "Dinov2WithRegistersModel")


@dataclass(frozen=True, eq=False)
class Sight:
    """layout: the canvas; query: the asked token; observed: the module to observe; forward(): one pass over the
    subject; state [N] codes.

    Texts can also be asked what they predict at the query, and why: ids [1, S]; predict(ids [B, S]) -> log-probability
    [B, V]; embedding: the input layer; blank: the id that stands for "no token"; name(id): how a token reads.
    """

    layout: TokenLayout
    query: int
    observed: nn.Module
    forward: Callable[[], object]
    state: np.ndarray
    ids: Tensor | None = None
    predict: Callable[[Tensor], Tensor] | None = None
    embedding: nn.Module | None = None
    blank: int = 0
    name: Callable[[int], str] = str


def sight(job: Job) -> Sight:
    """The way to look at this job's model; SubjectError when the lens does not know its kind."""
    kind = type(job.model).__name__
    if kind == "MaskedTransformer":
        return (masked_text if job.model.positions == "1d" else scene_codes)(job)
    makers = {**dict.fromkeys((*families.CAUSAL, *families.HEADLESS), causal_text),
              **dict.fromkeys((*families.MASKED, *families.ENCODERS), masked_text),
              **dict.fromkeys(families.PICTURES, photo_patches),
              **dict.fromkeys(("ViTMAEForPreTraining", "ViTMAEModel", "HpmForPreTraining"), photo_unmasked)}
    if kind not in makers:
        raise SubjectError(f"The attention lens does not know a {kind} yet; choose another checkpoint.")
    return makers[kind](job)


def asked(query: int, count: int) -> int:
    """The asked token: -1 is the last one; SubjectError when there is no such token."""
    if not -count <= query < count:
        raise SubjectError(f"There is no token {query}; this subject has tokens 0 to {count - 1}.")
    return query % count


def of_text(query: int, text: Reading) -> int:
    """The asked token of a text: -1 is the last one of the visitor's own, whatever closes the text."""
    return len(text.before_more()) - 1 if query == -1 else asked(query, len(text))


def causal_text(job: Job) -> Sight:
    """A text read from left to right: the query predicts the token after it, from itself and what stands before it."""
    model, (text, ids) = job.model, _read(job)
    query = of_text(job.params.query, text)

    def predict(tokens: Tensor) -> Tensor:
        return model(tokens[:, : query + 1], use_cache=False, logits_to_keep=1).logits[:, -1].log_softmax(-1)

    seen = Sight(text_layout(text.labels, text.roles), query, model, lambda: model.base_model(ids, use_cache=False),
                 marked(ids.shape[1], query))
    if model.get_output_embeddings() is None:
        return seen
    return replace(seen, ids=ids[:, : query + 1], predict=predict, embedding=model.get_input_embeddings(),
                   blank=_token(job.tokenizer, "mask_token_id", "eos_token_id"), name=_name(job))


def masked_text(job: Job) -> Sight:
    """A text read from both sides. Where the model can guess words, the query is masked, so that it has to be predicted
    from all others; a network without such a head only looks."""
    model, (text, ids) = job.model, _read(job)
    query = of_text(job.params.query, text)
    layout = text_layout(text.labels, text.roles)  # the canvas keeps the word that the model does not see
    if type(model).__name__ in families.ENCODERS:
        return Sight(layout, query, model, lambda: model.base_model(ids), marked(ids.shape[1], query))
    mask = _token(job.tokenizer, "mask_token_id")
    ids[0, query] = mask

    def predict(tokens: Tensor) -> Tensor:
        out = model(tokens)
        return getattr(out, "logits", out)[:, query].log_softmax(-1)

    embedding = getattr(model, "embed_tokens", None) or model.get_input_embeddings()
    return Sight(layout, query, model, lambda: model(ids), marked(ids.shape[1], query, "masked"), ids, predict,
                 embedding, mask, _name(job))


def photo_patches(job: Job) -> Sight:
    """A photo as a picture network sees it; -1 asks the patch in the middle."""
    model, shown, pixels, grid = _photo(job)
    return _patches(job, model, shown, grid, families.in_front(job.model), lambda: model(pixels))


def photo_unmasked(job: Job) -> Sight:
    """A whole photo, nothing hidden, for a network that hides patches of every photo by itself."""
    from models.loops.mask.photos import encode
    model, shown, pixels, grid = _photo(job)
    nothing = torch.zeros(1, grid[0] * grid[1])
    return _patches(job, model, shown, grid, 1, lambda: encode(model, pixels, nothing, 0))


def _photo(job: Job):
    """The network that looks, the photo as it is shown and as it is read, and the grid of its patches."""
    from models.backbones.pictures import cut
    config, model = job.model.config, job.model.base_model
    side = config.image_size
    if type(job.model).__name__ in SELF_TAUGHT:
        side = max(FEATURES // config.patch_size, 1) * config.patch_size
    return model, *cut(job.subject.image, job.model, side), (side // config.patch_size,) * 2


def _patches(job: Job, observed, shown, grid: tuple[int, int], first: int, forward) -> Sight:
    count = grid[0] * grid[1]
    query = middle(grid) if job.params.query == -1 else asked(job.params.query, count)
    layout = grid_layout(grid, shown, first=first, outside="[CLS]" if first == 1 else "tokens before the patches")
    return Sight(layout, query, observed, forward, marked(count, query))


def scene_codes(job: Job) -> Sight:
    """A drawn scene under its caption, half of its codes masked; places and mask come from the seed."""
    from models.loops.unmask.canvases import picture, scene_board
    model, painter = job.model, job.companion("scene-vq-1").model
    board = scene_board(model, painter, job.subject.text)
    ids = _drawn(job, painter).to(board.ids.device)
    count, shape = ids.shape[1], model.grid
    hidden = torch.rand(1, count, generator=job.generator()).to(ids.device) < 0.5
    ids = ids.masked_fill(hidden, model.mask_token_id)
    layout = grid_layout(shape, picture(painter, ids, model.mask_token_id, shape), model.cond_length, "the caption")
    query = middle(shape) if job.params.query == -1 else asked(job.params.query, count)
    state = states(*["masked" if one else "visible" for one in hidden[0].tolist()])
    return Sight(layout, query, model, lambda: model(ids, board.cond), marked(count, query, state=state))


def _drawn(job: Job, painter) -> Tensor:
    """Codes [1, N] of a scene as the caption asks for it, at places drawn from the seed."""
    from models.worlds import scenes
    things = scenes.placed(job.subject.text, torch.randperm(scenes.SIDE**2, generator=job.generator(1)))
    return painter.encode(from_uint8(scenes.pictures([things])).to(painter.basis.device)).flatten(1)


def _read(job: Job) -> tuple[Reading, Tensor]:
    """The text with what the tokenizer puts around it, and its ids [1, S]."""
    found = read(job.tokenizer, job.subject.text, min(limits.TOKENS, room(job.model)))
    return found, torch.tensor([found.ids], device=job.device)


def _name(job: Job) -> Callable[[int], str]:
    return lambda token: names(job.tokenizer, [token])[0]


def _token(tokenizer, *names: str) -> int:
    """The first of these special ids that the tokenizer has, else 0."""
    return next((found for name in names if (found := getattr(tokenizer, name, None)) is not None), 0)


def middle(grid: tuple[int, int]) -> int:
    """The cell in the middle of a grid (row, column: half of each)."""
    return grid[0] // 2 * grid[1] + grid[1] // 2

