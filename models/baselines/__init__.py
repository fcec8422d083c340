"""What papers stand beside, each in a folder like a paper's; papers may import these, never the other way round."""
