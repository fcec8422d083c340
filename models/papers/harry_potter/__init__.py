"""Who's Harry Potter? (unlearning) (arXiv 2310.02238)."""
