//! Datagrams: of peers to relay ports, and of DTLS clients to their listeners.

use super::association::{Association, Datagram, Over, Random, Wire, sort};
use super::doors::source;
use super::framing;
use super::member::{Carrier, Core, Member, count_handshake};
use super::members::Key;
use super::relay::Relay;
use super::{Ending, Session};
use crate::batch::{Arrival, SocketKind};
use crate::link::{Link, Unreachable};
use crate::mailbox::LetterKind;
use crate::route::{Client, Transport};
use std::io;
use std::time::Duration;
use wire::{Direction, Reason};

/// Batches that a round receives.
const BATCHES_MAX: usize = 16;

impl Session {
    /// Receives what there is, within the round's budget.
    pub(super) fn datagrams(&mut self, now: Duration) -> io::Result<()> {
        if !self.link_ready {
            return Ok(());
        }
        self.relay.link.wait(Some(Duration::ZERO))?;
        let Some(mut inbound) = self.inbound.take() else { return Ok(()) };
        for _ in 0..BATCHES_MAX {
            inbound.clear();
            let Some(id) = self.relay.link.receive(&mut inbound) else { break };
            let received = inbound.len();
            if received == 0 {
                continue;
            }
            self.relay.counters.batches[crate::stats::batch_class(received)].add(1);
            for index in 0..received {
                let (arrival, payload) = (inbound.arrival(index), inbound.payload(index));
                match id.kind() {
                    SocketKind::Port(slot) => self.on_peer(slot, arrival, payload, now),
                    SocketKind::Listener(at) => self.on_client(at, arrival, payload, now),
                    // nothing is lent to a session thread, and it has no AF_XDP
                    SocketKind::Loan(_) | SocketKind::Relayed => {}
                }
            }
        }
        self.inbound = Some(inbound);
        self.link_ready = self.relay.link.is_ready();
        Ok(())
    }

    /// A peer's datagram to the relay port in `slot`.
    fn on_peer(&mut self, slot: u32, arrival: &Arrival, payload: &[u8], now: Duration) {
        let direction = Direction::ToClient;
        self.relay.counters.received.add(1);
        let refused = if arrival.truncated {
            Some(Reason::Truncated)
        } else if arrival.remote.port() == 0 {
            Some(Reason::BadSource)
        } else {
            self.pass_back(slot, arrival, payload, now)
        };
        if let Some(reason) = refused {
            self.relay.counters.refuse(direction, reason);
        }
    }

    /// To the client's channel where there is one, else to the control thread; why not, if so.
    fn pass_back(
        &mut self,
        slot: u32,
        arrival: &Arrival,
        payload: &[u8],
        now: Duration,
    ) -> Option<Reason> {
        let Some((id, relay)) = self.relay.owner(slot) else { return Some(Reason::PortClosed) };
        let back = self.relay.find_back(slot, arrival.remote).filter(|back| now < back.expires);
        if let Some(back) = back {
            let (owner, channel, traffic) = (back.owner, back.channel, back.traffic.clone());
            if !self.send_data(owner, channel, payload, now) {
                return Some(Reason::SocketFull);
            }
            traffic.count(Direction::ToClient, payload.len() as u64);
            self.relay.counters.forward(Direction::ToClient, payload.len() as u64);
            return None;
        }
        if !self.desk.port(LetterKind::Peer, id, [arrival.remote, relay], payload) {
            return Some(Reason::RingFull);
        }
        self.relay.counters.to_control[Direction::ToClient as usize].add(1);
        None
    }

    /// A datagram to a DTLS listener.
    fn on_client(&mut self, listener: usize, arrival: &Arrival, payload: &[u8], now: Duration) {
        let Arrival { remote, local, truncated, .. } = *arrival;
        self.counters.bytes_in.add(payload.len() as u64);
        let client = Client { transport: Transport::Dtls, local, remote };
        // RFC 7983: DTLS begins with 20 to 63
        if truncated || remote.port() == 0 || !matches!(payload.first(), Some(20..=63)) {
            self.relay.counters.received.add(1);
            return self.relay.counters.refuse(Direction::ToPeer, Reason::NotStun);
        }
        if !self.hand_in(listener, client, payload, now) {
            // of an association that is over, or none at all
            self.relay.counters.received.add(1);
            self.relay.counters.refuse(Direction::ToPeer, Reason::NotStun);
        }
    }

