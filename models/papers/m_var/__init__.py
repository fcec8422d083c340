"""M-VAR: attention inside a scale, a carried state between scales (arXiv 2411.10433)."""

NETWORKS = {"DecoupledScales": "network"}
