"""One folder per technology. Adapters do not know each other; only ``agent.daemon`` knows them all."""
