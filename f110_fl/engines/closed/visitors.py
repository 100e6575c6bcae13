"""Who is connected, and how many may be: bounds that hold before anybody has said who he is."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bounds:
    """What a visitor may use.

    Attributes:
        strangers: Connections of all who have not proved who they are.
        strangers_address: Those from one address (IPv6: from one /64).
        prove_within: Time from connecting to the first request that proves who it is from, s.
        connections_each: Connections of one client or operator.
        requests_each: Their requests at work at the same time.
        new_rate: New connections from one address, 1/s; `new_burst` at once.
        new_burst: See `new_rate`.
        request_rate: Requests of one client or operator, 1/s; `request_burst` at once.
        request_burst: See `request_rate`.
        body: Largest body of a request, bytes; Flower sends tensors in parts of 5 MiB, and apps of
            10 MiB at most.
        body_time: Longest time that a body may take to arrive, s.
        header: Largest header of a request, bytes.
    """

    strangers: int = 128
    strangers_address: int = 32
    prove_within: float = 10.0
    connections_each: int = 32
    requests_each: int = 32
    new_rate: float = 20.0
    new_burst: float = 100.0
    request_rate: float = 200.0
    request_burst: float = 1000.0
    body: int = 32 * 1024 * 1024
    body_time: float = 120.0
    header: int = 16 * 1024


class Rates:
    """Allowances that fill at a rate, one for each name (a token bucket).

    Args:
        rate: What is added, 1/s.
        burst: The most that one can hold.
        most: Names remembered; of more, the one unused for longest is forgotten.
    """

    def __init__(self, rate: float, burst: float, most: int = 4096) -> None:
        self._rate, self._burst, self._most = rate, burst, most
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, name: Hashable, now: float) -> bool:
        """Take one of a name's allowance at a time, s; return whether there was one."""
        left, since = self._left.pop(name, (self._burst, now))
        left = min(left + (now - since) * self._rate, self._burst)
        allowed = left >= 1.0
        self._left[name] = (left - 1.0 if allowed else left, now)
        if len(self._left) > self._most:
            self._left.popitem(last=False)
        return allowed


@dataclass(eq=False)
class Visitor:
    """A connection.

    Attributes:
        address: Where it comes from, as `network` groups them.
        since: When it connected, s.
        among: All connections of its listener.
        close: Ends it at once.
        identity: Whom it belongs to, once that is proved; None: to nobody in particular.
    """

    address: str
    since: float
    among: Visitors
    close: Callable[[], None] = field(default=lambda: None)
    identity: Hashable | None = None

    def prove(self, identity: Hashable | None) -> None:
        """Note whom it belongs to."""
        if identity is not None:
            self.among.prove(self, identity)


class Visitors:
    """All connections of a listener.

    Where there are too many, the oldest of the same kind ends. So whoever holds connections without
    ever proving who he is loses them to those who come and prove it at once.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._new = Rates(bounds.new_rate, bounds.new_burst)
        # In the order of their coming; sets that keep it.
        self._strangers: dict[Visitor, None] = {}
        self._by_address: dict[str, dict[Visitor, None]] = defaultdict(dict)
        self._known: dict[Hashable, dict[Visitor, None]] = defaultdict(dict)

    def __len__(self) -> int:
        """Return how many connections there are."""
        return len(self._strangers) + sum(map(len, self._known.values()))

    def __contains__(self, visitor: Visitor) -> bool:
        """Return whether a connection has not been ended."""
        return visitor in self._strangers or visitor in self._known.get(visitor.identity, {})

    def admit(self, address: str, now: float) -> Visitor | None:
        """Return a new connection's visitor, None if its address makes too many in short time."""
        group = network(address)
        if not self._new.take(group, now):
            return None
        visitor = Visitor(group, now, self)
        self._strangers[visitor] = None
        of_address = self._by_address[group]
        of_address[visitor] = None
        if len(of_address) > self._bounds.strangers_address:
            self._end(next(iter(of_address)))
        elif len(self._strangers) > self._bounds.strangers:
            self._end(next(iter(self._strangers)))
        return visitor

    def prove(self, visitor: Visitor, identity: Hashable) -> None:
        """Note whom a connection belongs to."""
        if visitor.identity == identity:
            return
        self.gone(visitor)
        visitor.identity = identity
        own = self._known[identity]
        own[visitor] = None
        if len(own) > self._bounds.connections_each:
            self._end(next(iter(own)))

    def gone(self, visitor: Visitor) -> None:
        """Forget a connection that has ended."""
        self._strangers.pop(visitor, None)
        for groups, name in ((self._by_address, visitor.address), (self._known, visitor.identity)):
            group = groups.get(name)  # type: ignore[call-overload]
            if group is not None:
                group.pop(visitor, None)
                if not group:
                    del groups[name]  # type: ignore[arg-type]

    def end_unproved(self, now: float) -> None:
        """End connections that did not prove in time whose they are."""
        for visitor in list(self._strangers):
            if now - visitor.since > self._bounds.prove_within:
                self._end(visitor)

    def end_unknown(self, knows: Callable[[Hashable], bool]) -> None:
        """End connections of those who are no longer known."""
        for identity in [each for each in self._known if not knows(each)]:
            for visitor in list(self._known[identity]):
                self._end(visitor)

    def end_all(self) -> None:
        """End every connection."""
        known = [visitor for group in self._known.values() for visitor in group]
        for visitor in [*self._strangers, *known]:
            self._end(visitor)

    def _end(self, visitor: Visitor) -> None:
        self.gone(visitor)
        visitor.close()


def network(address: str) -> str:
    """Return what addresses are counted by: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((found, 64), strict=False).network_address)
