"""The former place of subjects: snippets that were exported before the move still import from here."""

from models.trace.subject import from_example, from_image, from_text

__all__ = ["from_example", "from_image", "from_text"]
