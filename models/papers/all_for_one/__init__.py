"""All for One: mental arithmetic at the last token, with information from other tokens (arXiv 2509.09650)."""
