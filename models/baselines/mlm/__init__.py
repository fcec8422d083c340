"""Masked language model."""
