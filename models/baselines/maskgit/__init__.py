"""MaskGIT: every step in full."""
