"""The trainer: schedule, resuming bit for bit, batches without replacement."""
import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.checkpoints import registry, verify
from tests.traps import caught
from training import data, export
from training.optimisers import schedule
from training.polite import Polite
from training.trainer import Recipe, Trainer, rng_of


class Net(torch.nn.Sequential):
    """Two layers."""

    def __init__(self):
        super().__init__(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))


def read(folder, config):
    """The reader of its layout."""
    made = Net().half()
    made.load_state_dict(load_file(folder / "model.safetensors"))
    return made


class Line(Recipe):
    """A straight line with noise in the loss, so that torch's generator is part of what must resume."""

    name, compile, autocast, look = "line", False, False, 1e9
    lr, lr_adam, ema = 0.01, 0.01, 0.9

    def build(self):
        return Net()

    def batch(self, step, progress):
        x = rng_of(self.seed, step).standard_normal((8, 4)).astype(np.float32)
        return {"x": torch.from_numpy(x)}

    def loss(self, model, batch, progress):
        x = batch["x"]
        return (model(x)[:, 0] - x.sum(1) + 0.1 * torch.randn(8)).pow(2).mean(), {}


class Forgetful(Trainer):
    """Mutant: resumes the weights but not the optimisers."""

    def load(self):
        fresh = [o.state_dict() for o in self.optimisers]
        super().load()
        for opt, state in zip(self.optimisers, fresh, strict=True):
            opt.load_state_dict(state)


def interrupted(kind, folder) -> dict:
    """Stops after 7 of 20 steps, then goes on in a new process's place."""
    first = kind(Line(1), steps=20, folder=folder, say=lambda line: None)
    for _ in range(7):
        first.update(first.recipe.loss)
        first.step += 1
    first.save()
    return kind(Line(1), steps=20, folder=folder, say=lambda line: None).run().state_dict()


def same(a, b) -> bool:
    return all(torch.equal(a[k], b[k]) for k in a)


def test_a_resumed_run_ends_bit_for_bit_where_it_would_have(tmp_path):
    whole = Trainer(Line(1), steps=20, folder=tmp_path / "whole", say=lambda line: None).run().state_dict()
    assert same(whole, interrupted(Trainer, tmp_path / "parts"))
    assert not same(whole, interrupted(Forgetful, tmp_path / "mutant"))


class Anew(Line):
    """Its optimisers forget before steps 0 and 3."""

    def fresh(self, step):
        return step % 3 == 0


def test_optimisers_begin_anew_where_a_recipe_says_so(tmp_path):
    def steps(kind):
        made = Trainer(kind(0), steps=5, folder=tmp_path / kind.__name__, say=lambda line: None)
        made.run()
        return {int(state["step"]) for one in made.optimisers for state in one.state.values() if "step" in state}
    caught(lambda kind: steps(kind) == {2}, Anew, Line)


def test_another_seed_is_another_run(tmp_path):
    made = [Trainer(Line(seed), steps=5, folder=tmp_path / str(seed), say=lambda line: None) for seed in (1, 2)]
    assert not same(*(trainer.run().state_dict() for trainer in made))


def test_the_learning_rate_warms_up_and_reaches_zero():
    rates = [schedule(p, 0.1, 0.5) for p in (0, 0.05, 0.1, 0.3, 0.5, 0.75, 1)]
    assert rates == pytest.approx([0, 0.5, 1, 1, 1, 0.5, 0])


def test_blocks_do_not_repeat_within_an_epoch_and_follow_the_stream():
    tokens = np.arange(1000)
    rows = np.concatenate([data.blocks(tokens, 20, 8, step, seed=3) for step in range(5)])
    assert len(set(rows[:, 0])) == 40
    assert (np.diff(rows, axis=1) == 1).all()
    assert (data.blocks(tokens, 20, 8, 2, 3) == rows[16:24]).all()


def test_what_is_kept_is_made_once(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"texts": np.zeros((1, 2), np.uint16), "bits": np.array(1.5)}

    for _ in range(2):
        found = data.kept(tmp_path / "own.npz", make)
    assert made == [1] and found["texts"].shape == (1, 2) and float(found["bits"]) == 1.5


