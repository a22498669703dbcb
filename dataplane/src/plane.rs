//! The data plane as the control thread holds it.

mod start;

use crate::config::{Config, OpenPortError, StartError, Tuning};
use crate::link::socket::{Bound, BufferSizes, bind_relay, register};
use crate::mailbox::{Bell, Command, ControlEnd, Letter, LetterKind};
use crate::route::{Event, PortId, Route, TableFull};
use crate::slots::Slots;
use crate::stats::{Counters, RouteCounters, Snapshot};
use crate::table::RouteWriter;
use mio::Waker;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::thread::JoinHandle;
use wire::Reason;

/// One worker, seen from the control thread.
struct Handle {
    mail: ControlEnd<Bound>,
    registry: mio::Registry,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<io::Result<()>>>,
    info: WorkerInfo,
}

/// Where a worker runs and what it got.
#[derive(Clone, Copy, Debug)]
pub struct WorkerInfo {
    /// The core that it was to be pinned to.
    pub core: Option<usize>,
    /// Whether it is pinned there; where not, it runs wherever the scheduler puts it.
    pub pinned: bool,
    /// The smallest buffers that the kernel granted one of its listeners.
    pub listener_buffers: BufferSizes,
}

/// All workers, their route table and their relay ports. Dropping it ends the workers.
pub struct Dataplane {
    workers: Vec<Handle>,
    routes: RouteWriter,
    slots: Slots,
    listen: Vec<SocketAddr>,
    tuning: Tuning,
    refused: [u64; Reason::COUNT],
    stop: Arc<AtomicBool>,
    control: Arc<Bell>,
    /// The worker whose events are handed over first next time.
    turn: usize,
}

impl Dataplane {
    /// Binds the listeners (one per worker and address, SO_REUSEPORT where there are several) and
    /// starts the workers. `control` is woken when there is something to [`poll`](Self::poll).
    pub fn start(config: Config, control: Arc<Waker>) -> Result<Dataplane, StartError> {
        Self::start_tuned(config, Tuning::default(), control)
    }

    /// [`start`](Self::start), with other sizes than the default ones.
    pub fn start_tuned(
        config: Config,
        tuning: Tuning,
        control: Arc<Waker>,
    ) -> Result<Dataplane, StartError> {
        start::start(config, tuning, control)
    }

    /// The listening addresses in the order of configuration, as bound: port 0 is resolved.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// How many workers there are.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Where the workers run and what they got, by worker.
    pub fn workers(&self) -> impl Iterator<Item = WorkerInfo> {
        self.workers.iter().map(|worker| worker.info)
    }

    /// Binds the relayed transport address `relay`, port given, on this thread, and hands it to
    /// the worker. An address closed a moment ago is in use until its worker has let go of it.
    pub fn open_port(&mut self, worker: usize, relay: SocketAddr) -> Result<PortId, OpenPortError> {
        if worker >= self.workers.len() {
            return Err(OpenPortError::Io(io::ErrorKind::InvalidInput.into()));
        }
        if self.slots.next(worker).is_none() {
            self.collect();
        }
        let id = self.slots.next(worker).ok_or(OpenPortError::Exhausted)?;
        let handle = &mut self.workers[worker];
        let port = bind_relay(relay, self.tuning.relay).map_err(OpenPortError::of)?;
        let socket = crate::batch::SocketId::port(id.slot());
        register(&handle.registry, &port, socket).map_err(OpenPortError::of)?;
        let local = port.local();
        self.slots.take(id, local);
        handle.mail.command(Command::Open { id, local, port });
        Ok(id)
    }

    /// Closes a relay port. Its descriptor is released once the worker has let go of it and
    /// [`poll`](Self::poll) was called. A port that is closed already is left as it is.
    pub fn close_port(&mut self, port: PortId) {
        if self.slots.close(port) {
            self.workers[port.worker()].mail.command(Command::Close { id: port });
        }
    }

    /// Publishes a channel to all workers, at once; replaces what was published for it before.
    ///
    /// A channel with a link-local IPv6 address is not published: such an address means nothing
    /// without its interface, so its datagrams go by the control thread, as [`Event`]s.
    pub fn add_route(&mut self, route: &Route) -> Result<(), TableFull> {
        if [route.client, route.peer, route.relay].iter().any(is_link_local) {
            return Ok(());
        }
        self.routes.insert(route)
    }

    /// Withdraws a channel, at once.
    pub fn remove_route(&mut self, route: &Route) {
        self.routes.remove(route);
    }

