"""Floor 6: the commands. Everything slow is imported by the command that needs it."""
