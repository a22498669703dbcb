//! The control thread: it alone holds the server's truth, and joins it to the data plane.
//!
//! ```text
//!   workers --events--> Inbox --> turn::Server --> Outlet --> workers, kernel program
//!   timers, news of the network, signals, admin questions --^
//! ```
//!
//! It answers clients, so it waits for nobody: what the kernel may take long over is asked by threads
//! beside it, which wake this one as workers do.
//!
//! One turn of the loop does a bounded amount of each kind of work, so that no kind can starve
//! another: at most `ROUNDS` batches of events, one run of the timers, `QUESTIONS` questions.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::{Context, bail};
use dataplane::frames::{Keeper, News};
use dataplane::kernel::{AttachedInterface, Changes, MovedPermission};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use turn::{Input, Now, Server};

mod drain;
mod inbox;
mod listing;
mod outlet;
mod peers;
mod pinning;
mod reload;
mod summary;

pub use outlet::{Counts, Outlet};
pub use peers::{PeerCounts, Peers};
pub use reload::ReloadCounts;

use crate::admin::Question;
use crate::admin::metrics::{About, Snapshot};
use crate::nonce_keys::NonceKeys;
use crate::random::System;
use crate::reload::Reloader;
use crate::{clock, sys};
use drain::Drain;
use inbox::Inbox;
use outlet::PassesOn;
use pinning::Pinning;
use reload::Reloads;
use summary::Summary;

const WAKE: Token = Token(0);
const SIGNAL: Token = Token(1);

/// Events of one batch.
const BATCH: usize = 64;
/// Batches of one turn.
const ROUNDS: usize = 16;
/// Questions of one turn.
const QUESTIONS: usize = 2;
/// How often the kernel program's surroundings are looked at.
const TICK: Duration = Duration::from_secs(1);

/// What the control thread sleeps on. Made before the workers, which need its waker.
pub struct Sleep {
    poll: Poll,
    waker: Arc<Waker>,
}

impl Sleep {
    /// Nothing to wake for yet.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn new() -> io::Result<Sleep> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
        Ok(Sleep { poll, waker })
    }

    /// What others wake the control thread with.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// TCP sockets towards peers, waited for here; at most this many connections.
    ///
    /// # Errors
    /// The system has no descriptors left.
    pub fn peers(&self, connections_max: usize) -> io::Result<Peers> {
        Ok(Peers::new(self.poll.registry().try_clone()?, connections_max))
    }
}

/// The control thread's state.
pub struct Driver {
    sleep: Sleep,
    signals: OwnedFd,
    questions: Option<Receiver<Question>>,
    server: Server,
    outlet: Outlet,
    inbox: Inbox,
    about: Arc<About>,
    summary: Summary,
    started: Duration,
    next_tick: Duration,
    /// The kernel tier has more to look at than one round of it did.
    look_again: bool,
    /// A worker that is gone, and what that means.
    ended: Option<String>,
    reloads: Reloads,
    nonce_keys: NonceKeys,
    drain_timeout: Duration,
    drain: Option<Drain>,
    pinning: Pinning,
}

/// What a driver joins.
pub struct Parts {
    /// What it sleeps on.
    pub sleep: Sleep,
    /// Signals as a descriptor.
    pub signals: OwnedFd,
    /// Where the admin server's questions come out.
    pub questions: Option<Receiver<Question>>,
    /// The protocol.
    pub server: Server,
    /// The data plane.
    pub outlet: Outlet,
    /// What does not change.
    pub about: About,
    /// What reads the configuration again.
    pub reloader: Reloader,
    /// The keys of nonces, of which the server has the first ones.
    pub nonce_keys: NonceKeys,
    /// How long draining may take.
    pub drain_timeout: Duration,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Everything that waited is done.
    Idle,
    /// More may wait.
    Busy,
}

impl Driver {
    /// Joins the parts.
    ///
    /// # Errors
    /// A descriptor cannot be waited for.
    pub fn new(parts: Parts) -> io::Result<Driver> {
        let Parts { sleep, signals, outlet, .. } = parts;
        let registry = sleep.poll.registry();
        registry.register(&mut SourceFd(&signals.as_raw_fd()), SIGNAL, Interest::READABLE)?;
        let started = sys::monotonic();
        let reloads = Reloads::new(Arc::new(parts.reloader), sleep.waker());
        Ok(Driver {
            sleep,
            signals,
            questions: parts.questions,
            server: parts.server,
            outlet,
            inbox: Inbox::default(),
            pinning: Pinning::new(&parts.about.cores),
            about: Arc::new(parts.about),
            summary: Summary::new(started),
            started,
            next_tick: started,
            look_again: false,
            ended: None,
            reloads,
            nonce_keys: parts.nonce_keys,
            drain_timeout: parts.drain_timeout,
            drain: None,
        })
    }

