"""Inverse reinforcement learning for language: IQLearn as TD-regularised maximum likelihood (arXiv 2409.01369)."""
