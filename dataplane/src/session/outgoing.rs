//! To the clients: into a queue, or into a record at once; and out of the queues.

use super::association::Wire;
use super::member::{Carrier, Member};
use super::members::Key;
use super::queue::{Class, Limits};
use super::stream::Flushed;
use super::{Ending, Session};
use std::time::Duration;

/// Longest padding of ChannelData in a stream.
const PADDING: [u8; 3] = [0; 3];

impl Session {
    /// Queues one message for a client, in pieces. False when it was dropped.
    pub(super) fn send(&mut self, key: Key, pieces: &[&[u8]], class: Class, now: Duration) -> bool {
        let Self { members, relay, room, clock, settings, dirty, counters, plain, .. } = self;
        let Some(Member { core, carrier }) = members.get(key) else { return false };
        match carrier {
            Carrier::Stream(flow) => {
                if flow.splice.is_some() || core.closing.is_some() {
                    return false;
                }
                let limits = &settings.limits;
                let limits = Limits { bytes: limits.queue_bytes, frames: limits.queue_frames };
                let queued = flow.stream.queue.push(pieces, class, limits);
                if !queued {
                    counters.queue_drops.add(1);
                } else if !flow.dirty && flow.stuck_since.is_none() {
                    flow.dirty = true;
                    dirty.push(key);
                }
                counters.frames_out.add(queued.into());
                queued
            }
            Carrier::Dtls(association) => {
                plain.clear();
                pieces.iter().for_each(|piece| plain.extend_from_slice(piece));
                let remote = core.client.remote;
                let mut wire = Wire { relay, room, clock: *clock, now, remote };
                match association.send(plain, &mut wire) {
                    Ok(sent) => {
                        counters.frames_out.add(sent.into());
                        sent
                    }
                    Err(over) => {
                        self.end(key, over.into(), now);
                        false
                    }
                }
            }
        }
    }

    /// Queues a peer's datagram for a client's channel. False when it was dropped.
    pub(super) fn send_data(&mut self, key: Key, channel: u16, data: &[u8], now: Duration) -> bool {
        let Ok(size) = u16::try_from(data.len()) else { return false };
        let ([a, b], [c, d]) = (channel.to_be_bytes(), size.to_be_bytes());
        // RFC 8656 section 12.5: to a multiple of 4 in a stream, not at all in a datagram
        let is_stream = self
            .members
            .get(key)
            .is_some_and(|member| matches!(member.carrier, Carrier::Stream(_)));
        let padding = if is_stream { data.len().next_multiple_of(4) - data.len() } else { 0 };
        self.send(key, &[&[a, b, c, d], data, &PADDING[..padding]], Class::Data, now)
    }

    /// Writes what waits, as far as the kernel takes it.
    pub(super) fn flush(&mut self, now: Duration) {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut again = 0;
        for at in 0..dirty.len() {
            let key = dirty[at];
            if self.flush_one(key, now) {
                dirty[again] = key;
                again += 1;
            }
        }
        dirty.truncate(again);
        // ends of clients do not make others dirty, so nothing was put in meanwhile
        debug_assert!(self.dirty.is_empty());
        self.dirty = dirty;
    }

    /// True when it has to be called again.
    fn flush_one(&mut self, key: Key, now: Duration) -> bool {
        let Self { members, counters, .. } = self;
        let Some(Member { core, carrier: Carrier::Stream(flow) }) = members.get(key) else {
            return false;
        };
        if flow.splice.is_some() {
            // its own turn sends
            flow.dirty = false;
            return false;
        }
        let before = flow.stream.written;
        let flushed = flow.stream.flush();
        let sent = flow.stream.written - before;
        counters.bytes_out.add(sent);
        flow.dirty = flushed == Flushed::More;
        if sent > 0 {
            flow.stuck_since = None;
        }
        match (flushed, core.closing) {
            (Flushed::Broken, _) => self.end(key, Ending::Failed, now),
            (Flushed::All, Some((_, ending))) => self.end(key, ending, now),
            (Flushed::All, None) => flow.stuck_since = None,
            (Flushed::Blocked, _) => {
                flow.stuck_since.get_or_insert(now);
                self.arm(key);
            }
            (Flushed::More, _) => return true,
        }
        false
    }
}
