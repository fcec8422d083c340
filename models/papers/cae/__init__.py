"""Context Autoencoder (arXiv 2202.03026)."""

NETWORKS = {"CaeForPreTraining": "network", "CodesMaeForPreTraining": "network"}
