"""Masked autoencoder."""
