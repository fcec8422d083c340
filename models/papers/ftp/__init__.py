"""Future token prediction: one vector writes the next N words (arXiv 2410.18160)."""

NETWORKS = {"FutureDecoder": "network", "FutureHeads": "network"}
