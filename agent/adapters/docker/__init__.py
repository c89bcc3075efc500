"""Runs containers on Docker Engine. Nothing else in the agent speaks to Docker."""
