"""Floor 3: the watchtower: a process of its own, with its own store and key. See `README.md` beside this file."""
