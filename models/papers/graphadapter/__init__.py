"""GraphAdapter: what linked pages tell a frozen language model (arXiv 2402.12984)."""
NETWORKS = {"GraphAdapter": "network"}
