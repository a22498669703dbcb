//! What the control thread wants: commands, and letters to clients and peers, in their order.

use super::framing::stun_type;
use super::member::{Carrier, Core, Member};
use super::members::Key;
use super::queue::Class;
use super::relay::{Back, Way};
use super::{Ending, Session};
use crate::batch::{Departure, SocketId};
use crate::mailbox::{Command, Letter, LetterKind, Returned, SessionCommand};
use crate::route::{Client, PortId, Route};
use crate::stats::PathCounters;
use std::sync::Arc;
use std::time::Duration;
use wire::{Direction, Reason};

/// Letters of one round.
const LETTERS_MAX: usize = 256;

/// Responses that show that a client has an allocation: Allocate and Refresh succeeded.
const ALLOCATED: [u16; 2] = [0x0103, 0x0104];

/// The error response to ConnectionBind (RFC 6062): what follows in the stream are messages.
const BIND_REFUSED: u16 = 0x011B;

impl Session {
    /// Carries out the commands that are there.
    pub(super) fn carry_out(&mut self, now: Duration) {
        // taken out while a command is carried out
        let mut commands = Vec::new();
        let Self { desk, relay, link_ready, .. } = self;
        desk.mail.carry_out(|command| match command {
            Command::Open { id, local, port } => {
                // never there: the slot's last owner was given back before it was used again
                relay.open(id, local, port).map(|port| Returned { id, port: Some(port) })
            }
            Command::Close { id } => {
                let (port, backs) = relay.close(id).unwrap_or_default();
                commands.extend(backs.into_iter().map(|back| Late::Closed(id, back)));
                Some(Returned { id, port })
            }
            Command::TakeOver { id, local, port } => {
                relay.take_over(id, local, port).map(|port| Returned { id, port: Some(port) })
            }
            Command::Hear { id, overflowed } => {
                relay.hear(id, overflowed);
                // its edge may have been taken in before
                *link_ready = true;
                None
            }
            // only workers have these
            Command::Frames(_) | Command::AskFrames => None,
            // only workers send for clients of others
            Command::Lend { port, .. } => Some(Returned { id: PortId::NOBODY, port: Some(port) }),
            Command::Recall { .. } => None,
            Command::Session(command) => {
                let command = *command;
                // a channel is published in its order with the port that it goes by
                if let SessionCommand::Add(route, traffic) = command {
                    commands.push(Late::Add(route, traffic));
                } else {
                    commands.push(Late::Other(command));
                }
                None
            }
        });
        for command in commands {
            match command {
                Late::Closed(id, back) => self.close_way(id, &back),
                Late::Add(route, traffic) => self.add(&route, traffic),
                Late::Other(SessionCommand::Remove(route)) => self.remove(&route),
                Late::Other(SessionCommand::Identity(identity)) => {
                    self.settings.identity = Some(identity);
                }
                Late::Other(command) => self.deferred.push_back(command),
            }
        }
        self.carry_out_deferred(now);
    }

    /// Carries out what waited for letters that have been sent.
    fn carry_out_deferred(&mut self, now: Duration) {
        while let Some(command) = self.deferred.pop_front() {
            match command {
                SessionCommand::End { after, .. } | SessionCommand::Splice { after, .. }
                    if after > self.letters =>
                {
                    return self.deferred.push_front(command);
                }
                SessionCommand::End { client, .. } => self.close(&client, now),
                SessionCommand::Splice { client, peer, .. } => self.splice(&client, peer, now),
                // only these two wait
                _ => {}
            }
        }
    }

    fn add(&mut self, route: &Route, traffic: Arc<PathCounters>) {
        let client = client_of(route);
        let Some(key) = self.members.find(&client) else {
            return self.counters.unknown_client.add(1);
        };
        let Self { members, relay, settings, .. } = self;
        let Some(Member { core, .. }) = members.get(key) else { return };
        let Route { channel, port, peer, expires, .. } = *route;
        if relay.owner(port.slot()).is_none_or(|(id, _)| id != port) {
            return self.counters.unknown_client.add(1);
        }
        let way = Way { channel, port, peer, expires, traffic: Arc::clone(&traffic) };
        let known = core.channels.find(channel).is_some();
        if core.channels.put(way, settings.limits.channels_per_client) {
            core.allocated = true;
            relay.put_back(port, Back { peer, owner: key, channel, expires, traffic });
            self.routes += u64::from(!known);
            self.counters.routes.set(self.routes);
        }
    }

