//! Connections in their turns: accepted, read from, joined, ended.

use super::association::Wire;
use super::desk::GONE_MAX;
use super::doors::{Knock, PAUSE, source};
use super::incoming::{self, Tools};
use super::member::{Carrier, Core, Flow, Member, Phase, count_handshake};
use super::members::Key;
use super::splice::{Pump, Pumped, pump};
use super::stream::Stream;
use super::{Ending, PEER, STALL_RETRY, Session};
use crate::route::{Client, Transport};
use mio::net::TcpStream;
use mio::{Interest, Token};
use std::net::SocketAddr;
use std::time::Duration;

/// Connections that one listener accepts in a round.
const ACCEPTS_MAX: usize = 32;

/// Connections that are read from in a round.
const READS_MAX: usize = 64;

/// Connections of those whose TLS handshake is not over: each may cost 100 us, for which the media
/// of the others waits.
const HANDSHAKES_MAX: usize = 8;

/// Connections that may wait for the control thread; what further ones say is dropped.
const STALLED_MAX: usize = 1024;

impl Session {
    /// Takes new connections in, as many as the round and the limits allow.
    pub(super) fn accept(&mut self, now: Duration) {
        if self.paused.is_some_and(|until| now < until) {
            return;
        }
        if self.desk.gone_waiting() >= GONE_MAX {
            self.paused = Some(now + STALL_RETRY);
            return;
        }
        self.paused = None;
        for index in 0..self.doors.len() {
            for _ in 0..ACCEPTS_MAX {
                if !self.doors[index].pending {
                    break;
                }
                match self.doors[index].accept() {
                    Knock::Came(socket, remote) => self.admit(index, socket, remote, now),
                    Knock::Nobody => self.doors[index].pending = false,
                    Knock::Exhausted => {
                        self.counters.accept_pauses.add(1);
                        self.paused = Some(now + PAUSE);
                        return;
                    }
                }
            }
        }
    }

    /// A connection that was accepted: within the limits it becomes a member.
    fn admit(&mut self, door: usize, socket: TcpStream, remote: SocketAddr, now: Duration) {
        let proxied = self.settings.proxy_sources.iter().any(|net| net.contains(&remote.ip()));
        let from = (!proxied).then(|| source(remote.ip()));
        let entered = self.census.enter().and_then(|()| {
            let entered = from.map_or(Ok(()), |from| self.census.enter_source(from));
            entered.inspect_err(|_| self.census.leave())
        });
        if let Err(ending) = entered {
            return self.counters.end(ending);
        }
        let Ok(local) = socket.local_addr() else {
            // it has gone already
            self.leave(from);
            return self.counters.end(Ending::Failed);
        };
        let client = Client { transport: Transport::Tcp, local, remote };
        let phase = if proxied { Phase::Proxy } else { Phase::Sniff };
        let mut flow = Flow::new(Stream::new(socket), self.doors[door].takes, phase);
        flow.source = from;
        let key = self.members.next();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self
            .poll
            .registry()
            .register(&mut flow.stream.socket, Token(key.bits()), interest)
            .is_err()
        {
            self.counters.accept_pauses.add(1);
            self.leave(from);
            return self.counters.end(Ending::Failed);
        }
        let carrier = Carrier::Stream(Box::new(flow));
        self.members.insert(Member { core: Core::new(client, now), carrier });
        self.counters.open[Transport::Tcp as usize].set(self.streams(Transport::Tcp) + 1);
        self.arm(key);
        self.queue_ready(key);
    }

    fn leave(&mut self, from: Option<u128>) {
        self.census.leave();
        if let Some(from) = from {
            self.census.leave_source(from);
        }
    }

    fn streams(&self, transport: Transport) -> u64 {
        self.counters.open[transport as usize].value()
    }

    /// What the poller says about a connection.
    pub(super) fn note_stream(&mut self, key: Key, of_peer: bool, event: &mio::event::Event) {
        let Some(Member { carrier: Carrier::Stream(flow), .. }) = self.members.get(key) else {
            return;
        };
        if of_peer {
            if let Some(splice) = &mut flow.splice {
                splice.peer_readable |= event.is_readable() || event.is_read_closed();
            }
        } else {
            flow.readable |= event.is_readable() || event.is_read_closed();
            flow.read_closed |= event.is_read_closed();
            if event.is_writable() && !flow.stream.is_drained() && !flow.dirty {
                flow.dirty = true;
                self.dirty.push(key);
            }
        }
        self.queue_ready(key);
    }

