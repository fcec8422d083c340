"""A trace as one JSON text and back: arrays are zlib-compressed base64 with dtype and shape, and a schema version.

A file from elsewhere is untrusted: record names and array types come from fixed lists, sizes are capped, and every
failure is a TraceError with one sentence.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from models.trace import limits, records
from models.trace.records import Trace, TraceError

SCHEMA = 1
ARRAY_TYPES = ("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "bool")
_RECORDS = {cls.__name__: cls for cls in (
    records.Canvas, records.Field, records.Distribution, records.Edges, records.Cost, records.Step, records.Chart,
    records.Fact, records.Provenance, records.Heads, records.Rows, *records.TRACES.values())}


def save(trace: Trace) -> str:
    """The trace as one JSON text."""
    return json.dumps({"schema": SCHEMA, "record": type(trace).__name__, "trace": _pack(trace)}, allow_nan=False)


def load(text: str) -> Trace:
    """The trace in a JSON text written by `save`; raises TraceError on anything else."""
    try:
        document = json.loads(text)
        record = _RECORDS[document["record"]]
        known = document["schema"] == SCHEMA and issubclass(record, Trace)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TraceError("this is not a Tokenscope trace: no record name found in the JSON") from error
    records._need(known, "this trace was written by another version; run `make traces`")
    try:
        return _unpack(document["trace"])
    except TraceError:
        raise
    except Exception as error:  # a damaged file must not leak a traceback to a visitor
        raise TraceError(f"this trace file is damaged ({type(error).__name__})") from error


def _pack(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        packed = base64.b64encode(zlib.compress(np.ascontiguousarray(value).tobytes(), 6)).decode("ascii")
        return {"array": packed, "dtype": str(value.dtype), "shape": list(value.shape)}
    if is_dataclass(value):
        plain = {f.name: _pack(getattr(value, f.name)) for f in fields(value)}
        return {"is": type(value).__name__, **plain}
    if isinstance(value, Mapping):
        return {"map": [[_pack(key), _pack(item)] for key, item in value.items()]}
    if isinstance(value, (tuple, list)):
        return [_pack(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _unpack(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_unpack(item) for item in value)
    if not isinstance(value, dict):
        return value
    if "array" in value:
        raw = zlib.decompressobj().decompress(base64.b64decode(value["array"]), limits.ARRAY_BYTES)
        return np.frombuffer(raw, dtype=_dtype(value["dtype"])).reshape(value["shape"]).copy()
    if "map" in value:
        return {_unpack(key): _unpack(item) for key, item in value["map"]}
    cls = _RECORDS[value["is"]]
    found = {f.name: _unpack(value[f.name]) for f in fields(cls) if f.name in value}
    if cls is records.Fact and found["value"] is None:
        found["value"] = float("nan")  # not defined, which JSON cannot say
    return cls(**found)


def _dtype(name: str) -> np.dtype:
    records._need(name in ARRAY_TYPES, f"array type '{name}' is not allowed in a trace")
    return np.dtype(name)
