"""Recipes of the checkpoints that several methods start from, one small file each; a paper's own is in its folder."""
