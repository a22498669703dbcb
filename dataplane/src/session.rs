//! Session threads: clients over TCP, TLS and DTLS, and those clients' relay ports. One thread for
//! each worker, beside it: a TLS handshake costs 100 us, and must not stand in the way of media.
//!
//! ```text
//!   loop   wait ──> hear the bell ──> read the clock once
//!            ^        ├─ commands: relay ports, channels, closes, splices, identity
//!            │        ├─ letters: what the control thread wants sent
//!            │        ├─ doors: new connections, within the limits
//!            │        ├─ datagrams: of peers to the queues, of DTLS clients to their associations
//!            │        ├─ connections: one read each; messages to the relay or the control thread
//!            │        ├─ timers
//!            └────────┴─ flush: one sendmmsg a socket, one writev a connection
//! ```
//!
//! Every kind of work has a budget per round, every queue a limit, every wait a timer. The UDP
//! sockets are a [`SocketLink`](crate::link::socket::SocketLink) of their own, whose poller is
//! waited for inside this thread's.

mod association;
mod commands;
mod counters;
mod desk;
mod doors;
mod ending;
mod fed;
pub mod framing;
mod identity;
mod incoming;
mod member;
mod members;
mod outgoing;
mod peers;
pub mod proxy;
mod queue;
mod relay;
mod splice;
pub(crate) mod start;
mod stream;
mod timers;
mod turns;
mod wheel;

pub(crate) use counters::SessionCounters;
pub use counters::SessionSnapshot;
pub use ending::Ending;
pub use fed::Fed;
pub use identity::{Identity, IdentityError};

use crate::batch::Batch;
use crate::config::Sessions;
use crate::link::Link;
use crate::mailbox::SessionCommand;
use crate::route::Client;
use crate::worker::Allowance;
use association::{Clock, HalfOpen};
use desk::Desk;
use doors::{Census, Door};
use member::Member;
use members::{Key, Members};
use mio::{Events, Poll, Token};
use relay::Relay;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::time::Duration;
use wheel::Wheel;

/// The poller of the UDP sockets, inside this thread's.
const LINK: Token = Token(usize::MAX - 1);

/// Set in the token of a listener; the rest is its index.
const DOOR: usize = 1 << 52;

/// Set in the token of a spliced peer; the rest is the member's key.
const PEER: usize = 1 << 53;

/// Most edges that one wait takes in.
const EVENTS_MAX: usize = 1024;

/// How soon a connection that waits for room in the control thread's ring is looked at again.
const STALL_RETRY: Duration = Duration::from_millis(2);

/// Writes to each client when the relay ends, of what its queue may hold.
const LAST_FLUSHES_MAX: usize = 64;

/// Everything that one session thread owns.
pub(crate) struct Session {
    poll: Poll,
    doors: Vec<Door>,
    /// Addresses of the DTLS listeners, as bound, in the order of the link's listeners.
    dtls: Vec<SocketAddr>,
    settings: Sessions,
    census: Census,
    members: Members<Member>,
    half_open: HalfOpen,
    /// Half-open associations of clients that have one already.
    contenders: HashMap<Client, Key>,
    associations: usize,
    desk: Desk,
    relay: Relay,
    /// Taken out while its datagrams are dealt with.
    inbound: Option<Batch>,
    counters: Arc<SessionCounters>,
    wheel: Wheel,
    clock: Clock,
    /// The UDP sockets' poller has something.
    link_ready: bool,
    /// Connections that may be read from, and those with something to send.
    ready: VecDeque<Key>,
    dirty: Vec<Key>,
    stalled: Vec<Key>,
    due: Vec<(Key, u32)>,
    /// Commands that wait for letters before them, and letters taken so far.
    deferred: VecDeque<SessionCommand>,
    letters: u64,
    letter_bytes: Vec<u8>,
    /// Accepting pauses until then.
    paused: Option<Duration>,
    allowance: Allowance,
    input: Box<[u8]>,
    plain: Vec<u8>,
    room: Box<[u8]>,
    routes: u64,
}

impl Session {
    /// Works until `stop`, reading the time with `now` once a round; then sends what it was given
    /// until then, and takes its leave.
    pub(crate) fn run(&mut self, stop: &AtomicBool, now: fn() -> Duration) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_MAX);
        while !stop.load(Acquire) {
            let timeout = self.timeout(now());
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            if timeout != Some(Duration::ZERO) {
                self.relay.counters.wakeups.add(1);
            }
            self.desk.mail.bell.hear();
            for event in &events {
                self.note(event);
            }
            self.round(now())?;
        }
        self.last_rounds(now)
    }

    /// Sends the answers that were queued when the relay was told to end, as far as the clients'
    /// sockets take them, and ends every client: TLS and DTLS clients are told. The control thread
    /// waits meanwhile, so that the ring bounds the letters.
    fn last_rounds(&mut self, now: fn() -> Duration) -> io::Result<()> {
        loop {
            self.round(now())?;
            if self.desk.mail.letters.is_empty() {
                break;
            }
        }
        for _ in 0..LAST_FLUSHES_MAX {
            if self.dirty.is_empty() {
                break;
            }
            self.flush(now());
        }
        for key in self.members.keys() {
            self.end(key, Ending::Server, now());
        }
        self.relay.flush();
        Ok(())
    }

    /// How long there is nothing to do, if nothing comes.
    fn timeout(&self, now: Duration) -> Option<Duration> {
        let busy = self.link_ready
            || !self.ready.is_empty()
            || !self.dirty.is_empty()
            || !self.desk.mail.is_empty()
            || self.paused.is_none() && self.doors.iter().any(|door| door.pending);
        if busy {
            return Some(Duration::ZERO);
        }
        let retry = !self.stalled.is_empty() || self.desk.gone_waiting() > 0;
        let retry = retry.then_some(STALL_RETRY);
        let paused = self.paused.map(|until| until.saturating_sub(now));
        [retry, paused, self.wheel.until_next(now)].into_iter().flatten().min()
    }

    /// Takes note of what a poller says.
    fn note(&mut self, event: &mio::event::Event) {
        match event.token() {
            crate::link::socket::WAKE => {}
            LINK => self.link_ready = true,
            Token(token) if token & DOOR != 0 => self.doors[token & !DOOR].pending = true,
            Token(token) => {
                let key = Key::from_bits(token & !PEER);
                self.note_stream(key, token & PEER != 0, event);
            }
        }
    }

    /// One round over everything that is there to be done.
    fn round(&mut self, now: Duration) -> io::Result<()> {
        // the letters that are there now; what they rely on was commanded before
        let waiting = self.desk.mail.letters.waiting();
        self.carry_out(now);
        self.deliver(waiting, now);
        self.accept(now);
        self.datagrams(now)?;
        self.retry_stalled(now);
        self.read_ready(now);
        self.time_out(now);
        self.flush(now);
        self.relay.flush();
        self.tell_unreachable(now);
        self.desk.tell_gone();
        self.desk.mail.flush();
        self.relay.counters.meet(self.relay.link.oddities());
        Ok(())
    }
}
