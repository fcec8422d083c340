"""Exact speculative sampling."""
