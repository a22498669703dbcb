//! Relay ports that go to another owner: their client has come to another worker, or to a session
//! thread, or back (RFC 8016).
//!
//! ```text
//!   old owner: receives ────── close ──> gives its descriptor back ─┐
//!   new owner: another descriptor of the same socket; sends ────────┴─ hear ──> receives
//! ```
//!
//! The socket is never closed, so what waits in its receive buffer stays, and what comes meanwhile
//! waits there too. Only one of the two receives at a time, so the order is kept. What the old owner
//! has told the control thread is still in its ring: it is taken for the new owner's.

use super::Dataplane;
use crate::batch::SocketId;
use crate::config::OpenPortError;
use crate::link::socket::{Bound, deregister, duplicate, register};
use crate::mailbox::Command;
use crate::route::PortId;
use std::collections::HashMap;
use std::io;

/// An owner that a port had before.
struct Before {
    id: PortId,
    /// Once it has let go: where in what is read of its events the last of this port's ends.
    until: Option<u64>,
}

/// What is left of the moves of one port.
#[derive(Default)]
struct Move {
    before: Vec<Before>,
    /// The most drops that one of them has counted.
    overflowed: u32,
}

/// Ports on their way. An entry lives until every owner before has let go, and what it told was read.
#[derive(Default)]
pub(super) struct Moves {
    /// By the owner now.
    moves: HashMap<PortId, Move>,
    /// From each owner before to the owner now.
    heirs: HashMap<PortId, PortId>,
}

impl Moves {
    /// Whose a port's events are now.
    pub(super) fn heir(&self, id: PortId) -> PortId {
        self.heirs.get(&id).copied().unwrap_or(id)
    }

    /// True for an owner before.
    pub(super) fn has(&self, id: PortId) -> bool {
        self.heirs.contains_key(&id)
    }

    /// The port is closed: nothing of it is anybody's.
    pub(super) fn forget(&mut self, id: PortId) {
        for before in self.moves.remove(&id).unwrap_or_default().before {
            self.heirs.remove(&before.id);
        }
    }

    fn begin(&mut self, old: PortId, new: PortId) {
        let mut all = self.moves.remove(&old).unwrap_or_default();
        all.before.push(Before { id: old, until: None });
        self.heirs.extend(all.before.iter().map(|before| (before.id, new)));
        self.moves.insert(new, all);
    }

    /// An owner before has let go. If it was the last one: who is to receive, and the drops so far.
    fn let_go(&mut self, old: PortId, overflowed: u32, until: u64) -> Option<(PortId, u32)> {
        let heir = *self.heirs.get(&old)?;
        let all = self.moves.get_mut(&heir)?;
        all.overflowed = all.overflowed.max(overflowed);
        all.before.iter_mut().filter(|it| it.id == old).for_each(|it| it.until = Some(until));
        all.before.iter().all(|it| it.until.is_some()).then_some((heir, all.overflowed))
    }

    /// Forgets owners whose last events have been read.
    fn tidy(&mut self, read: impl Fn(usize) -> u64) {
        let Self { moves, heirs } = self;
        moves.retain(|_, all| {
            // all at once: until then the last drops are needed, should it move again
            let over = all
                .before
                .iter()
                .all(|it| it.until.is_some_and(|until| read(it.id.worker()) >= until));
            for before in all.before.iter().filter(|_| over) {
                heirs.remove(&before.id);
            }
            !over
        });
    }
}

impl Dataplane {
    /// Gives an open relay port to another worker, or session thread: its name from now on. The
    /// socket stays bound, and nothing that it is sent is lost. Routes that name the port are still
    /// to be published for the new name: the caller adds them, and removes what was published for
    /// another client; a session thread has forgotten its own. The same worker changes nothing.
    ///
    /// # Errors
    /// The port is not open, there is no such worker, one of the two is too far behind, or
    /// descriptors or slots are used up. Nothing changed.
    pub fn move_port(&mut self, port: PortId, worker: usize) -> Result<PortId, OpenPortError> {
        if worker >= self.workers.len() {
            return Err(OpenPortError::Io(io::ErrorKind::InvalidInput.into()));
        }
        let (local, number) =
            self.slots.socket(port).ok_or(OpenPortError::Io(io::ErrorKind::NotFound.into()))?;
        if port.worker() == worker {
            return Ok(port);
        }
        if self.workers[worker].mail.is_behind() || self.workers[port.worker()].mail.is_behind() {
            return Err(OpenPortError::Behind);
        }
        if self.slots.next_of_open(worker).is_none() {
            self.collect();
        }
        let id = self.slots.next_of_open(worker).ok_or(OpenPortError::Exhausted)?;
        let twin = duplicate(number, local).map_err(OpenPortError::of)?;
        let socket = SocketId::port(id.slot());
        register(&self.workers[worker].registry, &twin, socket).map_err(OpenPortError::of)?;
        // nothing fails from here on
        self.recall(port, local);
        self.slots.take(id, local, twin.number());
        self.slots.close(port);
        self.moves.begin(port, id);
        self.workers[worker].mail.command(Command::TakeOver { id, local, port: twin });
        self.workers[port.worker()].mail.command(Command::Close { id: port });
        Ok(id)
    }

    /// Lets the new owners of these receive, where the last one before has let go: `(owner before,
    /// drops that it counted)`.
    pub(super) fn hand_on(&mut self, let_go: &[(PortId, u32)]) {
        let Self { workers, moves, .. } = self;
        for &(old, overflowed) in let_go {
            let teller = &workers[old.worker()];
            // it told before it gave the descriptor back, so all that it told is there
            let until = teller.read + teller.mail.events.waiting() as u64;
            if let Some((id, overflowed)) = moves.let_go(old, overflowed, until) {
                workers[id.worker()].mail.command(Command::Hear { id, overflowed });
            }
        }
        moves.tidy(|worker| workers[worker].read);
    }
}

/// Takes a descriptor out of its owner's poller; the drops that it counted.
pub(super) fn let_go(registry: &mio::Registry, port: &Bound) -> u32 {
    // it was registered and is open: a poller that says otherwise tells of it no more either
    let _ = deregister(registry, port);
    port.overflowed()
}
