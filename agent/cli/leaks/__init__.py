"""``berth leaks``: what is on this machine and belongs to no task, looked for from outside of the agent."""