    /// Sends to a client from the listening address `local`. Dropped, and counted, when the
    /// worker's ring is full.
    pub fn to_client(
        &mut self,
        worker: usize,
        local: SocketAddr,
        remote: SocketAddr,
        bytes: &[u8],
    ) {
        let (kind, dont_fragment) = (LetterKind::Client, false);
        let letter = Letter { kind, dont_fragment, slot: 0, generation: 0, remote, local };
        let sent = self.workers.get_mut(worker).is_some_and(|to| to.mail.send(&letter, bytes));
        if !sent {
            self.refused[Reason::RingFull as usize] += 1;
        }
    }

    /// Sends to a peer from a relay port, with DF set if `dont_fragment`. Dropped, and counted,
    /// when the worker's ring is full or the port is not open any more.
    pub fn to_peer(&mut self, port: PortId, peer: SocketAddr, bytes: &[u8], dont_fragment: bool) {
        let Some(local) = self.slots.relay(port) else {
            self.refused[Reason::PortClosed as usize] += 1;
            return;
        };
        let (slot, generation) = (port.slot(), port.generation());
        let kind = LetterKind::Peer;
        let letter = Letter { kind, dont_fragment, slot, generation, remote: peer, local };
        let mail = &mut self.workers[port.worker()].mail;
        if mail.is_behind() || !mail.send(&letter, bytes) {
            self.refused[Reason::RingFull as usize] += 1;
        }
    }

    /// Hands over at most `budget` events, from each worker in its turn, and says how many. When
    /// more are left, the control thread's waker is woken again.
    pub fn poll(&mut self, budget: usize, on_event: &mut dyn FnMut(Event<'_>)) -> usize {
        self.control.hear();
        self.collect();
        let (mut handed, mut idle) = (0, 0);
        while handed < budget && idle < self.workers.len() {
            let worker = self.turn % self.workers.len();
            self.turn = worker + 1;
            // a few at a time, so that one worker's flood leaves room for the others
            let share = (budget - handed).min(16);
            let taken = self.take_events(worker, share, on_event);
            idle = if taken == 0 { idle + 1 } else { 0 };
            handed += taken;
        }
        if self.workers.iter().any(|worker| !worker.mail.events.is_empty()) {
            self.control.ring();
        }
        handed
    }

    /// Wakes the workers that got something since the last time.
    pub fn flush(&mut self) {
        self.workers.iter_mut().for_each(|worker| worker.mail.flush());
    }

    /// All counters now.
    pub fn stats(&self) -> Snapshot {
        let workers = self.workers.iter().map(|worker| {
            let mut snapshot = worker.counters.snapshot();
            snapshot.running = worker.thread.as_ref().is_some_and(|thread| !thread.is_finished());
            snapshot
        });
        Snapshot {
            workers: workers.collect(),
            refused_control: self.refused,
            routes: self.routes.live(),
            table_size: self.routes.table().size(),
        }
    }

    /// What the workers have carried for a channel since it was first published.
    pub fn route_counters(&self, route: &Route) -> RouteCounters {
        self.routes.counters(route)
    }

    /// Ends the workers and waits for them; all sockets are closed then.
    pub fn stop(self) {
        drop(self);
    }

    fn take_events(
        &mut self,
        worker: usize,
        share: usize,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> usize {
        let Self { workers, slots, refused, .. } = self;
        let events = &mut workers[worker].mail.events;
        for taken in 0..share {
            let found = events.take(|letter, bytes| {
                let Letter { local, remote, slot, generation, .. } = *letter;
                if letter.kind == LetterKind::Client {
                    return on_event(Event::Client { worker, local, remote, bytes });
                }
                let port = PortId::new(worker, slot, generation);
                match slots.relay(port) {
                    Some(relay) => on_event(Event::Peer { port, relay, peer: remote, bytes }),
                    None => refused[Reason::PortClosed as usize] += 1,
                }
            });
            if found.is_none() {
                return taken;
            }
        }
        share
    }

    /// Drops the sockets that workers gave back; their slots are free.
    fn collect(&mut self) {
        let Self { workers, slots, .. } = self;
        for worker in workers {
            worker.mail.collect(|returned| {
                drop(returned.port);
                slots.release(returned.id);
            });
        }
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.stop.store(true, Release);
        self.workers.iter().for_each(|worker| worker.mail.wake());
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take() {
                // how it ended no longer matters: it is gone
                let _ = thread.join();
            }
        }
    }
}

fn is_link_local(address: &SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}
