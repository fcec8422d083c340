"""Selfie: which patch of the same photo belongs in this hole (arXiv 1906.02940)."""

NETWORKS = {"SelfieNet": "network"}
