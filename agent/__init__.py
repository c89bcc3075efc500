"""berth: a node agent that runs awsvpc tasks on the local Docker Engine."""

__version__ = "0.1.0"
