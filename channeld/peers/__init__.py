"""Floor 2: trio streams round the wire's sessions. Who is there, and what they say; not what it means."""
