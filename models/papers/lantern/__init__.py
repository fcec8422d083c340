"""LANTERN: relaxed acceptance (arXiv 2410.03355)."""