    fn remove(&mut self, route: &Route) {
        let Some(key) = self.members.find(&client_of(route)) else { return };
        let Some(Member { core, .. }) = self.members.get(key) else { return };
        if core.channels.take(route.channel, route.port, route.peer) {
            self.relay.take_back(route.port, route.peer, key, route.channel);
            self.routes -= 1;
            self.counters.routes.set(self.routes);
        }
    }

    /// A port was closed with this way back still published.
    fn close_way(&mut self, id: PortId, back: &Back) {
        if let Some(Member { core, .. }) = self.members.get(back.owner)
            && core.channels.take(back.channel, id, back.peer)
        {
            self.routes -= 1;
            self.counters.routes.set(self.routes);
        }
    }

    /// A client has ended: its channels lead nowhere any more.
    pub(super) fn forget_channels(&mut self, key: Key, core: &mut Core) {
        for way in core.channels.drain() {
            self.relay.take_back(way.port, way.peer, key, way.channel);
            self.routes -= 1;
        }
        self.counters.routes.set(self.routes);
    }

    /// Ends a client once what was queued for it is sent.
    fn close(&mut self, client: &Client, now: Duration) {
        let Some(key) = self.members.find(client) else { return };
        let Some(Member { core, carrier }) = self.members.get(key) else { return };
        match carrier {
            Carrier::Stream(flow) if flow.splice.is_none() && !flow.stream.is_drained() => {
                core.closing = Some((now, Ending::Server));
                if !flow.dirty {
                    flow.dirty = true;
                    self.dirty.push(key);
                }
                self.arm(key);
            }
            _ => self.end(key, Ending::Server, now),
        }
    }

    /// Sends the letters in the first `waiting` bytes of the ring, within the round's budget.
    pub(super) fn deliver(&mut self, waiting: usize, now: Duration) {
        let mut used = 0;
        let mut letter_bytes = std::mem::take(&mut self.letter_bytes);
        for _ in 0..LETTERS_MAX {
            if used >= waiting {
                break;
            }
            let mut taken = None;
            letter_bytes.clear();
            let size = self.desk.mail.letters.take(|letter, bytes| {
                letter_bytes.extend_from_slice(bytes);
                taken = Some(*letter);
            });
            let (Some(size), Some(letter)) = (size, taken) else { break };
            used += size;
            self.letters += 1;
            self.letter(&letter, &letter_bytes, now);
            self.carry_out_deferred(now);
        }
        self.letter_bytes = letter_bytes;
    }

    fn letter(&mut self, letter: &Letter, bytes: &[u8], now: Duration) {
        let Letter { transport, local, remote, slot, generation, dont_fragment, marks, .. } =
            *letter;
        if letter.kind == LetterKind::Peer {
            let by = SocketId::port(slot);
            let departure = Departure { by, to: remote, from: None, marks, dont_fragment };
            return self.relay.letter(slot, generation, departure, bytes);
        }
        let client = Client { transport, local, remote };
        let Some(key) = self.members.find(&client) else {
            self.counters.unknown_client.add(1);
            return self.relay.counters.refused_control[Reason::NotOurs as usize].add(1);
        };
        let kind = stun_type(bytes);
        let is_indication = kind.is_none_or(|kind| kind & 0x0110 == 0x0010);
        let class = if is_indication { Class::Data } else { Class::Message };
        if self.send(key, &[bytes], class, now) {
            self.relay.counters.sent[Direction::ToClient as usize].add(1);
        } else {
            self.relay.counters.refused_control[Reason::SocketFull as usize].add(1);
        }
        let Some(Member { core, carrier }) = self.members.get(key) else { return };
        core.allocated |= kind.is_some_and(|kind| ALLOCATED.contains(&kind));
        if kind == Some(BIND_REFUSED)
            && let Carrier::Stream(flow) = carrier
            && flow.held
        {
            flow.held = false;
            self.read(key, now, true);
        }
    }
}

/// A command in its order, for when the mailbox is no longer borrowed.
enum Late {
    Add(Route, Arc<PathCounters>),
    Closed(PortId, Back),
    Other(SessionCommand),
}

fn client_of(route: &Route) -> Client {
    Client { transport: route.transport, local: route.listener, remote: route.client }
}
