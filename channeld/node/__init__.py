"""Floor 3: the trio shell of a node. It brings events to the core, saves what it decides, and then acts."""
