"""VFlowOpt (arXiv 2508.05211)."""
