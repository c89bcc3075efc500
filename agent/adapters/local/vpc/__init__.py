"""The simulated VPC: subnets, a router and interfaces made of kernel links, so a laptop looks like EC2."""
