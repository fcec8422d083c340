"""What the methods of this tab read: checkpoints and ready prompts (assets/texts/prune-*.txt)."""
from models.subject import Example

CHECKPOINTS = ("text-ar-1", "text-ar-retrieval-1")
EXAMPLES = (
    Example("story", "A story to go on with", "prune-story.txt"),
    Example("passages", "Who found what? Many short passages, one question", "prune-passages.txt"),
    Example("turns", "Two questions, one after the other", "prune-turns.txt"),
    Example("needle", "A secret number in a story of over 1,024 tokens", "prune-needle.txt"),
    Example("notes", "A list of numbers, one is asked for", "prune-notes.txt"),
)
