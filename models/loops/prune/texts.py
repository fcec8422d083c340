"""What the methods of this tab read: checkpoints and ready prompts (assets/texts/prune-*.txt)."""
from models.trace.subject import Example

CHECKPOINTS = ("text-ar-retrieval-1", "text-ar-1")
EXAMPLES = (
    Example("secret", "A secret number hidden in a story", "prune-secret.txt"),
    Example("needle", "A secret number in a story of over 1,024 tokens", "prune-needle.txt"),
    Example("turns", "Two secret numbers, one question after the other", "prune-turns.txt"),
    Example("story", "A story to go on with", "prune-story.txt"),
)
WORLDLY = (Example("lighthouse", "The number of a lighthouse", "prune-lighthouse.txt", "text"),)  # for real English