def test_a_warm_run_goes_on_from_the_shipped_weights_and_counts_both(tmp_path, monkeypatch):
    shipped = {k: torch.full_like(v, 0.5) for k, v in Line(1).build().state_dict().items()}
    (tmp_path / "line").mkdir()
    save_file(shipped, tmp_path / "line" / "model.safetensors")
    (tmp_path / "line" / "config.json").write_text('{"architectures": ["Net"]}')
    monkeypatch.setitem(registry.READERS, "Net", read)
    card = {"recipe": "python -m training line --seed 0 --steps 9", "steps": 9, "examples_seen": 72, "minutes": 1.5}
    (tmp_path / "line" / "card.json").write_text(json.dumps(card))
    monkeypatch.setattr(export, "SHIPPED", tmp_path)
    made = Trainer(Line(1), steps=3, folder=tmp_path / "runs", say=lambda line: None, warm=True)
    assert same(made.model.state_dict(), shipped) and same(made.ema, shipped) and made.recipe.warmed
    made.run()
    again = Trainer(Line(1), steps=3, folder=tmp_path / "runs", say=lambda line: None)
    assert again.before == card and again.recipe.warmed  # a resumed warm run still knows what it stands on
    counted = export.make_card(again, again.model, tmp_path / "line", {})
    assert (counted["steps"], counted["examples_seen"]) == (12, 96)
    assert counted["recipe"].endswith("--seed 1 --steps 3 --warm")


def test_version_2_goes_on_from_version_1(tmp_path, monkeypatch):
    class Second(Line):
        name, start = "line-2", "line"

    shipped = {k: torch.full_like(v, 0.5) for k, v in Net().state_dict().items()}
    (tmp_path / "line").mkdir()
    save_file(shipped, tmp_path / "line" / "model.safetensors")
    (tmp_path / "line" / "config.json").write_text('{"architectures": ["Net"]}')
    card = {"recipe": "python -m training line", "steps": 9, "examples_seen": 72, "minutes": 1.5}
    (tmp_path / "line" / "card.json").write_text(json.dumps(card))
    monkeypatch.setitem(registry.READERS, "Net", read)
    monkeypatch.setattr(export, "SHIPPED", tmp_path)
    made = Trainer(Second(1), steps=3, folder=tmp_path / "runs", say=lambda line: None, warm=True)
    assert same(made.model.state_dict(), shipped) and made.before == card
    with pytest.raises(verify.WeightsError):  # without `start` it would look for itself
        Trainer(type("Alone", (Line,), {"name": "line-2"})(1), steps=3, folder=tmp_path / "other", warm=True)


class Shipped(Line):
    """A recipe whose figure is its largest weight, as it will be read."""

    name, pack, replaces = "line-2", 4, "line-1"

    def save(self, model, folder):
        save_file(model.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text('{"architectures": ["Net"]}')

    def evaluate(self, model):
        self.measured = {name: one.clone() for name, one in model.state_dict().items()}
        return {"metrics": {}, "trivial_baseline": {}}

    def beside(self, folder):
        (folder / "late.json").write_text(json.dumps(len(self.measured)))


@pytest.mark.parametrize("bits", [0, 4, 6])
def test_figures_are_measured_on_the_file_that_is_shipped(bits, tmp_path, monkeypatch):
    def packed(folder, config):
        made = Net()
        found = registry.unpacked(folder)
        made.load_state_dict(load_file(folder / "model.safetensors") if found is None else found)
        return made

    monkeypatch.setitem(registry.READERS, "Net", packed)
    monkeypatch.setattr(export, "SHIPPED", tmp_path)
    monkeypatch.setattr(Shipped, "pack", bits)
    trainer = Trainer(Shipped(1), steps=3, folder=tmp_path / "runs", say=lambda line: None)
    trained = {name: one.clone() for name, one in trainer.run().state_dict().items()}
    card = export.export(trainer, trainer.model)
    read_again = packed(tmp_path / "line-2", {}).float().state_dict()
    assert same(trainer.recipe.measured, read_again) and not same(trainer.recipe.measured, trained)
    assert (tmp_path / "line-2" / "late.json").read_text() == "4"
    assert (f"{bits} bits a weight" in card.get("stored", "")) == (bits > 0) and card["replaces"] == ["line-1"]
    assert card["bytes"] == (tmp_path / "line-2" / "model.safetensors").stat().st_size


def test_a_run_keeps_to_the_threads_that_it_is_told(monkeypatch):
    """Two runs of all cores each wait for each other's threads."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert (Polite().cores, Polite(3).cores) == (1, 3)
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert Polite().cores == os.cpu_count()
