"""A machine inside this one, for tests: namespaces and control groups of its own, and a Docker daemon of its own.

What runs in it sees a machine on which nothing else is: its own network, processes, ``/run``, ``/var/lib`` and
control groups. The tree, ``/tmp`` and the kernel are shared. When it ends, everything in it is gone.
"""
