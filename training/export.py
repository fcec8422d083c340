"""From a finished run to assets/checkpoints: safetensors in the standard layout or packed, card and README.

The figures of a card are those of the file that is shipped: it is written, packed, read again and then measured.
"""
import hashlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from models.checkpoints.registry import SHIPPED, read
from models.engine.statistics import bootstrap


def figure(value: float, unit: str, n: int, samples=None) -> dict:
    """One measured figure; `samples` (one value per item) give a 95 % bootstrap interval of their mean."""
    made = {"value": round(float(value), 4), "unit": unit, "n": int(n)}
    if samples is not None:
        made["interval"] = [round(bound, 4) for bound in bootstrap(samples)[1:]]
    return made


def mean_figure(samples, unit: str) -> dict:
    """The figure of a mean over items, with its interval."""
    return figure(samples.mean(), unit, len(samples), samples)


def save_hub(model, folder: Path) -> None:
    """PyTorchModelHubMixin layout with "architectures" in config.json."""
    model.save_pretrained(folder, config={**model._hub_mixin_config, "architectures": [type(model).__name__]})
    (folder / "README.md").unlink(missing_ok=True)  # ours is written from the card


def read_shipped(name: str) -> torch.nn.Module:
    """A shipped checkpoint's network in float32, one of one's own: to go on from, or to compare with."""
    return read(SHIPPED / name)


def export(trainer, model) -> dict:
    """Writes the checkpoint folder of a finished run and returns its card."""
    recipe = trainer.recipe
    folder = SHIPPED / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    recipe.save(model.half().eval(), folder)
    stored = recipe.compact(folder)
    with torch.no_grad():
        figures = recipe.evaluate(recipe.read(folder))
    recipe.beside(folder)
    card = make_card(trainer, model, folder, figures, stored)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    (folder / "README.md").write_text(readme(card))
    return card


def make_card(trainer, model, folder: Path, figures: dict, stored: str = "") -> dict:
    recipe, weights, before = trainer.recipe, folder / "model.safetensors", trainer.before
    command = f"python -m training {recipe.name} --seed {recipe.seed} " + trainer.budget()
    if weights.stat().st_size >= 10_000_000:
        raise ValueError(f"{weights.name} has {weights.stat().st_size} bytes: files stay below 10 MB, make it smaller")
    return {
        "name": recipe.name, "architecture": recipe.architecture,
        "parameters": sum(p.numel() for p in model.parameters()), "bytes": weights.stat().st_size,
        **{key: value for key, value in (("stored", stored), ("replaces", replaced(recipe.replaces))) if value},
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "trained_on": recipe.trained_on,
        "data_licence": recipe.data_licence, "weights_licence": recipe.weights_licence,
        "recipe": f"{before['recipe']}, then {command} --warm" if before else command,
        "steps": trainer.step + before.get("steps", 0),
        "examples_seen": trainer.examples + before.get("examples_seen", 0), "seed": recipe.seed,
        "device": device_name(trainer), "minutes": round(trainer.elapsed / 60 + before.get("minutes", 0), 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **figures, "weak_at": recipe.weak_at, "budget_fraction": recipe.budget_fraction}


def replaced(name: str) -> list[str]:
    """Which checkpoints go now: this one, and those that it stood for."""
    path = SHIPPED / name / "card.json"
    before = json.loads(path.read_text("utf-8")).get("replaces", []) if name and path.is_file() else []
    return [*before, name] if name else []


def device_name(trainer) -> str:
    """Processor or GPU model."""
    if trainer.device.type == "cuda":
        return torch.cuda.get_device_name(trainer.device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} cores" if names else platform.processor()


def readme(card: dict) -> str:
    """The model card as a page: front matter, then the same facts."""
    rows = lambda figures: "".join(f"| {name} | {_value(f)} | {f['n']:,} |\n"  # noqa: E731
                                   for name, f in figures.items())
    held = card.get("stored", "in half precision")
    return f"""---
license: apache-2.0
tags: [tokenscope]
---
# {card["name"]}

{card["architecture"]}; {card["parameters"]:,} parameters, {card["bytes"]:,} bytes, {held}.

- Trained on: {card["trained_on"]}
- Data licence: {card["data_licence"]}
- Weights licence: {card["weights_licence"]}
- Recipe: `{card["recipe"]}`
- {card["steps"]:,} steps, {card["examples_seen"]:,} examples, seed {card["seed"]}
- {card["minutes"]} minutes on {card["device"]}, {card["date"]}
- Share of the planned budget: {card["budget_fraction"]}
- Weak at: {card["weak_at"]}
- sha256 of model.safetensors: `{card["sha256"]}`

| measured | value | items |
|---|---|---|
{rows(card["metrics"])}
| to compare | value | items |
|---|---|---|
{rows(card["trivial_baseline"])}"""


def _value(f: dict) -> str:
    interval = f" ({f['interval'][0]} to {f['interval'][1]})" if "interval" in f else ""
    return f"{f['value']} {f['unit']}{interval}"
