"""Patchification scaling (arXiv 2502.03738)."""
