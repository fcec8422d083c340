"""The record: a step is a hop. Left what its sender was told, then the message, right what its receiver knows."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from torch import Tensor
from torch.nn.functional import normalize, pad

from models.engine.method import Close, Event, Job
from models.engine.recording import Filling, bars, line, table
from models.papers.agent_language.telling import CHANNELS, SAID, Heard
from models.trace import Canvas, Cost, Fact, Field
from models.worlds import discs
from models.worlds.boards import FlatBoard

CELLS = np.arange(discs.ROWS * 12).reshape(discs.ROWS, 12)  # a board, a gap, two of the message, a gap, a board
LEFT, SENT, RIGHT = (CELLS[:, columns].ravel().tolist() for columns in (slice(4), slice(5, 7), slice(8, None)))
FIELDS = {"chance": Field("Chance of the true colour", "probability", 0.0, 1.0),
          "entropy": Field("Entropy of the sender's word", "nats", 0.0)}
LANE, GAP = (118, 121, 136), (160, 160, 158)
NEAR = 100  # added to the id of the word that a vector is nearest to


def recorded(job: Job, board: discs.Board, chain: list[Heard], first: dict[str, Heard], words: Tensor,
             cost: Cost) -> Iterator[Event]:
    """chain: hop by hop. first: the first hop in every channel. words: their vectors [V, D] to its network."""
    roles, arrows = np.full((2, CELLS.size), [["gap"], [""]], object)
    roles[LEFT], roles[RIGHT], roles[SENT], arrows[CELLS[1, [4, 7]]] = "sender's", "receiver's", "message", "→"
    page = Filling("sample", Canvas("grid", tuple(arrows), CELLS.shape, roles=tuple(roles)), FIELDS,
                   lambda id: "≈ " * (id >= NEAR) + discs.SAID[id % NEAR - SAID.start])
    slots, knows = SENT[: job.params.slots], np.eye(discs.LOOKS)[list(board)]  # [F, C], of whoever speaks
    page.fill(CELLS, state="known")
    page.fill(LEFT, state="context")
    yield page.open(len(chain) + 1)
    yield page.step("the board", picture=painted(knows), note="Left what a sender knows, right its receiver.")
    for hop, heard in enumerate(chain, 1):
        before, knows = knows, heard.chances[0]
        kept, false = discs.believed(knows, board)
        page.fill(LEFT, state="context" if hop == 1 else "known")
        page.guess(slots, pad(heard.words[0], (SAID.start, 0), value=-1e4),  # special tokens are never said
                   SAID.start + heard.words[0].argmax(-1), "sender")
        page.fill(slots, slot_ids(job, heard, words[SAID]), "new")
        page.fill(RIGHT, state=np.where(kept, "accepted", np.where(false, "refused", "known")),
                  chance=discs.true_chance(knows, board))
        yield page.step(f"hop {hop}", picture=painted(before, knows, slots=len(slots)), cost=cost, note=(
            f"known discs: {kept.sum()}, wrong ones: {false.sum()}; {discs.known(knows, board).sum():.1f} of "
            f"{discs.BITS} bits arrived. The surer, the larger a disc."))
    yield closing(job, board, chain, first)


def slot_ids(job: Job, heard: Heard, table: Tensor) -> Tensor:
    """Ids [k] of the words that were sent, or NEAR and the word that each vector is nearest to, which is no meaning."""
    if job.params.channel.endswith("words"):
        return SAID.start + heard.words[0].argmax(-1)
    return NEAR + SAID.start + (normalize(heard.vectors[0], dim=-1) @ normalize(table, dim=-1).T).argmax(-1)


def painted(*boards: np.ndarray, slots: int = 0) -> np.ndarray:
    """A board or two, from the chances [F, C] of each colour, and the slots between them."""
    picture = FlatBoard(*CELLS.shape)
    for cell in CELLS[:, 4:8].flat:
        picture.tint(int(cell), LANE if cell in SENT[:slots] else GAP)
    for cells, knows in zip((LEFT, RIGHT), boards):
        discs.paint(picture, cells, knows)
    return picture.picture()


def closing(job: Job, board: discs.Board, chain: Sequence[Heard], first: Mapping[str, Heard]) -> Close:
    knows = np.concatenate([heard.chances for heard in chain])  # [hops, F, C]
    boards = np.tile(board, (len(chain), 1))
    bits, (kept, false) = discs.known(knows, boards).sum(1).tolist(), discs.believed(knows, boards).sum(-1).tolist()
    k, sent = job.params.slots, {name: pipe(name, one) for name, one in first.items()}
    charts = (
        bars(f"What the first receiver knows from {k} slots", "channel, and bits sent", f"bits of {discs.BITS}",
             {"known": [discs.known(one.chances[0], board).sum() for one in first.values()]},
             [f"{CHANNELS[name]} ({sent[name]:,.0f})" for name in first]),
        line("What a receiver knows (below 0: sure of wrong discs)", f"bits of {discs.BITS}", {"known": bits}, first=1),
        line("Discs", "discs of 12", {"known": kept, "changed or invented": false}, first=1),
        table("Chance of the true colour", "field", "receiver", discs.true_chance(knows, boards),
              discs.PLACES, range(1, len(knows) + 1), unit="probability"))
    near = "" if job.params.channel.endswith("words") else " The word near a vector is not its meaning."
    return Close("sample", f"{sent[job.params.channel]:,.0f} bits were sent in {k} slots, {bits[0]:.1f} arrived; "
                 f"receiver {len(bits)} knows {bits[-1]:.1f}.{near}", charts, {
                     "first": Fact("Known after the first hop", bits[0], f"bits of {discs.BITS}", "higher"),
                     "last": Fact("Known after the last hop", bits[-1], f"bits of {discs.BITS}", "higher"),
                     "kept": Fact("Discs known at the end", kept[-1], "of 12", "higher"),
                     "false": Fact("Changed or invented at the end", false[-1], "discs of 12", "lower")})


def pipe(name: str, heard: Heard) -> float:
    """Bits that a message hands over at most, 32 a number: soft words are a probability of each of the 16."""
    whole = {"soft": heard.words}.get(name, heard.vectors if name.endswith("vectors") else None)
    return np.log2(heard.words.shape[-1]) * heard.words.shape[1] if whole is None else 32 * whole[0].numel()
