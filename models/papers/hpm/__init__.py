"""Hard patches mining (arXiv 2312.13714)."""

NETWORKS = {"HpmForPreTraining": "network"}
