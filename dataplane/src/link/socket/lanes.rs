//! The order between a listener and its lanes, so that no client's datagrams overtake each other when
//! the kernel begins to spread clients, or ends it (see [`spread`](super::spread)).
//!
//! ```text
//!                 a lane is ready                      listeners drained
//!   together ──────────────────────> lanes are held ─────────────────────> spread
//!            <────────────────────── listeners held <─────────────────────
//!                 lanes drained                        a listener is ready
//! ```
//!
//! Only one of the two kinds gets anything new at a time. So what comes by the other kind for the first
//! time is newer than all that waits in this one, which is read first.

use crate::batch::{SocketId, SocketKind};
use std::collections::VecDeque;

/// Turns of the one kind for which the other is held back at most. What waits in it is drained before;
/// this is for a host where another program has both kinds go on receiving.
const PATIENCE: usize = 8192;

/// What clients come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Listeners,
    Lanes,
}

impl Kind {
    fn other(self) -> Self {
        match self {
            Self::Listeners => Self::Lanes,
            Self::Lanes => Self::Listeners,
        }
    }
}

/// One worker's listeners, and behind them its lanes.
#[derive(Debug)]
pub(super) struct Lanes {
    /// How many of its sockets are listeners; all that follow are lanes.
    listeners: usize,
    /// The kind that is read at once.
    turn: Kind,
    /// It has given something since its turn began. The poller may tell of what was read already, and
    /// then nothing has changed.
    proven: bool,
    /// Of either kind, those that are in the ready queue.
    ready: [usize; 2],
    /// Ready, but of the other kind.
    held: VecDeque<SocketId>,
    patience: usize,
}

/// What is to be done with a socket whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Read,
    /// Not now; it comes back from [`Lanes::released`].
    Held,
    /// The same, and it is the first: whether the other kind is drained has to be found out by reading.
    HeldFirst,
}

impl Lanes {
    /// Of so many sockets, these are listeners.
    pub(super) fn new(sockets: usize, listeners: usize) -> Self {
        let held = VecDeque::with_capacity(sockets);
        let (turn, proven, ready) = (Kind::Listeners, true, [0; 2]);
        Self { listeners, turn, proven, ready, held, patience: PATIENCE }
    }

    /// Clients come by lanes.
    pub(super) fn is_spread(&self) -> bool {
        self.turn == Kind::Lanes
    }

    /// All of this kind have been read to the end.
    pub(super) fn is_drained(&self, kind: Kind) -> bool {
        self.ready[kind as usize] == 0 && (kind == self.turn || self.held.is_empty())
    }

    /// The sockets that are listeners.
    pub(super) fn listeners(&self) -> usize {
        self.listeners
    }

    fn kind(&self, id: SocketId) -> Option<Kind> {
        match id.kind() {
            SocketKind::Listener(index) if index < self.listeners => Some(Kind::Listeners),
            SocketKind::Listener(_) => Some(Kind::Lanes),
            _ => None,
        }
    }

    /// True for a listener, where there are lanes beside it.
    pub(super) fn is_listener(&self, id: SocketId) -> bool {
        self.kind(id) == Some(Kind::Listeners)
    }

    pub(super) fn is_lane(&self, id: SocketId) -> bool {
        self.kind(id) == Some(Kind::Lanes)
    }

    /// It was put into the ready queue.
    pub(super) fn queued(&mut self, id: SocketId) {
        if let Some(kind) = self.kind(id) {
            self.ready[kind as usize] += 1;
        }
    }

    /// It was taken out of the ready queue: may it be read?
    pub(super) fn admit(&mut self, id: SocketId) -> Admission {
        let Some(kind) = self.kind(id) else { return Admission::Read };
        self.ready[kind as usize] -= 1;
        if kind == self.turn {
            return Admission::Read;
        }
        self.held.push_back(id);
        if self.held.len() > 1 {
            return Admission::Held;
        }
        self.patience = PATIENCE;
        Admission::HeldFirst
    }

    /// Its turn is over, and it gave something, or nothing.
    pub(super) fn turned(&mut self, id: SocketId, gave: bool) {
        if self.kind(id).is_some() {
            self.proven |= gave;
            self.patience = self.patience.saturating_sub(1);
        }
    }

    /// True when what is held may be read: [`released`](Self::released) has it.
    pub(super) fn settle(&mut self) -> bool {
        if !self.proven && self.ready[self.turn as usize] == 0 {
            (self.turn, self.proven) = (self.turn.other(), true);
            return !self.held.is_empty();
        }
        if self.held.is_empty() {
            return false;
        }
        let over = self.ready[self.turn as usize] == 0 || self.patience == 0;
        if over {
            (self.turn, self.proven) = (self.turn.other(), false);
        }
        over
    }

    /// Back into the ready queue, one after the other.
    pub(super) fn released(&mut self) -> Option<SocketId> {
        self.held.pop_front()
    }
}
