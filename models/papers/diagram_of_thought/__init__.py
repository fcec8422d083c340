"""Diagram of Thought: one network proposes, criticises and sums up, and its text is a graph (arXiv 2409.10038)."""
