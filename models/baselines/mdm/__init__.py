"""Masked diffusion text."""
