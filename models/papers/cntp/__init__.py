"""Cautious next token prediction (arXiv 2507.03038)."""
