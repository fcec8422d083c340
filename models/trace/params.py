"""Parameters as one frozen declaration: controls, API schema and server-side validation all come from it.

    @dataclass(frozen=True)
    class Params:
        mask_ratio: Annotated[float, Span(0.25, 0.9, 0.05, "Mask ratio", unit="of patches")] = 0.75
        order: Annotated[str, Choice(("confidence", "random"), "Order")] = "confidence"

`parse` turns anything a visitor may send into an instance, or raises ParamError with one clear sentence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any, get_type_hints


class ParamError(ValueError):
    """A parameter outside its declaration; the sentence names it and what is allowed."""


@dataclass(frozen=True)
class Span:
    """A number low..high in steps; whole numbers when the declared type is int. `view`: answered from the trace."""

    low: float
    high: float
    step: float
    title: str
    help: str = ""
    unit: str = ""
    view: bool = False
    fold: bool = False

    def parse(self, name: str, value: Any, kind: type) -> float | int:
        if isinstance(value, str):
            value = _number(name, value)
        sound = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not sound or not self.low <= value <= self.high or (kind is int and value != int(value)):
            whole = "a whole number" if kind is int else "a number"
            raise ParamError(f"{name} must be {whole} from {self.low:g} to {self.high:g}, not {_short(value)}")
        return kind(value)

    def schema(self, kind: type) -> dict:
        return {"type": "integer" if kind is int else "number", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True)
class Choice:
    """One of a few names; titles (same length) are what the visitor reads."""

    options: tuple[str, ...]
    title: str
    help: str = ""
    titles: tuple[str, ...] = ()
    view: bool = False
    fold: bool = False

    def parse(self, name: str, value: Any, kind: type) -> str:
        if value not in self.options:
            raise ParamError(f"{name} must be one of {', '.join(self.options)}, not {_short(value)}")
        return value

    def schema(self, kind: type) -> dict:
        return {"type": "string", "enum": list(self.options)}


@dataclass(frozen=True)
class Flag:
    """On or off."""

    title: str
    help: str = ""
    view: bool = False
    fold: bool = False

    def parse(self, name: str, value: Any, kind: type) -> bool:
        words = {"true": True, "false": False, "on": True, "off": False, "1": True, "0": False}
        value = words.get(value.lower(), value) if isinstance(value, str) else value
        if not isinstance(value, bool):
            raise ParamError(f"{name} must be true or false, not {_short(value)}")
        return value

    def schema(self, kind: type) -> dict:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Words:
    """A short free text (never part of a link unless it is an example's). only: the kind of subject it is about; it is
    shown where one of the method's checkpoints takes such subjects."""

    title: str
    limit: int = 200
    help: str = ""
    view: bool = False
    fold: bool = False
    only: str = ""

    def parse(self, name: str, value: Any, kind: type) -> str:
        if not isinstance(value, str) or len(value) > self.limit:
            raise ParamError(f"{name} must be a text of at most {self.limit} characters")
        return value

    def schema(self, kind: type) -> dict:
        return {"type": "string", "maxLength": self.limit}


def declaration(params: type) -> dict[str, tuple[Any, type, Any]]:
    """name -> (declaration, type, default) of a Params class, in order."""
    hints = get_type_hints(params, include_extras=True)
    found = {}
    for item in fields(params):
        hint = hints[item.name]
        default = item.default if item.default is not MISSING else None
        found[item.name] = (hint.__metadata__[0], hint.__origin__, default)
    return found


def parse(params: type, given: Mapping[str, Any] | None = None) -> Any:
    """An instance of `params`; unknown names and values outside the declaration raise ParamError."""
    if given is not None and not isinstance(given, Mapping):
        raise ParamError("parameters must be given as names with values")
    declared, given = declaration(params), dict(given or {})
    unknown = [name for name in given if name not in declared]
    if unknown:
        allowed = ", ".join(declared) or "none"
        raise ParamError(f"there is no parameter {_short(unknown[0])}; this method has {allowed}")
    return params(**{name: declared[name][0].parse(name, value, declared[name][1]) for name, value in given.items()})


def schema(params: type) -> dict:
    """JSON schema of a Params class."""
    properties = {name: {**spec.schema(kind), "title": spec.title, "description": spec.help, "default": default}
                  for name, (spec, kind, default) in declaration(params).items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ParamError(f"{name} must be a number, not {_short(text)}") from None
    return int(value) if math.isfinite(value) and value == int(value) else value


def _short(value: Any) -> str:
    text = str(value)
    return repr(text if len(text) <= 40 else text[:37] + "...")
