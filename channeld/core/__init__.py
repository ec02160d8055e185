"""Floor 1: the channel machine. It decides and never acts: no clock, socket, disk, chance or trio.

`step(channel, event, key)` says what an event makes of a channel; the shell saves the whole step and only then
sends and submits. One payment through a forwarder passes these functions, in this order (a test traces one):

    payer                paying.offer         the lock gets its number and waits in the queue
    payer                updating.propose     signed and saved: the payee's side may enforce it from now on
    forwarder, upstream  updating.got_commit  both have signed; acknowledged; `Arrived`: the desk looks for the way on
    payer                updating.got_ack     agreed; `Held`
    forwarder, down      paying.offer         only now, by what is agreed upstream (R8)
    forwarder, down      updating.propose
    payee                updating.got_commit
    forwarder, down      updating.got_ack
    payee                paying.fulfil        the preimage is remembered: this lock is never failed again
    payee                updating.propose
    forwarder, down      updating.got_commit  paid; `Learned`, saved with the acknowledgement
    payee                updating.got_ack     the payee has its money
    forwarder, upstream  paying.fulfil        the same preimage, one hop back
    forwarder, upstream  updating.propose
    payer                updating.got_commit  paid; the preimage is the payer's receipt
    forwarder, upstream  updating.got_ack

README.md beside this file states the rules R1-R22 that hold here.
"""
