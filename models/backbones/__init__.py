"""Networks that several methods share; nothing in here belongs to one paper."""