    /// Serves until a signal says to end, then detaches the program and ends the workers.
    ///
    /// # Errors
    /// The control thread cannot sleep, or a worker has ended: whoever watches over the process
    /// should start it anew, rather than that some clients reach nobody.
    pub fn run(mut self) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            let turn = self.turn();
            if let Some(what) = &self.ended {
                bail!("{what}");
            }
            if self.drained(sys::monotonic()) {
                self.outlet.stop();
                return Ok(());
            }
            let timeout = match turn {
                Turn::Busy => Duration::ZERO,
                Turn::Idle => self.until_next(sys::monotonic()),
            };
            match self.sleep.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("the control thread cannot sleep"),
            }
            for event in &events {
                match event.token() {
                    SIGNAL if self.told_to_end() => {
                        self.outlet.stop();
                        return Ok(());
                    }
                    Token(peers::FIRST_TOKEN..) => self.outlet.peers.on_event(event),
                    _ => {}
                }
            }
        }
    }

    /// A bounded amount of every kind of work.
    fn turn(&mut self) -> Turn {
        let mut turn = Turn::Idle;
        self.outlet.counts.turns += 1;
        if self.events() == Turn::Busy {
            turn = Turn::Busy;
        }
        self.timers(clock::now());
        self.tell_of_peers();
        self.take_reload();
        if self.look_around() == Turn::Busy {
            turn = Turn::Busy;
        }
        if self.outlet.keeper.as_ref().is_some_and(Keeper::is_told) {
            self.keep_frames(sys::monotonic());
        }
        if self.answer() == Turn::Busy {
            turn = Turn::Busy;
        }
        self.outlet.plane.flush();
        turn
    }

    fn events(&mut self) -> Turn {
        for _ in 0..ROUNDS {
            self.inbox.clear();
            let inbox = &mut self.inbox;
            let count = self.outlet.plane.poll(BATCH, &mut |event| inbox.push(&event));
            if count == 0 {
                return Turn::Idle;
            }
            self.outlet.counts.events += count as u64;
            for (input, marks) in self.inbox.inputs() {
                self.outlet.passes_on = PassesOn::of(&input, marks);
                self.server.handle(clock::now(), input, &mut self.outlet);
            }
            self.outlet.passes_on = PassesOn::default();
            self.outlet.plane.flush();
        }
        Turn::Busy
    }

    /// What happened to TCP connections with peers. Each connection has few of them.
    fn tell_of_peers(&mut self) {
        self.outlet.peers.expire(sys::monotonic());
        while let Some(news) = self.outlet.peers.next_news() {
            self.server.handle(clock::now(), news.input(), &mut self.outlet);
        }
    }

    fn timers(&mut self, now: Now) {
        if self.server.deadline().is_some_and(|deadline| deadline <= now.monotonic) {
            self.server.handle(now, Input::Timer, &mut self.outlet);
        }
        if self.next_tick <= now.monotonic {
            self.next_tick = now.monotonic + TICK;
            if let Some(kernel) = &mut self.outlet.kernel {
                let changes = kernel.tick(now.monotonic);
                self.take_in(changes);
            }
            self.keep_frames(now.monotonic);
            self.pinning.tick(now.monotonic);
            if let Some(key) = self.nonce_keys.due(now.unix, &mut System) {
                self.server.rotate_nonce_key(&key);
                tracing::info!("another key makes the nonces now");
            }
            let workers = self.outlet.plane.stats().workers;
            let worker = workers.iter().position(|worker| !worker.running);
            self.ended = worker
                .map(|worker| format!("worker {worker} has ended: its clients would reach nobody"));
            self.summary.tell(now.monotonic, &self.server, &mut self.outlet);
        }
    }

    /// How long to sleep when nothing happens. mio rounds up to milliseconds, so a deadline has
    /// passed when it wakes.
    fn until_next(&self, now: Duration) -> Duration {
        let deadlines = [self.server.deadline(), self.outlet.peers.deadline()];
        let next = deadlines.into_iter().flatten().min().unwrap_or(self.next_tick);
        next.min(self.next_tick).saturating_sub(now)
    }

    fn answer(&mut self) -> Turn {
        for _ in 0..QUESTIONS {
            let Some(question) = self.questions.as_ref().and_then(|q| q.try_recv().ok()) else {
                return Turn::Idle;
            };
            // Whoever asked may have gone: nothing is lost then.
            match question {
                Question::Health(reply) => drop(reply.try_send(())),
                Question::Ready(reply) => drop(reply.try_send(self.drain.is_none())),
                Question::Reload(reply) => self.reloads.ask(Some(reply)),
                Question::Drain(reply) => drop(reply.try_send(self.drain())),
                Question::Metrics(reply) => drop(reply.try_send(Box::new(self.snapshot()))),
                Question::Allocations { offset, limit, reply } => {
                    let now = clock::now().monotonic;
                    let page = listing::page(&self.server, &self.outlet, now, offset, limit);
                    drop(reply.try_send(page));
                }
            }
        }
        Turn::Busy
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            about: Arc::clone(&self.about),
            uptime: sys::monotonic().saturating_sub(self.started),
            control: self.server.stats().clone(),
            plane: self.outlet.plane.stats(),
            kernel: self.outlet.kernel.as_ref().map(|kernel| kernel.stats()),
            keeper: self.outlet.keeper.as_ref().map(|keeper| keeper.stats()),
            counts: self.outlet.counts,
            open_ports: self.outlet.open_ports(),
            peers: self.outlet.peers.counts(),
            reloads: self.reloads.counts,
            draining: self.drain.is_some(),
            strayed: self.pinning.strayed(),
        }
    }

    /// Reads every signal that waits. SIGTERM and SIGINT end the relay, SIGHUP reloads, SIGUSR1
    /// drains.
    fn told_to_end(&mut self) -> bool {
        let mut end = false;
        while let Some(signal) = sys::next_signal(&self.signals) {
            match signal {
                libc::SIGHUP => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    self.reloads.ask(None);
                }
                libc::SIGUSR1 => {
                    self.drain();
                }
                other => {
                    let name = if other == libc::SIGINT { "SIGINT" } else { "SIGTERM" };
                    tracing::info!(signal = name, "ending");
                    end = true;
                }
            }
        }
        end
    }

    /// Sees to the workers' AF_XDP queues.
    fn keep_frames(&mut self, now: Duration) {
        let Outlet { plane, kernel: Some(kernel), keeper: Some(keeper), .. } = &mut self.outlet
        else {
            return;
        };
        for news in keeper.tick(now, plane, kernel) {
            match news {
                News::Open { worker, queues, zero_copy } => {
                    tracing::info!(worker, queues, zero_copy, "AF_XDP serves a worker");
                }
                News::Anew { worker, why } => {
                    tracing::info!(worker, why, "AF_XDP queues of a worker are opened anew");
                }
                News::Lost { worker, why, next } => {
                    tracing::warn!(
                        worker,
                        why,
                        next_try = next,
                        "no AF_XDP for a worker: sockets carry its traffic"
                    );
                }
                News::Part { worker, why, next } => {
                    tracing::warn!(
                        worker,
                        why,
                        next_try = next,
                        "AF_XDP serves a worker in part: sockets carry the rest of its traffic"
                    );
                }
                News::Unsuited { interface, why } => {
                    tracing::info!(interface, why, "no AF_XDP on an interface");
                }
            }
        }
    }

    /// What is new of neighbours, routes and links.
    fn look_around(&mut self) -> Turn {
        self.look_again = false;
        if let Some(kernel) = &mut self.outlet.kernel {
            let changes = kernel.on_event();
            self.take_in(changes);
        }
        if self.look_again { Turn::Busy } else { Turn::Idle }
    }

    /// Tells which interfaces carry the program now.
    fn take_in(&mut self, changes: Changes) {
        self.look_again |= changes.more;
        for MovedPermission { peer, relay, hops } in changes.permissions {
            self.outlet.plane.lead_permission(peer, relay, hops);
        }
        match changes.secured {
            Some(true) => tracing::warn!(
                "the host's IPsec policies are about addresses of this relay: sockets carry what they \
                 are about, and AF_XDP is off"
            ),
            Some(false) => tracing::info!(
                "the host's IPsec policies are not about addresses of this relay any more"
            ),
            None => {}
        }
        if changes.lost.is_empty() && changes.attached.is_empty() {
            return;
        }
        let carrying = &mut Arc::make_mut(&mut self.about).interfaces;
        for (interface, why) in changes.lost {
            tracing::warn!(
                interface,
                why,
                "the fast path left an interface: sockets carry its traffic"
            );
            carrying.retain(|(name, _)| *name != interface);
        }
        for AttachedInterface { name, mode, why } in changes.attached {
            tracing::info!(interface = name, %mode, why, "the fast path is back on an interface");
            carrying.retain(|(other, _)| *other != name);
            carrying.push((name, mode.to_string()));
        }
    }
}
