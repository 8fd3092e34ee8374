"""One run of one node in the choice of members and leader: time and beacons go in, beacons and epochs come out.

* A node is there for another when each heard the other within a second: the beacon must have come, and must echo one
  that this run sent a moment ago. Recorded and late beacons echo nothing fresh, so they make nobody a member.
* Everybody votes for the first in rank of those who want to lead and would take it in, itself among them. Who votes for
  itself invites the largest clique of those that would not rather follow another. Ranks form one order for all, and
  the first in it is bound by nobody, then the next ... so the votes come to rest whatever the graph of hearing is.
* Who leads makes an epoch when its voters have been the same for 400 ms; they accept it if its term is above all that
  they accepted before.
* A physical sign, felt here or told by who felt it, shortens the wait for whoever is silent; it proves nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from agent.cluster.membership.beacon import MOST_HEARD, MOST_REFUSED, Beacon, Felt, Heard, Touch
from agent.cluster.membership.epoch import Epoch, Stored, Verdict, verdict
from agent.cluster.membership.leader import Rank, keeps_the_lead, lived, rank
from agent.cluster.membership.signs import Signs, beyond
from agent.cluster.membership.view import largest_clique
from agent.cluster.state import Node, Side

BEACON_S = 0.2
SOON_S = 0.03  # between a beacon and one that tells news
HEARD_S = 1.0
QUICK_S = 0.08  # between beacons while a sign counts that somebody may be gone
SUSPECT_S = 0.3  # at least two of those missed, by one whom such a sign is about
ECHO_S = 1.3  # how old an echo may be: more than a second, so that one lost beacon more makes nobody late
STABLE_S = 0.4
PATIENCE_S = 1.0  # for the vote of one that is invited
FORGET_S = 60.0
MOST_PEERS = 64
MOST_AHEAD = 2**32  # terms; no honest node is that far ahead, and nobody shall use them up


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of another node."""

    beacon: Beacon
    at: float  # when it came
    echo: float | None  # when the beacon that it echoes was sent; None: it echoes none of this run
    round_trip_s: float | None


