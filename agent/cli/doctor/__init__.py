"""``berth doctor``: looks at what tasks need of a machine, says what is wrong, mends what is safe."""
