"""POPri: clients score, noise is added, pairs teach."""
