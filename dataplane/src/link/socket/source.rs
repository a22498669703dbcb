//! One socket of a link, and what the link knows of it.

use super::Bound;
use super::plan::Segments;
use super::sys::Receiver;
use super::ttl::Ttl;
use crate::batch::Batch;
use crate::link::Offload;
use std::io;

/// Times that a call is repeated because an error of another datagram got in its way.
const RETRIES_MAX: usize = 4;

/// A listener, a lane or a relay port.
pub(super) struct Source {
    pub(super) bound: Bound,
    /// In the ready queue.
    pub(super) queued: bool,
    /// Its error queue is to be looked at before its datagrams.
    pub(super) erred: bool,
    /// Another link receives from it still.
    pub(super) deaf: bool,
    /// It sends with DF set.
    pub(super) whole: bool,
    /// The kernel's count of drops when it was last seen.
    pub(super) overflowed: u32,
    /// Datagrams that it gave since it was last found empty.
    pub(super) undrained: usize,
    /// Of those, messages in the turn that it has not ended.
    pub(super) given: usize,
    pub(super) segments: Segments,
    pub(super) ttl: Ttl,
}

impl Source {
    pub(super) fn new(bound: Bound, offload: Offload) -> Self {
        if offload.receive {
            bound.set_merged();
        }
        Self::deaf(bound, offload).heard()
    }

    /// One that another link receives from: how it receives is left as it is, and what it sends by
    /// itself.
    pub(super) fn deaf(bound: Bound, offload: Offload) -> Self {
        let segments = Segments::new(offload.send);
        let (queued, erred, deaf, whole) = (false, false, true, false);
        let (overflowed, undrained, given, ttl) = (0, 0, 0, Ttl::default());
        Self { bound, queued, erred, deaf, whole, overflowed, undrained, given, segments, ttl }
    }

    pub(super) fn heard(mut self) -> Self {
        self.deaf = false;
        self.ttl = Ttl::settable();
        self
    }

    /// Another worker's, to send by.
    pub(super) fn lent(bound: Bound, offload: Offload) -> Self {
        let mut source = Self::deaf(bound, offload);
        source.deaf = false;
        source
    }

    /// On its way to whoever has it next.
    pub(super) fn given_back(mut self) -> Bound {
        self.bound.set_overflowed(self.overflowed);
        self.bound
    }

    /// Before a datagram of this TTL is sent.
    pub(super) fn prefer_ttl(&mut self, wanted: u8) {
        if let Some(ttl) = self.ttl.adopt(wanted)
            && self.bound.set_ttl(Some(ttl)).is_err()
        {
            self.ttl.give_up();
        }
    }

    /// Sends with DF set from now on, or without. A lent socket is another worker's as well, which may
    /// have switched it: set is set anew each time, and what was left set shows by the first datagram
    /// that is too long for it.
    pub(super) fn set_dont_fragment(&mut self, set: bool) {
        if set || self.whole {
            self.bound.set_dont_fragment(set);
            self.whole = set;
        }
    }
}

/// Receives one batch, of so many messages at most; nothing when errors of earlier datagrams got in the
/// way too often. `drain` empties the socket's error queue and says how many errors were in it.
pub(super) fn take(
    source: &mut Source,
    receiver: &mut Receiver,
    (batch, most): (&mut Batch, usize),
    mut drain: impl FnMut(&Source) -> usize,
) -> Received {
    let (memory, mut rooms) = batch.rooms();
    rooms.count = rooms.count.min(most);
    let mut unexplained = 0;
    for _ in 0..RETRIES_MAX {
        match receiver.receive(source.bound.descriptor(), memory, rooms) {
            Ok(received) => return Received { count: Some(received), unexplained },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Received { count: Some(0), unexplained };
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => unexplained += u64::from(drain(source) == 0),
        }
    }
    Received { count: None, unexplained }
}

/// What one attempt at receiving came to.
pub(super) struct Received {
    /// Datagrams; nothing when the attempt was given up.
    pub(super) count: Option<usize>,
    /// Errors that no error queue explains.
    pub(super) unexplained: u64,
}
