"""How each kind of checkpoint is looked at: its tokens on a canvas, the call to observe, and what it predicts.

A Sight is made by `sight(job)` from the class of the model: a causal text model, a masked text model, a photo encoder,
classifier or feature model, or a masked scene model. Letters: N canvas tokens, S tokens of the sequence, V vocabulary.

Not covered: encoder-decoder models, and networks that do not ask transformers for their attention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from models.backbones.text import encode, pieces
from models.engine.method import Job
from models.loops.attend.loop import TokenLayout, grid_layout, marked, text_layout
from models.trace import limits, states
from models.trace.subject import SubjectError

FEATURES = 224  # pixels


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
    makers = {"LlamaForCausalLM": causal_text, "GPT2LMHeadModel": causal_text, "BertForMaskedLM": masked_text,
              "ViTMAEForPreTraining": photo_patches, "HpmForPreTraining": photo_patches,
              "ViTForImageClassification": photo_classes, "Dinov2Model": photo_features}
    kind = type(job.model).__name__
    if kind == "MaskedTransformer":
        return (masked_text if job.model.positions == "1d" else scene_codes)(job)
    if kind not in makers:
        raise SubjectError(f"The attention lens does not know a {kind} yet; choose one of {', '.join(sorted(makers))}.")
    return makers[kind](job)


def asked(query: int, count: int) -> int:
    """The asked token: -1 is the last one; SubjectError when there is no such token."""
    if not -count <= query < count:
        raise SubjectError(f"There is no token {query}; this subject has tokens 0 to {count - 1}.")
    return query % count


def causal_text(job: Job) -> Sight:
    """A text read from left to right: the query predicts the token after it, from itself and what stands before it."""
    model, ids = job.model, _ids(job)
    query = asked(job.params.query, ids.shape[1])

    def predict(tokens: Tensor) -> Tensor:
        states = model.base_model(tokens[:, : query + 1], use_cache=False).last_hidden_state
        return model.get_output_embeddings()(states[:, query]).log_softmax(-1)

    return Sight(_text(job, ids), query, model, lambda: model.base_model(ids, use_cache=False),
                 marked(ids.shape[1], query), ids[:, : query + 1], predict, model.get_input_embeddings(),
                 _token(job.tokenizer, "mask_token_id", "eos_token_id"), _name(job))


def masked_text(job: Job) -> Sight:
    """A text read from both sides: the query is masked, so that the model has to predict it from all others."""
    model, ids, mask = job.model, _ids(job, whole=True), _token(job.tokenizer, "mask_token_id")
    ends = job.params.query == -1 and int(ids[0, -1]) == job.tokenizer.sep_token_id  # -1 asks the last word
    query = asked(job.params.query - ends, ids.shape[1])
    layout = _text(job, ids)  # the canvas keeps the word that the model does not see
    ids[0, query] = mask

    def predict(tokens: Tensor) -> Tensor:
        out = model(tokens)
        return getattr(out, "logits", out)[:, query].log_softmax(-1)

    embedding = getattr(model, "embed_tokens", None) or model.get_input_embeddings()
    return Sight(layout, query, model, lambda: model(ids), marked(ids.shape[1], query, "masked"), ids, predict,
                 embedding, mask, _name(job))


def photo_patches(job: Job) -> Sight:
    """A whole photo, nothing hidden; -1 asks the patch in the middle."""
    from models.loops.mask.photos import encode as encode_photo
    from models.loops.mask.photos import photo
    view = photo(job.subject.image, job.model)
    layout = grid_layout(view.grid, view.shown, first=1, outside="[CLS]")
    query = middle(view.grid) if job.params.query == -1 else asked(job.params.query, view.count)
    everything = torch.zeros(1, view.count)
    return Sight(layout, query, job.model.vit, lambda: encode_photo(job.model, view.pixels, everything, 0),
                 marked(view.count, query))


def photo_classes(job: Job) -> Sight:
    """A photo as a classifier sees it; -1 asks the patch in the middle."""
    from models.backbones.pictures import cut
    shown, pixels = cut(job.subject.image, job.model)
    patches = job.model.vit.embeddings.patch_embeddings
    grid = tuple(size // patch for size, patch in zip(patches.image_size, patches.patch_size))
    query = middle(grid) if job.params.query == -1 else asked(job.params.query, patches.num_patches)
    layout = grid_layout(grid, shown, first=1, outside="[CLS]")
    return Sight(layout, query, job.model.vit, lambda: job.model.vit(pixels), marked(patches.num_patches, query))


def photo_features(job: Job) -> Sight:
    """A photo at the size on which self-taught features are usually read; -1 asks the patch in the middle."""
    from models.backbones.pictures import normalise, square
    model, like = job.model, next(job.model.parameters())
    side = max(FEATURES // model.config.patch_size, 1)
    shown = square(job.subject.image, side * model.config.patch_size)
    pixels = normalise(shown[None], model).to(like.device, like.dtype)
    query = middle((side, side)) if job.params.query == -1 else asked(job.params.query, side * side)
    layout = grid_layout((side, side), shown, first=1, outside="[CLS]")
    return Sight(layout, query, model, lambda: model(pixels), marked(side * side, query))


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
    things = scenes.read_caption(job.subject.text)
    cells = torch.randperm(scenes.SIDE**2, generator=job.generator(1))[: len(things)].tolist()
    drawing = scenes.draw([scenes.Thing(thing.colour, thing.shape, cell) for thing, cell in zip(things, cells)])
    pixels = torch.from_numpy(drawing).permute(2, 0, 1)[None].float() / 255
    return painter.encode(pixels.to(painter.basis.device)).flatten(1)


def _ids(job: Job, whole: bool = False) -> Tensor:
    """Token ids [1, S]; whole: with what the tokenizer puts around a text, such as BERT's [CLS] and [SEP]."""
    room = min(limits.TOKENS, getattr(job.model.config, "max_position_embeddings", limits.TOKENS))
    around = job.tokenizer("")["input_ids"] if whole else []
    ids = encode(job.tokenizer, job.subject.text, room - len(around))
    return torch.tensor([job.tokenizer(job.subject.text)["input_ids"] if around else ids], device=job.device)


def _text(job: Job, ids: Tensor) -> TokenLayout:
    """The text's tokens; a tokenizer of whole words drops the spaces between them, the canvas does not."""
    found = pieces(job.tokenizer, ids[0].tolist())
    if not any(" " in piece for piece in found):
        found = found[:1] + tuple(piece if piece.startswith((".", ",")) else " " + piece for piece in found[1:])
    return text_layout(found)


def _name(job: Job) -> Callable[[int], str]:
    return lambda token: pieces(job.tokenizer, [token])[0]


def _token(tokenizer, *names: str) -> int:
    """The first of these special ids that the tokenizer has, else 0."""
    return next((found for name in names if (found := getattr(tokenizer, name, None)) is not None), 0)


def middle(grid: tuple[int, int]) -> int:
    """The cell in the middle of a grid (row, column: half of each)."""
    return grid[0] // 2 * grid[1] + grid[1] // 2

