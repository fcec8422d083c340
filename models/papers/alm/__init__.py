"""ALM: a byte model learns from a token model by the likelihood of pieces that both can express (arXiv 2503.20083)."""
