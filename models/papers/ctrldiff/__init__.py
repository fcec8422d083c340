"""CtrlDiff: block diffusion whose block sizes a learned policy chooses, steered by a classifier (arXiv 2505.14455)."""

NETWORKS = {"BlockPolicy": "network"}
