"""The container image of the agent: what goes into it, and how it is built where no registry is reachable."""
