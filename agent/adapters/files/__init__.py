"""A task's state on disk, so that it outlives the agent."""
