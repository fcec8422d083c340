"""Random dropping."""
