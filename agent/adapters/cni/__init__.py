"""Joins sandboxes to the network by calling CNI plugins: any that conform, ours by preference."""
