"""The nouns: what a task is, where it is, what happened to it. Standard library only."""
