"""One folder per paper, holding only its difference: method, network, record, claim, recipe, NOTES.md.

A folder's __init__ names the networks that its checkpoints may load: NETWORKS, class -> module.
"""