    /// Puts a connection into the ready queue, if it is one to be read from.
    pub(super) fn queue_ready(&mut self, key: Key) {
        if let Some(Member { carrier: Carrier::Stream(flow), core }) = self.members.get(key)
            && !flow.queued
            && core.closing.is_none()
            && (flow.splice.is_some() || flow.readable && !flow.is_paused())
        {
            flow.queued = true;
            self.ready.push_back(key);
        }
    }

    /// Gives connections that are ready their turns.
    pub(super) fn read_ready(&mut self, now: Duration) {
        let mut handshakes = 0;
        for _ in 0..self.ready.len().min(READS_MAX) {
            let Some(key) = self.ready.pop_front() else { break };
            if let Some(Member { carrier: Carrier::Stream(flow), .. }) = self.members.get(key)
                && flow.takes.tls
                && matches!(flow.phase, Phase::Sniff | Phase::Handshake)
            {
                if handshakes == HANDSHAKES_MAX {
                    // it is in the queue still
                    self.ready.push_back(key);
                    continue;
                }
                handshakes += 1;
            }
            if let Some(Member { carrier: Carrier::Stream(flow), .. }) = self.members.get(key) {
                flow.queued = false;
                if flow.phase == Phase::Spliced {
                    self.pump(key, now)
                } else {
                    self.read(key, now, false)
                }
            }
        }
    }

    /// Looks again at connections that waited for the control thread.
    pub(super) fn retry_stalled(&mut self, now: Duration) {
        let mut stalled = std::mem::take(&mut self.stalled);
        for key in stalled.drain(..) {
            self.read(key, now, true);
        }
        // none was put in that is not a member: the memory is used again
        if self.stalled.is_empty() {
            self.stalled = stalled;
        }
    }

    /// One read, or one look at what waited.
    pub(super) fn read(&mut self, key: Key, now: Duration, waited: bool) {
        let Self { members, desk, relay, census, counters, settings, input, plain, .. } = self;
        let Some(Member { core, carrier: Carrier::Stream(flow) }) = members.get(key) else {
            return;
        };
        if core.closing.is_some() || !waited && flow.is_paused() {
            return;
        }
        let identity = settings.identity.as_ref();
        let before = (flow.phase, flow.dirty);
        let (counters, input) = (&**counters, &mut input[..]);
        let mut tools = Tools { desk, relay, census, counters, identity, input, plain, now };
        let done = if waited {
            incoming::resume(core, flow, &mut tools)
        } else {
            incoming::turn(core, flow, &mut tools)
        };
        let (named, stalled) =
            (core.named || matches!(flow.phase, Phase::Proxy | Phase::Sniff), flow.stalled);
        let dirty = !before.1 && flow.dirty;
        let client = core.client;
        if dirty {
            self.dirty.push(key);
        }
        if !named {
            self.name(key, client, now);
        }
        if let Err(ending) = done {
            return self.end(key, ending, now);
        }
        if stalled {
            self.stall(key);
        }
        self.arm(key);
        self.queue_ready(key);
    }

    /// Lets a connection wait for the control thread, if not too many do; else what it said is lost.
    fn stall(&mut self, key: Key) {
        if self.stalled.len() < STALLED_MAX {
            return self.stalled.push(key);
        }
        if let Some(Member { carrier: Carrier::Stream(flow), .. }) = self.members.get(key) {
            self.relay.counters.refuse(wire::Direction::ToPeer, wire::Reason::RingFull);
            flow.stalled = false;
            flow.partial = Vec::new();
            flow.partial_since = None;
        }
    }

    /// Its five-tuple is known now. A connection that had it before cannot be alive.
    pub(super) fn name(&mut self, key: Key, client: Client, now: Duration) {
        if let Some(old) = self.members.name(client, key).filter(|old| *old != key) {
            self.end(old, Ending::Duplicate, now);
        }
        if let Some(member) = self.members.get(key) {
            member.core.named = true;
        }
        if client.transport == Transport::Tls {
            let (tcp, tls) = (self.streams(Transport::Tcp), self.streams(Transport::Tls));
            self.counters.open[Transport::Tcp as usize].set(tcp - 1);
            self.counters.open[Transport::Tls as usize].set(tls + 1);
        }
    }

