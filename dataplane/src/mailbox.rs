//! What the control thread and one worker say to each other: bounded rings, one writer and one
//! reader each.
//!
//! ```text
//!  control thread                                   worker
//!    commands ── open, close ─────────────────────>   few, never lost (overflow waits in front)
//!    letters  ── datagrams to send ───────────────>   dropped and counted when full
//!             <─────────── events: datagrams ──        dropped and counted when full
//!             <─────────── returned sockets ──         a close waits until there is room
//! ```
//!
//! Commands and datagrams travel in different rings. A worker first looks how many letters there
//! are, then carries out every command, then takes just those letters: a datagram is never acted
//! on before the commands that were given before it.

mod bell;
mod letter;

pub(crate) use bell::Bell;
pub(crate) use letter::{ELSEWHERE, Letter, LetterKind, LetterReader, LetterWriter, letters};

use crate::frames::Frames;
use crate::route::{Client, PortId, Route};
use crate::session::Identity;
use crate::stats::{PathCounters, RingFill};
use rtrb::{Consumer, Producer, RingBuffer};
use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

/// Commands on their way to one worker, and sockets on their way back; more wait on either side.
pub(crate) const COMMANDS_MAX: usize = 1024;

/// A change to a worker's relay ports.
pub(crate) enum Command<P> {
    /// Serve this port from now on.
    Open { id: PortId, local: SocketAddr, port: P },
    /// Give it back.
    Close { id: PortId },
    /// Serve this port, which another had until now: send at once, receive when told.
    TakeOver { id: PortId, local: SocketAddr, port: P },
    /// Whoever had it before has let go: receive. The kernel's count of its drops was `overflowed`.
    Hear { id: PortId, overflowed: u32 },
    /// Send by this port of another worker, for the routes that name it. For a worker only.
    Lend { id: PortId, local: SocketAddr, port: P },
    /// Give back what was lent.
    Recall { id: PortId, local: SocketAddr },
    /// Serve these AF_XDP queues; there are none yet. For a worker only.
    Frames(Box<Frames>),
    /// Give them back, if there are any. For a worker only.
    AskFrames,
    /// For a session thread only.
    Session(Box<SessionCommand>),
}

/// What session threads are told beside their relay ports. `after` counts the letters that were
/// sent before: those go first.
pub(crate) enum SessionCommand {
    /// Relay this channel from now on.
    Add(Route, Arc<PathCounters>),
    /// No longer.
    Remove(Route),
    /// End a client's connection.
    End { client: Client, after: u64 },
    /// Join a client's connection with its peer's.
    Splice { client: Client, peer: TcpStream, after: u64 },
    /// Show this to new clients.
    Identity(Arc<Identity>),
}

/// A relay port that its worker no longer serves.
pub(crate) struct Returned<P> {
    /// [`PortId::NOBODY`] for one that was lent.
    pub(crate) id: PortId,
    /// Dropped by the control thread: closing a socket is no work for a worker.
    pub(crate) port: Option<P>,
}

/// The control thread's end.
pub(crate) struct ControlEnd<P> {
    commands: Producer<Command<P>>,
    /// Commands that found the ring full, in order. The port slots bound it: at most one open and
    /// one close each.
    overflow: VecDeque<Command<P>>,
    letters: LetterWriter,
    pub(crate) events: LetterReader,
    returned: Consumer<Returned<P>>,
    bell: Arc<Bell>,
    /// Letters put in so far.
    sent: u64,
    /// What waits in `events` and in `letters`.
    fills: [RingFill; 2],
    /// Something was put in since the bell was last rung.
    pending: bool,
}

/// The worker's end.
pub(crate) struct WorkerEnd<P> {
    commands: Consumer<Command<P>>,
    pub(crate) letters: LetterReader,
    events: LetterWriter,
    returned: Producer<Returned<P>>,
    /// Wakes this worker.
    pub(crate) bell: Arc<Bell>,
    /// Wakes the control thread.
    control: Arc<Bell>,
    /// Something was put in for the control thread since its bell was last rung.
    pending: bool,
}

/// The two ends of a worker's mailbox; `ring_size` is the size in bytes of each ring of datagrams.
pub(crate) fn mailbox<P>(
    ring_size: usize,
    bell: Arc<Bell>,
    control: Arc<Bell>,
) -> (ControlEnd<P>, WorkerEnd<P>) {
    let (commands, commands_out) = RingBuffer::new(COMMANDS_MAX);
    let (returned_in, returned) = RingBuffer::new(COMMANDS_MAX);
    let (letters_in, letters_out) = letters(ring_size);
    let (events_in, events_out) = letters(ring_size);
    let worker = WorkerEnd {
        commands: commands_out,
        letters: letters_out,
        events: events_in,
        returned: returned_in,
        bell: Arc::clone(&bell),
        control,
        pending: false,
    };
    let control = ControlEnd {
        commands,
        overflow: VecDeque::new(),
        letters: letters_in,
        events: events_out,
        returned,
        bell,
        sent: 0,
        fills: [RingFill::default(); 2],
        pending: false,
    };
    (control, worker)
}

impl<P> ControlEnd<P> {
    /// Gives a command, which is never lost.
    pub(crate) fn command(&mut self, command: Command<P>) {
        self.pending = true;
        self.overflow.push_back(command);
        self.refill();
    }

    /// Moves commands that waited into the ring as far as there is room.
    fn refill(&mut self) {
        while let Some(command) = self.overflow.pop_front() {
            if let Err(rtrb::PushError::Full(command)) = self.commands.push(command) {
                self.overflow.push_front(command);
                return;
            }
            self.pending = true;
        }
    }

