"""Your LLM knows the future (arXiv 2507.11851)."""

NETWORKS = {"FutureAdapters": "network"}
