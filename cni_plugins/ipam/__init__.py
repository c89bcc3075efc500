"""ecs-ipam: leases addresses of a subnet to tasks, for no longer than the kernel keeps its state."""
