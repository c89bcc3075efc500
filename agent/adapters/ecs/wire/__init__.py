"""What is on the wire, as pure functions: messages <-> model. Nothing here does input or output."""
