"""Insertion language models: say where to insert and what, one token at a time, and when to stop (arXiv 2505.05755)."""

NETWORKS = {"InsertionLM": "network"}
