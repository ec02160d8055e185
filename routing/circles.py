"""A way round: out over one channel of ours, home over another.

A payment to ourselves is a payment to the neighbour that sends it home, who gets its fee on top. So the search is that
of any payment, over the one channel it is to leave by; the last hop is priced by hand, since gossip's edges of our own
are never searched. No way passes through us in between.
"""

from __future__ import annotations

from dataclasses import replace

from channeld.base.units import Amount, Seconds
from routing.edges import Edge
from routing.graph import Graph
from routing.search import Hop, NoRoute, Route
from routing.splitting import Ask, alone
from routing.ways import OwnChannel


def find_circle(graph: Graph, ask: Ask, first: OwnChannel, last: Edge) -> Route:
    """The cheapest route of one part from `ask.source` to itself.

    Args:
        ask: source and target are the same; its own channels are not looked at. Its limits are of the whole way.
        first: the channel it leaves by.
        last: the direction it comes home by, from the neighbour there to us.

    Raises:
        NoRoute: as `search.find_route`; "no_route" also where the last hop does not pass the amount on.
    """
    policy, direction = last.policy, (last.channel_id, last.side)
    closed = direction in ask.exclude or ask.amount >= ask.short.get(direction, ask.amount + 1)
    if policy is None or closed or not last.carries(ask.amount):
        raise NoRoute(
            "no_route", f"the last hop, over channel 0x{last.channel_id.hex()}, does not pass on {ask.amount}"
        )
    toll = policy.fee(ask.amount)
    if toll > ask.max_fee:
        raise NoRoute("fee_budget", f"the last hop alone takes {toll}, more than {ask.max_fee}", "raise the fee limit")
    if ask.amount + toll > first.spendable:
        raise NoRoute("own_channels_short", f"the first channel can send {first.spendable}, not {ask.amount} and fees")
    way = alone(
        graph,
        replace(
            ask,
            target=last.source,
            amount=Amount(ask.amount + toll),
            final_expiry_delta=Seconds(ask.final_expiry_delta + policy.expiry_delta),
            own_channels=(first,),
            max_fee=Amount(ask.max_fee - toll),
            max_hops=ask.max_hops - 1,
        ),
    )
    home = Hop(
        channel_id=last.channel_id,
        side=last.side,
        source=last.source,
        target=ask.source,
        amount=ask.amount,
        expiry_delta=ask.final_expiry_delta,
        fee=toll,
        capacity=last.capacity,
    )
    return Route(hops=(*way.hops, home), cost=way.cost)
