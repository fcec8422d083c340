"""DMT-JEPA (arXiv 2405.17995)."""

NETWORKS = {"JepaForPreTraining": "network"}
