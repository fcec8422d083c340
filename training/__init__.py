"""Training of the shipped checkpoints: `python -m training NAME`."""
