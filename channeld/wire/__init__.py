"""Floor 1: bytes and text from outside become values, values become bytes; no socket, clock, disk or chance."""