    /// True while commands wait in front of the ring: a datagram sent now would overtake them.
    pub(crate) fn is_behind(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Commands that wait in front of the ring.
    pub(crate) fn backlog(&self) -> usize {
        self.overflow.len()
    }

    /// Puts a datagram into the worker's ring. False when it was full.
    pub(crate) fn send(&mut self, letter: &Letter, bytes: &[u8]) -> bool {
        let sent = self.letters.push(letter, bytes, 0);
        self.sent += u64::from(sent);
        self.pending |= sent;
        self.fills[1].see(self.letters.waiting());
        sent
    }

    /// Sees how full the ring to the control thread is.
    pub(crate) fn look(&mut self) {
        self.fills[0].see(self.events.waiting());
    }

    /// How full the rings are: to the control thread, and to the worker.
    pub(crate) fn fills(&self) -> [RingFill; 2] {
        let [mut events, mut letters] = self.fills;
        (events.waiting, events.size) = (self.events.waiting(), self.letters.size());
        (letters.waiting, letters.size) = (self.letters.waiting(), self.letters.size());
        [events, letters]
    }

    /// Letters put into the worker's ring so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Takes back the sockets that the worker gave up.
    pub(crate) fn collect(&mut self, mut on_return: impl FnMut(Returned<P>)) {
        let mut taken = 0;
        while let Ok(returned) = self.returned.pop() {
            on_return(returned);
            taken += 1;
        }
        // the worker may have stopped for want of room
        self.pending |= taken >= COMMANDS_MAX / 2;
        self.refill();
    }

    /// Wakes the worker if anything was put in since the last time.
    pub(crate) fn flush(&mut self) {
        self.refill();
        if std::mem::take(&mut self.pending) {
            self.bell.ring();
        }
    }

    /// Wakes the worker.
    pub(crate) fn wake(&self) {
        self.bell.ring();
    }
}

impl<P> WorkerEnd<P> {
    /// Bytes of the ring to the control thread.
    pub(crate) fn events_size(&self) -> usize {
        self.events.size()
    }

    /// True when nothing is there to be done. A bell rung later ends the sleep.
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.letters.is_empty()
    }

    /// Carries out the commands in their order. `on_command` answers a close with the port that
    /// goes back; a close for which there is no room to go back waits, with all behind it.
    pub(crate) fn carry_out(
        &mut self,
        mut on_command: impl FnMut(Command<P>) -> Option<Returned<P>>,
    ) {
        let mut done = 0;
        while !self.returned.is_full() {
            let Ok(command) = self.commands.pop() else { break };
            done += 1;
            if let Some(returned) = on_command(command) {
                let kept = self.returned.push(returned).is_ok();
                debug_assert!(kept, "only this thread fills the ring, and it was not full");
                self.pending = true;
            }
        }
        // the control thread may hold more back
        self.pending |= done >= COMMANDS_MAX / 2;
    }

    /// Puts a datagram into the control thread's ring. False when fewer than `reserve` bytes of it
    /// would stay free.
    pub(crate) fn report(&mut self, letter: &Letter, bytes: &[u8], reserve: usize) -> bool {
        let put = self.events.push(letter, bytes, reserve);
        self.pending |= put;
        put
    }

    /// Wakes the control thread if anything was put in since the last time.
    pub(crate) fn flush(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.control.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends() -> (ControlEnd<u32>, WorkerEnd<u32>) {
        mailbox(1 << 16, Arc::new(Bell::silent()), Arc::new(Bell::silent()))
    }

    fn id(slot: u32) -> PortId {
        PortId::new(0, slot, 0)
    }

    #[test]
    fn commands_beyond_the_ring_wait_and_keep_their_order() {
        let (mut control, mut worker) = ends();
        let many = 5 * COMMANDS_MAX as u32;
        for slot in 0..many {
            let local = SocketAddr::from(([127, 0, 0, 1], 1));
            control.command(Command::Open { id: id(slot), local, port: slot });
        }
        assert!(control.is_behind());
        let mut seen = Vec::new();
        while seen.len() < many as usize {
            let before = seen.len();
            worker.carry_out(|command| {
                let Command::Open { id, port, .. } = command else { return None };
                assert_eq!(id.slot(), port);
                seen.push(port);
                None
            });
            assert!(seen.len() > before, "no progress");
            control.flush();
        }
        assert!(seen.into_iter().eq(0..many) && !control.is_behind());
    }

    #[test]
    fn how_full_a_ring_is_and_was_is_told() {
        // given
        let (mut control, mut worker) = ends();
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let letter = Letter {
            kind: LetterKind::Client,
            dont_fragment: false,
            marks: None,
            transport: crate::Transport::Udp,
            slot: 0,
            generation: 0,
            remote: local,
            local,
        };
        // when three letters go each way, and all of the worker's are taken
        for _ in 0..3 {
            assert!(control.send(&letter, &[0; 32]) && worker.report(&letter, &[0; 32], 0));
        }
        control.look();
        while control.events.take(|_, _| {}).is_some() {}
        // then
        let [events, letters] = control.fills();
        assert_eq!((events.waiting, events.peak), (0, 300));
        assert_eq!((letters.waiting, letters.peak), (300, 300));
        assert!(events.size == letters.size && events.size >= 1 << 16);
    }

    #[test]
    fn closes_wait_for_room_on_the_way_back_and_all_ports_come_back() {
        let (mut control, mut worker) = ends();
        let many = 3 * COMMANDS_MAX as u32;
        (0..many).for_each(|slot| control.command(Command::Close { id: id(slot) }));
        let mut back = Vec::new();
        for _ in 0..10 {
            worker.carry_out(|command| {
                let Command::Close { id } = command else { return None };
                Some(Returned { id, port: Some(id.slot()) })
            });
            control.collect(|returned| back.extend(returned.port));
            control.flush();
        }
        assert!(back.into_iter().eq(0..many));
    }
}
