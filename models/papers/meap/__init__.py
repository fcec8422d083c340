"""MEAP, mask-enhanced autoregressive prediction (arXiv 2502.07490)."""
