"""Next-token prediction on Theory-of-Mind stories (arXiv 2504.15604)."""
