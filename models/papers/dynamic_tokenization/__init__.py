"""Retrofitting language models with dynamic tokenization (arXiv 2411.18553)."""

NETWORKS = {"EmbeddingHypernetwork": "network"}
