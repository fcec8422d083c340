"""Bigram subnetworks (arXiv 2504.15471)."""

NETWORKS = {"BigramTable": "network"}
