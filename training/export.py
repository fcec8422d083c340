"""From a finished run to assets/checkpoints: half-precision safetensors in the standard layout, card and README."""
import hashlib
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from models.engine.statistics import bootstrap

SHIPPED = Path(__file__).resolve().parents[1] / "assets" / "checkpoints"


def figure(value: float, unit: str, n: int, samples=None) -> dict:
    """One measured figure; `samples` (one value per item) give a 95 % bootstrap interval of their mean."""
    made = {"value": round(float(value), 4), "unit": unit, "n": int(n)}
    if samples is not None:
        made["interval"] = [round(bound, 4) for bound in bootstrap(samples)[1:]]
    return made


@torch.no_grad()
def round_to_half(model) -> None:
    """Rounds all that is saved to what fp16 can hold, in place, so that the figures are those of the shipped file."""
    for saved in model.state_dict().values():
        if saved.is_floating_point():
            saved.copy_(saved.half())


def save_hub(model, folder: Path) -> None:
    """PyTorchModelHubMixin layout with "architectures" in config.json."""
    model.save_pretrained(folder, config={**model._hub_mixin_config, "architectures": [type(model).__name__]})
    (folder / "README.md").unlink(missing_ok=True)  # ours is written from the card


def read_shipped(name: str):
    """A shipped checkpoint of the hub-mixin layout, by its class, in float32."""
    from models.backbones.causal import CausalTransformer
    from models.backbones.codebook import PatchCodebook
    from models.backbones.fsq import FsqTokenizer
    from models.backbones.masked import MaskedTransformer

    kinds = {k.__name__: k for k in (CausalTransformer, FsqTokenizer, MaskedTransformer, PatchCodebook)}
    config = json.loads((SHIPPED / name / "config.json").read_text())
    return kinds[config["architectures"][0]].from_pretrained(SHIPPED / name).float().eval()


def export(trainer, model) -> dict:
    """Writes the checkpoint folder of a finished run and returns its card."""
    recipe = trainer.recipe
    folder = SHIPPED / recipe.name
    folder.mkdir(parents=True, exist_ok=True)
    model = model.float().eval()
    round_to_half(model)
    with torch.no_grad():
        figures = recipe.evaluate(model)
    recipe.save(model.half(), folder)
    card = make_card(trainer, model, folder, figures)
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n")
    (folder / "README.md").write_text(readme(card))
    return card


def make_card(trainer, model, folder: Path, figures: dict) -> dict:
    recipe, weights, before = trainer.recipe, folder / "model.safetensors", trainer.before
    command = f"python -m training {recipe.name} --seed {recipe.seed} " + trainer.budget()
    if weights.stat().st_size >= 10_000_000:
        raise ValueError(f"{weights.name} has {weights.stat().st_size} bytes: files stay below 10 MB, make it smaller")
    return {
        "name": recipe.name, "architecture": recipe.architecture,
        "parameters": sum(p.numel() for p in model.parameters()), "bytes": weights.stat().st_size,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(), "trained_on": recipe.trained_on,
        "data_licence": recipe.data_licence, "weights_licence": recipe.weights_licence,
        "recipe": f"{before['recipe']}, then {command} --warm" if before else command,
        "steps": trainer.step + before.get("steps", 0),
        "examples_seen": trainer.examples + before.get("examples_seen", 0), "seed": recipe.seed,
        "device": device_name(trainer), "minutes": round(trainer.elapsed / 60 + before.get("minutes", 0), 1),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        **figures, "weak_at": recipe.weak_at, "budget_fraction": recipe.budget_fraction}


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
    return f"""---
license: apache-2.0
tags: [tokenscope]
---
# {card["name"]}

{card["architecture"]}; {card["parameters"]:,} parameters, {card["bytes"]:,} bytes in half precision.

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
