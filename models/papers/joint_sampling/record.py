"""What ADJUST's Unmask record adds to the loop's: every token's place in its round, and the layer beside the truth.

The truth is the frozen model on the text as it stands now, run for the picture only, after the layer has answered.
Letters: P masked positions, V vocabulary.
"""
from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from models.engine.recording import distribution, line, spread
from models.loops.sample.cached_lm import divergence
from models.loops.unmask import loop
from models.loops.unmask.canvases import Board
from models.loops.unmask.loop import Shot, indices, read
from models.trace import Chart, Distribution, Fact, Field, Step

FIELDS = {**loop.FIELDS,
          "place": Field("Place in its round: 1 from the full pass, later ones from the layer", "token", 1.0, 8.0),
          "kl": Field("Layer's distance from a full pass: KL", "nats", 0.0)}
LAYER, TRUTH, BEFORE = "the layer", "a full pass (true)", "before the new tokens"


class Watch:
    """Looks at every move of a run. errors: place in the round -> [(KL of the layer, KL of unchanged guesses)]."""

    def __init__(self, board: Board, adjust, truth: bool):
        self.board, self.adjust, self.truth = board, adjust, truth
        self.place = np.full(board.canvas.size, np.nan, np.float32)
        self.at, self.stale, self.named = 0, None, set()
        self.errors: dict[int, list[tuple[float, float]]] = {}

    def seen(self, shot: Shot) -> tuple[Step, dict[int, str]]:
        """The loop's step with what is known here, and names of ids that appear for the first time."""
        turn, label = shot.turn, shot.turn.moment.move.label
        self.at = 1 if label == "full" else self.at + 1
        self.place[turn.revealed[0].cpu().numpy()] = self.at
        fields = {**shot.step.fields, "place": self.place.copy()}
        if label == "full":
            self.stale = torch.full((1, len(self.place), turn.found.logits.shape[-1]), -torch.inf)
            self.stale[0, turn.found.positions[0].cpu()] = turn.found.logits[0].float().cpu()
        distributions = shot.step.distributions
        if label == "layer" and self.truth:
            distributions, fields["kl"] = self.compared(shot)
        return self.tidied(replace(shot.step, fields=fields, distributions=distributions), shot)

    @torch.inference_mode()
    def compared(self, shot: Shot) -> tuple[dict[str, Distribution], np.ndarray]:
        """The layer's, the true and the unchanged distributions at the masks of this move; KL [N] of the layer."""
        moment, found = shot.turn.moment, shot.turn.found
        true = self.true_logits(moment.ids, moment.masked)[0]
        stale, places = self.stale[0, found.positions[0].cpu()].to(true.device), found.positions[0].cpu().numpy()
        layer_kl, stale_kl = divergence(true, found.logits[0]), divergence(true, stale)
        self.errors.setdefault(self.at, []).append((float(layer_kl.mean()), float(stale_kl.mean())))
        kl = spread(len(self.place), places, layer_kl)
        drawn = shot.step.distributions["model"]
        others = ((TRUTH, true), (BEFORE, stale))
        return {LAYER: drawn, **{name: distribution(rows, places, drawn.chosen) for name, rows in others}}, kl

    def true_logits(self, ids: Tensor, masked: Tensor) -> Tensor:
        """The trunk's logits [B, P, V] on this text; the method's own states stay as they are."""
        hidden = self.adjust.full_pass(*self.adjust.trunk.embed(ids)).hidden
        return read(self.adjust.trunk, hidden, indices(masked), 0.0, self.board.forbidden)

    def tidied(self, step: Step, shot: Shot) -> tuple[Step, dict[int, str]]:
        ids = {*shot.names, *(int(i) for d in step.distributions.values() for i in d.top_ids.ravel())} - self.named
        self.named |= ids
        return step, {id: self.board.names(id) for id in sorted(ids)}

    def facts(self) -> dict[str, Fact]:
        """Mean distance of the layer and of unchanged guesses from the truth, where it was asked for."""
        every = np.array([pair for pairs in self.errors.values() for pair in pairs])
        if not len(every):
            return {}
        layer, stale = every.mean(0)
        return {"kl": Fact("Layer's distance from the truth", float(layer), "nats per mask", "lower"),
                "stale": Fact("Unchanged guesses' distance", float(stale), "nats per mask", "lower")}

    def charts(self) -> tuple[Chart, ...]:
        """Both distances along the round."""
        if not self.errors:
            return ()
        places = sorted(self.errors)
        means = np.array([np.mean(self.errors[place], 0) for place in places])
        return (line("Distance from the truth along a round", "KL (nats per mask)",
                     {"the layer": means[:, 0], "unchanged": means[:, 1]}, at=np.array(places) - 1, by_step=False,
                     x="tokens drawn since the full pass",
                     caption="KL from a full pass on the text as it stands now."),)
