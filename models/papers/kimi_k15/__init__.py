"""Kimi k1.5: reinforcement learning of thoughts by mirror descent, with a length penalty (arXiv 2501.12599)."""
