"""ecs-ipam: leases addresses of a subnet to tasks, and keeps no promise longer than the kernel keeps its state."""
