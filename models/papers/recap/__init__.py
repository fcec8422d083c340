"""ReCAP: reuse context features (arXiv 2505.19089)."""
