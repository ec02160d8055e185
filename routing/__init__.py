"""Finds the way. Pure: no clock, socket, disk or chance; knows `channeld.base` and networkx, nothing else."""
