"""Floor 2: the promise to remember. A batch is on disk, synced, when `commit` returns, or nothing of it is."""
