"""Floor 0: the words everyone shares. Nothing here touches a clock, socket, disk or chance."""
