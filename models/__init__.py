"""Tokenscope without a browser: `from models import atlas, find, run, load, save`.

find(id) -> a method; run(method, ...) -> its traces; save(trace) and load(text): a trace as JSON and back. Read when
first asked for, so that importing a part of this package loads nothing else.
"""

_PUBLIC = {"atlas": "models.engine.method", "find": "models.engine.method", "run": "models.engine.method",
           "load": "models.trace.serialize", "save": "models.trace.serialize",
           "from_text": "models.trace.subject", "from_image": "models.trace.subject",
           "from_example": "models.trace.subject"}
__all__ = list(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'models' has no attribute {name!r}")
    import importlib
    return getattr(importlib.import_module(_PUBLIC[name]), name)
