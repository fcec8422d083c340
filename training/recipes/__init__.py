"""One small recipe per shipped checkpoint."""
