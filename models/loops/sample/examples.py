"""Texts on which several methods that write open."""

from models.trace.subject import Example

STORIES = (
    Example("garden", "The key to the garden", "sample-garden.txt", "text"),
    Example("mill", "The miller's cat", "sample-mill.txt", "text"),
    Example("rabbit-hole", "Alice, 1,100 tokens in", "sample-rabbit-hole.txt", "text"),
)
SUMS = (
    Example("four-steps", "A sum in four steps", "start 9, times 8, minus 50, minus 7, plus 5.", "problem"),
    Example("five-steps", "A sum in five steps", "start 6, times 7, plus 40, minus 47, plus 31, minus 37.", "problem"),
)
