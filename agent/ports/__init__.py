"""The plug points: Protocols only. What stands behind them is chosen in ``agent.daemon``."""