    /// To the client's association, or to one that begins. False when there is none.
    ///
    /// A client that begins anew on the same five-tuple gets an association beside the old one,
    /// which takes its place once the handshake is complete, or once the cookie came back if the old
    /// one is half-open itself: a forged ClientHello ends nothing (RFC 6347 section 4.2.8).
    fn hand_in(&mut self, listener: usize, client: Client, payload: &[u8], now: Duration) -> bool {
        let contender = self.contenders.get(&client).copied();
        let current = self.members.find(&client);
        match sort(payload) {
            Datagram::Hello(random) => {
                let mut of = |key: Option<Key>| key.filter(|key| self.is_of(*key, &random));
                let mut key = of(current).or_else(|| of(contender));
                if key.is_none() && !contender.is_some_and(|key| self.has_shown(key)) {
                    if let Some(old) = contender {
                        self.end(old, Ending::Evicted, now);
                    }
                    key = self.associate(listener, client, random, now);
                }
                key.inspect(|key| self.record(*key, payload, now)).is_some()
            }
            Datagram::HelloPiece => {
                let key = contender.or(current);
                key.inspect(|key| self.record(*key, payload, now)).is_some()
            }
            Datagram::Other => {
                // whose it is only its keys tell; the other leaves it be
                if let Some(contender) = contender.filter(|key| self.has_shown(*key)) {
                    self.record(contender, payload, now);
                }
                // where the contender has taken its place this does nothing
                current.inspect(|key| self.record(*key, payload, now)).is_some()
            }
        }
    }

    fn association(&mut self, key: Key) -> Option<&mut Association> {
        match self.members.get(key) {
            Some(Member { carrier: Carrier::Dtls(association), .. }) => Some(association),
            _ => None,
        }
    }

    fn is_of(&mut self, key: Key, random: &Random) -> bool {
        self.association(key).is_some_and(|association| association.random == *random)
    }

    fn has_shown(&mut self, key: Key) -> bool {
        self.association(key).is_some_and(|association| association.shown)
    }

    /// A place for a new association, if the limits allow one.
    fn associate(
        &mut self,
        listener: usize,
        client: Client,
        random: Random,
        now: Duration,
    ) -> Option<Key> {
        let limits = self.settings.limits;
        let source = source(client.remote.ip());
        if self.half_open.of(source) >= limits.half_open_per_source {
            self.counters.end(Ending::SourceFull);
            return None;
        }
        self.make_room(limits.half_open_per_thread, now);
        if self.associations >= limits.associations_per_thread {
            self.counters.end(Ending::ThreadFull);
            return None;
        }
        if let Err(ending) = self.census.enter_source(source) {
            self.counters.end(ending);
            return None;
        }
        // listeners for DTLS are not bound without an identity that can be used for it
        let identity = self.settings.identity.clone()?;
        let from = self.dtls[listener].ip().is_unspecified().then(|| client.local.ip());
        let start = self.clock.start_of(now);
        let (dtls, source_and_random) = (identity.dtls()?, (source, random));
        let association = Association::new(dtls, listener, from, source_and_random, start);
        let mut core = Core::new(client, now);
        core.named = self.members.find(&client).is_none();
        let named = core.named;
        let carrier = Carrier::Dtls(Box::new(association));
        let key = self.members.insert(Member { core, carrier });
        if named {
            self.members.name(client, key);
        } else {
            self.contenders.insert(client, key);
        }
        self.associations += 1;
        self.half_open.enter(key, source);
        self.counters.begun[Transport::Dtls as usize].add(1);
        self.counters.open[Transport::Dtls as usize].set(self.associations as u64);
        self.counters.handshaking.set(self.half_open.len() as u64);
        Some(key)
    }

