"""The former place of the engine: snippets that were exported before the move still import from here."""

from models.engine.method import atlas, find, follow, prepare, run, twin

__all__ = ["atlas", "find", "follow", "prepare", "run", "twin"]