class Membership:
    """Not thread-safe. Times are of one clock that never goes back; no wall clock is used."""

    def __init__(self, node: Node, stored: Stored) -> None:
        self.node = node
        self.incarnation = stored.incarnation + 1
        self.term = stored.term
        self.epoch: Epoch | None = None
        self.touched: tuple[Touch, ...] = ()
        self.documents = ""
        self.vote = node.id
        self.view: tuple[str, ...] = (node.id,)
        self.peers: dict[str, Peer] = {}
        self.mutual: dict[str, Peer] = {}
        self._heard: dict[str, Peer] = {}  # in the last second
        self._said: Beacon | None = None
        self._said_at = 0.0
        self._seq = 0
        self._sent: deque[tuple[int, float]] = deque(maxlen=64)
        self._refused: dict[str, float] = {}
        self._signs = Signs()
        self._felt = 0  # signs that this run felt
        self._led_since = 0.0
        self._age = 0  # class of how long it has led
        self._lives: dict[str, int] = {}  # of the members when their epoch was made
        self._steady: tuple[object, float] = (None, 0.0)
        self._news: object = None

    @property
    def stored(self) -> Stored:
        """To be on disk before a beacon goes out, and before an order is taken."""
        return Stored(self.incarnation, self.term)

    def hear(self, beacon: Beacon, now: float) -> None:
        """A beacon whose sender is authenticated has come."""
        own = self.node.id
        if beacon.id == own or beacon.term > self.term + MOST_AHEAD:
            return
        for each in beacon.refused:
            if each.id == own and (each.incarnation, each.seq) > (self.incarnation, self._seq):
                self._begin_again(each.incarnation + 1)
        known = self.peers.get(beacon.id)
        if known is not None and self._is_old(beacon, known.beacon):
            if beacon.incarnation < known.beacon.incarnation or now - known.at > HEARD_S:
                self._refused[beacon.id] = now
            return
        if known is None and len(self.peers) >= MOST_PEERS:
            return
        peer = self.peers[beacon.id] = self._peer(beacon, now)
        self._refused.pop(beacon.id, None)
        if beacon.felt and self._is_mutual(peer, now) and (known is None or not self._said_so(known.beacon, beacon)):
            self._is_told(beacon.id, beacon.felt, now)
        self._review(now)

    def tick(self, now: float) -> Beacon | None:
        """Call it every 50 ms or so. Returns the beacon that is to be sent now."""
        self._review(now)
        since, pause = now - self._said_at, QUICK_S if self._signs.wait(now) else BEACON_S
        if self._said is None or since >= pause - 1e-9 or (since >= SOON_S and self._news != self._content(now)):
            return self._speak(now)
        return None

    def hint(self, side: Side | None, now: float) -> None:
        """A line opened or a tag went on that side; None: the link has lost its carrier.

        No proof: whoever is there is heard on. Two missed beacons are enough then, and everybody is told, because only
        those next to a contact feel it open.
        """
        touches = [(peer.beacon.id, touch) for peer in self.peers.values() for touch in peer.beacon.touched]
        touches += [(self.node.id, touch) for touch in self.said_touches]
        far = self.mutual.keys() if side is None else self.mutual.keys() & beyond(self.node.id, side, touches)
        if self._signs.take(self.node.id, far, now):
            self._felt += 1

    def _is_told(self, other: str, felt: Felt, now: float) -> None:
        """Whoever is on the far side of what another felt takes it for a sign about those on the near side."""
        about, reached = set(felt.about), {other, *self.mutual}
        self._signs.take(other, reached - about if self.node.id in about else reached & about, now)

    def admits(self, token: str) -> Verdict:
        """Whether an order of another node, which carries the ``token`` of its epoch, is one to follow."""
        return verdict(token, self.epoch, self.term)

    @property
    def leads(self) -> bool:
        return self.epoch is not None and self.epoch.leader == self.node.id

    @property
    def said_touches(self) -> tuple[Touch, ...]:
        """Whom this node touches, as it last said."""
        return self._said.touched if self._said else ()

    @property
    def settled(self) -> bool:
        """Everybody of the epoch is there, and nobody else is about to be."""
        if self.epoch is None or self.vote != self.epoch.leader:
            return False
        if self.leads:
            return self.epoch.members == self.view == self._members()
        leader = self.mutual.get(self.epoch.leader)
        others = set(self.epoch.members) - {self.node.id}
        return leader is not None and leader.beacon.epoch == self.epoch and others <= set(self.mutual)

    # --- who is there ------------------------------------------------------------------------------------------------

    def _peer(self, beacon: Beacon, now: float) -> Peer:
        for each in beacon.heard:
            if each.id == self.node.id and each.incarnation == self.incarnation:
                for seq, at in reversed(self._sent):  # it is one of the last
                    if seq == each.seq:
                        return Peer(beacon, now, at, max(0.0, now - at - each.held_ms / 1000))
        return Peer(beacon, now, None, None)

    def _is_old(self, beacon: Beacon, known: Beacon) -> bool:
        return (beacon.incarnation, beacon.seq) <= (known.incarnation, known.seq)

    def _said_so(self, known: Beacon, beacon: Beacon) -> bool:
        """Whether what was felt is no news: it is said for as long as it counts."""
        if not known.felt or not beacon.felt:
            return False
        return (known.incarnation, known.felt.number) == (beacon.incarnation, beacon.felt.number)

    def _begin_again(self, incarnation: int) -> None:
        """The others know of a later run than this: what was stored is older than what was said."""
        self.incarnation, self._seq = incarnation, 0
        self._sent.clear()
        self._said, self.epoch = None, None
        self.vote, self.view = self.node.id, (self.node.id,)

    def _is_heard(self, peer: Peer, now: float) -> bool:
        silent_s = now - peer.at
        return silent_s <= SUSPECT_S or (silent_s <= HEARD_S and not self._signs.about(peer.beacon.id, now))

    def _is_mutual(self, peer: Peer, now: float) -> bool:
        return peer.echo is not None and now - peer.echo <= ECHO_S

    def _is_late(self, peer: Peer, now: float) -> bool:
        """Known to have been long on its way. Who echoes nothing yet has only just begun to hear this run."""
        return peer.echo is not None and now - peer.echo > ECHO_S

    def _listed(self, now: float) -> dict[str, Peer]:
        heard = {name: peer for name, peer in self.peers.items() if self._is_heard(peer, now)}
        if len(heard) <= MOST_HEARD:
            return heard
        inside = self.epoch.members if self.epoch else ()
        return {name: heard[name] for name in sorted(heard, key=lambda each: (each not in inside, each))[:MOST_HEARD]}

    # --- who leads ---------------------------------------------------------------------------------------------------

    def _review(self, now: float) -> None:
        self._heard = self._listed(now)
        self.mutual = {name: peer for name, peer in self._heard.items() if self._is_mutual(peer, now)}
        if self._said is None:
            return
        own = self._said.rank
        self.vote = min([own, *self._candidates()])[3]
        self.view = self._invited(own) if self.vote == self.node.id else ()
        members = self._members()
        lives = {each: self.mutual[each].beacon.incarnation for each in members if each != self.node.id}
        steady = (self.vote, self.view, lives)
        if self._steady[0] != steady:
            self._steady = (steady, now)
        if self.vote != self.node.id:
            self._follow(self.mutual[self.vote].beacon.epoch)
        elif self._may_act(members, now) and self._needs_epoch(members, lives):
            self._make_epoch(members, lives, now)

    def _candidates(self) -> list[Rank]:
        beacons = [peer.beacon for peer in self.mutual.values()]
        return [each.rank for each in beacons if each.vote == each.id and self.node.id in each.view]

    def _invited(self, own: Rank) -> tuple[str, ...]:
        free = {
            each: peer.beacon.hears
            for each, peer in self.mutual.items()
            if peer.beacon.vote == self.node.id or own < peer.beacon.vote_rank
        }
        keep = self.epoch.members if self.epoch else ()
        return largest_clique(self.node.id, {**free, self.node.id: frozenset(free)}, keep)

    def _members(self) -> tuple[str, ...]:
        """Of those invited, who wants to follow."""
        own = self.node.id
        return tuple(e for e in self.view if e == own or (e in self.mutual and self.mutual[e].beacon.vote == own))

    def _may_act(self, members: tuple[str, ...], now: float) -> bool:
        steady_s = now - self._steady[1]
        return steady_s >= (STABLE_S if members == self.view else PATIENCE_S) - 1e-9

    def _needs_epoch(self, members: tuple[str, ...], lives: Mapping[str, int]) -> bool:
        if self.epoch is None or not self.leads or self.epoch.members != members or self._lives != lives:
            return True
        return any(
            self.mutual[each].beacon.term >= self.term and self.mutual[each].beacon.epoch != self.epoch
            for each in lives
        )

    def _make_epoch(self, members: tuple[str, ...], lives: dict[str, int], now: float) -> None:
        if not self.leads:
            self._led_since, self._age = now, 0
        self._accept(Epoch(self._next_term(), self.node.id, members))
        self._lives = lives

    def _next_term(self) -> int:
        """Above all that anybody here has accepted, members or not."""
        return 1 + max([self.term, *(peer.beacon.term for peer in self.peers.values())])

    def _follow(self, epoch: Epoch | None) -> None:
        if epoch is None or epoch.leader != self.vote or self.node.id not in epoch.members:
            return
        if self._is_newer(epoch):
            self._accept(epoch)

    def _is_newer(self, epoch: Epoch) -> bool:
        return epoch.term > self.term

    def _accept(self, epoch: Epoch) -> None:
        self._signs.left(frozenset(self.epoch.members if self.epoch else ()).difference(epoch.members))
        self.epoch, self.term = epoch, epoch.term

    # --- what is said ------------------------------------------------------------------------------------------------

    def _present(self) -> int:
        """Of whom this node leads: who has gone counts no more, though the epoch that says so is still to come."""
        if self.epoch is None or not self.leads:
            return 0
        return 1 + sum(each in self.mutual for each in self.epoch.members)

    def _reigns(self) -> bool:
        return keeps_the_lead(self.node, self._present(), (peer.beacon.node for peer in self.mutual.values()))

    def _may_age(self) -> bool:
        """While nobody is there but those that it leads. Two that meet and reach the next class one after the other
        would outrank each other in turn."""
        return self.leads and self.epoch is not None and set(self.epoch.members) == {self.node.id, *self.mutual}

    def _content(self, now: float) -> object:
        """What is news when it changes."""
        heard = frozenset((name, p.beacon.incarnation, self._is_late(p, now)) for name, p in self._heard.items())
        own = (self.node.external_power, self.vote, self.view, self.epoch, self._reigns(), self._present())
        touched = frozenset((each.face, each.other) for each in self.touched)
        return (own, heard, frozenset(self.mutual), touched, frozenset(self._refused), self._felt, self.documents)

    def _speak(self, now: float) -> Beacon:
        self._seq += 1
        self._said_at = now
        self._sent.append((self._seq, now))
        self.peers = {name: peer for name, peer in self.peers.items() if now - peer.at <= FORGET_S}
        self._news = self._content(now)
        reigns = self._reigns()
        if self._may_age():
            self._age = lived(now - self._led_since)
        own = rank(self.node, reigns, self._present(), self._age)
        self._refused = {each: at for each, at in self._refused.items() if now - at <= HEARD_S}
        refused = [self.peers[each] for each in sorted(self._refused) if each in self.peers]
        trips = {each: peer.round_trip_s for each, peer in self.mutual.items()}
        felt = self._signs.of(self.node.id, now)
        self._said = Beacon(
            node=self.node,
            incarnation=self.incarnation,
            seq=self._seq,
            heard=tuple(_echo(peer, now) for peer in self._heard.values()),
            late=tuple(name for name, peer in self._heard.items() if self._is_late(peer, now)),
            term=self.term,
            epoch=self.epoch,
            reigns=reigns,
            present=self._present(),
            lived=self._age,
            vote=self.vote,
            vote_rank=own if self.vote == self.node.id else self.mutual[self.vote].beacon.rank,
            view=self.view,
            touched=tuple(replace(each, round_trip_ms=_ms(trips.get(each.other))) for each in self.touched),
            felt=Felt(self._felt, tuple(sorted(felt))) if felt else None,
            documents=self.documents,
            refused=tuple(_echo(peer, now) for peer in refused[:MOST_REFUSED]),
        )
        return self._said


def _echo(peer: Peer, now: float) -> Heard:
    return Heard(peer.beacon.id, peer.beacon.incarnation, peer.beacon.seq, round((now - peer.at) * 1000))


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)