    /// Lets the oldest half-open associations go while there are too many.
    fn make_room(&mut self, limit: usize, now: Duration) {
        // entries of those that have left are taken out on the way
        while self.half_open.entries() >= limit {
            let Some(key) = self.half_open.oldest() else { return };
            if let Some(Member { carrier: Carrier::Dtls(association), .. }) = self.members.get(key)
                && !association.connected
            {
                self.end(key, Ending::Evicted, now);
            }
        }
    }

    /// A datagram for an association.
    fn record(&mut self, key: Key, payload: &[u8], now: Duration) {
        let before = self.association(key).map(|association| association.connected);
        let Some(was_connected) = before else { return };
        let mut done = self.step(key, Some(payload), now);
        self.succeed(key, now);
        let connected = self.association(key).is_some_and(|association| association.connected);
        if done.is_ok() && connected && !was_connected {
            // what came with the end of the handshake comes after the end of the one before
            done = self.step(key, None, now);
        }
        match done {
            Ok(()) => self.arm(key),
            Err(over) => self.end(key, over.into(), now),
        }
    }

    /// Gives a datagram to an association, or goes on with what it has.
    fn step(&mut self, key: Key, payload: Option<&[u8]>, now: Duration) -> Result<(), Over> {
        let Self { members, desk, relay, room, clock, counters, half_open, .. } = self;
        let Some(Member { core, carrier: Carrier::Dtls(association) }) = members.get(key) else {
            return Ok(());
        };
        let was_connected = association.connected;
        let remote = core.client.remote;
        let mut wire = Wire { relay, room, clock: *clock, now, remote };
        let mut on_message = |message: &[u8], relay: &mut Relay| match framing::datagram(message) {
            Some(cut) => {
                core.take(cut, message, desk, relay, now);
                counters.frames_in.add(1);
            }
            None => {
                relay.counters.received.add(1);
                relay.counters.refuse(Direction::ToPeer, Reason::NotStun);
            }
        };
        let done = match payload {
            Some(payload) => association.receive(payload, &mut wire, &mut on_message),
            None => association.drive(&mut wire, &mut on_message),
        };
        if association.connected && !was_connected {
            core.opened = Some(now);
            half_open.leave(association.source);
            count_handshake(counters, Transport::Dtls, true);
            counters.handshaking.set(half_open.len() as u64);
        }
        done
    }

    /// Puts a contender in the place of the client's old association, if it has come far enough.
    fn succeed(&mut self, key: Key, now: Duration) {
        let Some(Member { core, carrier: Carrier::Dtls(association) }) = self.members.get(key)
        else {
            return;
        };
        let (client, shown, connected) = (core.client, association.shown, association.connected);
        if self.contenders.get(&client) != Some(&key) {
            return;
        }
        let old = self.members.find(&client);
        let old_lives = old
            .and_then(|old| self.association(old))
            .is_some_and(|association| association.connected);
        if connected || shown && !old_lives {
            self.contenders.remove(&client);
            self.name(key, client, now);
        }
    }

    /// Hands over the ICMP errors that the relay ports met.
    pub(super) fn tell_unreachable(&mut self, now: Duration) {
        while let Some(Unreachable { by, peer, kind, code, data }) = self.relay.link.unreachable() {
            let SocketKind::Port(slot) = by.kind() else { continue };
            // closed meanwhile: nobody to tell
            let Some((id, relay)) = self.relay.owner(slot) else { continue };
            let [a, b, c, d] = data.to_be_bytes();
            let bytes = [kind, code, a, b, c, d];
            let told = self.allowance.take(now)
                && self.desk.port(LetterKind::Unreachable, id, [peer, relay], &bytes);
            let counters = &self.relay.counters;
            let counter = if told { &counters.icmp_told } else { &counters.icmp_withheld };
            counter.add(1);
        }
    }
}
