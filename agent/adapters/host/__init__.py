"""The agent's own place on the machine: the endpoint's address, the tasks' bridge, sockets and firewall."""