    /// Moves the bytes of a spliced pair.
    pub(super) fn pump(&mut self, key: Key, now: Duration) {
        let Self { members, counters, input, plain, .. } = self;
        let Some(Member { carrier: Carrier::Stream(flow), .. }) = members.get(key) else { return };
        let (counters, input) = (&**counters, &mut input[..]);
        match pump(flow, &mut Pump { input, plain, counters, now }) {
            Pumped::Idle => self.arm(key),
            Pumped::More => self.queue_ready(key),
            Pumped::Over(ending) => self.end(key, ending, now),
        }
    }

    /// Joins a connection with its peer's.
    pub(super) fn splice(&mut self, client: &Client, peer: std::net::TcpStream, now: Duration) {
        let Some(key) = self.members.find(client) else {
            return self.counters.unknown_client.add(1);
        };
        let Some(Member { carrier: Carrier::Stream(flow), .. }) = self.members.get(key) else {
            return self.counters.unknown_client.add(1);
        };
        let token = Token(key.bits() | PEER);
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut peer = match peer.set_nonblocking(true) {
            Ok(()) if flow.splice.is_none() => TcpStream::from_std(peer),
            _ => return self.end(key, Ending::Failed, now),
        };
        if self.poll.registry().register(&mut peer, token, interest).is_err() {
            return self.end(key, Ending::Failed, now);
        }
        let mut splice = Box::new(super::splice::Splice::new(peer, now));
        // what the client sent behind its request is the peer's
        let waited = std::mem::take(&mut flow.partial);
        if !waited.is_empty() {
            splice.to_peer.push_raw(&waited);
        }
        flow.splice = Some(splice);
        flow.phase = Phase::Spliced;
        (flow.held, flow.stalled, flow.readable, flow.partial_since) = (false, false, true, None);
        self.counters.splices.add(1);
        self.queue_ready(key);
    }

    /// Ends a client: everything that it had is given back, and the control thread told.
    pub(super) fn end(&mut self, key: Key, ending: Ending, now: Duration) {
        let Some(Member { mut core, carrier }) = self.members.remove(key) else { return };
        let transport = core.client.transport;
        self.counters.end(ending);
        self.forget_channels(key, &mut core);
        match carrier {
            Carrier::Stream(flow) => self.end_stream(*flow, ending),
            Carrier::Dtls(mut association) => {
                if !association.connected {
                    self.half_open.leave(association.source);
                    count_handshake(&self.counters, transport, false);
                }
                let Self { relay, room, clock, .. } = self;
                let remote = core.client.remote;
                if ending != Ending::Duplicate {
                    association.close(&mut Wire { relay, room, clock: *clock, now, remote });
                }
                self.census.leave_source(association.source);
                self.associations -= 1;
                self.counters.handshaking.set(self.half_open.len() as u64);
            }
        }
        let sorted = core.named || transport == Transport::Dtls;
        let open = &self.counters.open[if sorted { transport } else { Transport::Tcp } as usize];
        open.set(open.value().saturating_sub(1));
        if core.named {
            self.members.unname(&core.client, key);
        }
        if core.told {
            self.desk.gone(core.client);
        }
        if transport == Transport::Dtls {
            self.settle(core.client, key, now);
        }
    }

    /// After an association's end: a contender is one no more, or has nobody to contend with.
    fn settle(&mut self, client: Client, ended: Key, now: Duration) {
        let Some(contender) = self.contenders.get(&client).copied() else { return };
        if contender == ended || self.members.find(&client).is_none() {
            self.contenders.remove(&client);
        }
        if contender != ended && self.members.find(&client).is_none() {
            self.name(contender, client, now);
        }
    }

    fn end_stream(&mut self, mut flow: Flow, ending: Ending) {
        if flow.phase == Phase::Handshake {
            count_handshake(&self.counters, Transport::Tls, false);
        }
        if flow.phase == Phase::Spliced {
            self.counters.splices.set(self.counters.splices.value().saturating_sub(1));
        }
        let farewell = matches!(ending, Ending::Server | Ending::Idle | Ending::Client);
        if flow.stream.is_secure() && farewell {
            flow.stream.notify_close();
        }
        if flow.stream.is_secure() && !flow.stream.is_drained() {
            // an alert or a goodbye: it goes if it can
            let _ = flow.stream.flush();
        }
        self.leave(flow.source);
    }
}
