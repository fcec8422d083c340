"""Attention lens."""
