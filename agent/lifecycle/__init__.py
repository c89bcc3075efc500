"""The verbs: every decision about a task, as pure functions of its state. Read ``table`` first."""
