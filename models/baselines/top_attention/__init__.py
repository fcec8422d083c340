"""Static pruning by attention."""
