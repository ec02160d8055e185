"""Floor 1: the channel machine. It decides and never acts: no clock, socket, disk, chance or trio.

`step(channel, event, key)` says what an event makes of a channel; the shell saves the whole step and only then
sends and submits. One payment passes, in this order: `paying.queue` (ours), `updating.propose`,
`updating.got_commit` (theirs), `updating.got_ack` (ours), and for the other direction the same four again with
`paying.fulfil` in front. README.md beside this file states the rules R1-R22 that hold here.
"""
