//! Sending what the control thread wants sent.

use super::{Egress, Worker};
use crate::batch::{Arrival, BATCH_MAX, Departure, Outcome};
use crate::link::Link;
use crate::mailbox::{Letter, LetterKind};
use std::net::SocketAddr;
use wire::{Direction, Reason};

/// Batches of letters in one round.
const LETTER_BATCHES_MAX: usize = 4;

impl<L: Link> Worker<L> {
    /// Sends the letters in the first `waiting` bytes of the ring, within the round's budget.
    pub(super) fn deliver(&mut self, waiting: usize) {
        let mut used = 0;
        for _ in 0..LETTER_BATCHES_MAX {
            let mut directions = [Direction::ToClient; BATCH_MAX];
            self.batch.clear();
            while used < waiting && !self.batch.is_full() {
                let Self { mail, egress, batch, counters, .. } = self;
                let taken = mail.letters.take(|letter, bytes| {
                    let index = batch.len();
                    let departure = match letter.kind {
                        LetterKind::Client | LetterKind::Gone => to_client(egress, letter),
                        LetterKind::Peer => to_peer(egress, letter),
                        // only ever sent the other way
                        LetterKind::Unreachable => Err(Reason::NotOurs),
                    };
                    match departure {
                        Ok(departure) if batch.push(bytes, written(letter.local)) => {
                            directions[index] = direction(letter);
                            batch.depart(index, departure);
                        }
                        Ok(_) => counters.refused_control[Reason::TooBig as usize].add(1),
                        Err(reason) => counters.refused_control[reason as usize].add(1),
                    }
                });
                let Some(taken) = taken else { break };
                used += taken;
            }
            if self.batch.is_empty() {
                return;
            }
            self.link.send(&mut self.batch);
            for (index, direction) in directions.iter().enumerate().take(self.batch.len()) {
                match self.batch.outcome(index) {
                    Outcome::Sent => self.counters.sent[*direction as usize].add(1),
                    Outcome::Refused(reason) => {
                        self.counters.refused_control[reason as usize].add(1);
                    }
                    Outcome::Unsent => {
                        self.counters.refused_control[Reason::SendFailed as usize].add(1);
                    }
                }
            }
        }
    }
}

fn direction(letter: &Letter) -> Direction {
    match letter.kind {
        LetterKind::Client | LetterKind::Gone => Direction::ToClient,
        LetterKind::Peer | LetterKind::Unreachable => Direction::ToPeer,
    }
}

fn to_client(egress: &Egress, letter: &Letter) -> Result<Departure, Reason> {
    let (by, from) = egress.by_listener(letter.local).ok_or(Reason::NotOurs)?;
    let marks = letter.marks;
    Ok(Departure { by, to: letter.remote, from, marks, dont_fragment: false })
}

fn to_peer(egress: &Egress, letter: &Letter) -> Result<Departure, Reason> {
    let owner = egress.owner(letter.slot);
    let owner = owner.filter(|id| id.generation() == letter.generation);
    let by = owner.and_then(|id| egress.by_port(id)).ok_or(Reason::PortClosed)?;
    let Letter { remote: to, marks, dont_fragment, .. } = *letter;
    Ok(Departure { by, to, from: None, marks, dont_fragment })
}

/// How a datagram that came from the control thread is entered in a batch.
fn written(local: SocketAddr) -> Arrival {
    Arrival { remote: local, local, ttl: 0, tos: 0, truncated: false }
}
