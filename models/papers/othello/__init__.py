"""How a GPT learns Othello layer by layer: linear probes and sparse autoencoders (arXiv 2501.07108)."""
