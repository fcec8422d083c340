"""Procedural worlds: subjects made by program, with the truth known."""
