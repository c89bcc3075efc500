"""``python -m agent``: the same as ``berth``."""

import runpy

if __name__ == "__main__":
    runpy.run_module("agent.cli.main", run_name="__main__")
