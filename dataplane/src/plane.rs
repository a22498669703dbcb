//! The data plane as the control thread holds it.

mod frames;
mod lanes;
mod lend;
mod moving;
mod sending;
mod start;

use crate::config::{Config, OpenPortError, StartError, Tuning};
use crate::link::socket::{Bound, BufferSizes, BusyPolling, bind_relay, register};
use crate::mailbox::{
    Bell, COMMANDS_MAX, Command, ControlEnd, ELSEWHERE, Letter, LetterKind, SessionCommand,
};
use crate::route::{Client, Event, Permission, PortId, Relayed, Route, TableFull, Transport};
use crate::session::{Identity, IdentityError, SessionCounters};
use crate::slots::Slots;
use crate::stats::{Counters, PathCounters, RouteCounters, Snapshot, Traffic};
use crate::table::{PermitWriter, RouteWriter};
use lend::Wanted;
use mio::Waker;
use moving::{Moves, let_go};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::thread::JoinHandle;
use wire::Reason;

/// Commands that may wait for a session thread before further channels are refused.
const ROUTE_BACKLOG_MAX: usize = 64 * COMMANDS_MAX;

/// A session thread's channel: relayed address, number, client. Whoever has the relay port.
type Path = (SocketAddr, u16, Client);

/// One worker, or one session thread, seen from the control thread.
struct Handle {
    mail: ControlEnd<Bound>,
    registry: mio::Registry,
    counters: Arc<Counters>,
    /// Of a session thread.
    session: Option<Arc<SessionCounters>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    /// Bytes of its events that were read so far.
    read: u64,
    info: WorkerInfo,
}

/// Where a worker runs and what it got.
#[derive(Clone, Copy, Debug)]
pub struct WorkerInfo {
    /// The core that it was to be pinned to.
    pub core: Option<usize>,
    /// Whether it is pinned there; where not, it runs wherever the scheduler puts it.
    pub pinned: bool,
    /// The smallest buffers that the kernel granted one of its UDP listeners; 0 for a session thread.
    pub listener_buffers: BufferSizes,
    /// Whether it polls its devices before it sleeps; session threads never do.
    pub busy_polling: BusyPolling,
    /// Lanes that it has on each listening address; 0 for a session thread, and where the kernel, or
    /// the limit of descriptors, does not allow them.
    pub lanes: usize,
}

/// Where session threads listen, as bound, each list in the order of configuration.
#[derive(Clone, Debug, Default)]
pub struct SessionAddresses {
    /// TCP.
    pub tcp: Vec<SocketAddr>,
    /// TLS over TCP.
    pub tls: Vec<SocketAddr>,
    /// DTLS over UDP.
    pub dtls: Vec<SocketAddr>,
}

/// All workers and session threads, their route table and their relay ports. Dropping it ends the workers.
pub struct Dataplane {
    workers: Vec<Handle>,
    routes: RouteWriter,
    permits: PermitWriter,
    /// What the channels of session threads have carried.
    paths: HashMap<Path, Arc<PathCounters>>,
    slots: Slots,
    /// The workers that were lent a port.
    loans: HashMap<PortId, Vec<u16>>,
    /// Ports on their way from one owner to the next.
    moves: Moves,
    listen: Vec<SocketAddr>,
    session_listen: SessionAddresses,
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

    /// Where TCP, TLS and DTLS clients are listened for, as bound: port 0 is resolved.
    pub fn session_addresses(&self) -> &SessionAddresses {
        &self.session_listen
    }

    /// How many workers there are, with the session threads: those have the numbers after the UDP
    /// workers'.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// Where the workers run and what they got, by worker; after them the session threads.
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
        if handle.info.busy_polling.is_on() {
            // granted to the worker's listeners; a port without it is only told of later
            let _ = port.set_busy_poll(self.tuning.busy_poll);
        }
        let local = port.local();
        self.slots.take(id, local, port.number());
        handle.mail.command(Command::Open { id, local, port });
        Ok(id)
    }

    /// Closes a relay port. Its descriptor is released once the worker has let go of it and
    /// [`poll`](Self::poll) was called. A port that is closed already is left as it is.
    pub fn close_port(&mut self, port: PortId) {
        let local = self.slots.relay(port);
        if self.slots.close(port) {
            self.moves.forget(port);
            local.into_iter().for_each(|local| self.recall(port, local));
            self.workers[port.worker()].mail.command(Command::Close { id: port });
        }
    }

    /// Publishes a channel to all workers, at once; replaces what was published for it before. The
    /// channel of a client that is not UDP is published to the session thread of its relay port,
    /// before any [`to_client`](Self::to_client) that follows; it has no effect where the client is
    /// served by another thread than the port, which leaves its datagrams to the control thread.
    ///
    /// A channel with a link-local IPv6 address is not published: such an address means nothing
    /// without its interface, so its datagrams go by the control thread, as [`Event`]s.
    pub fn add_route(&mut self, route: &Route) -> Result<(), TableFull> {
        if [route.client, route.peer, route.relay].iter().any(is_link_local) {
            return Ok(());
        }
        if route.transport == Transport::Udp {
            return self.routes.insert(route);
        }
        let backlog = self.session(route.port.worker()).map_or(0, |handle| handle.mail.backlog());
        if backlog >= ROUTE_BACKLOG_MAX {
            return Err(TableFull);
        }
        let key = path_of(route);
        let traffic = Arc::clone(self.paths.entry(key).or_default());
        let Some(handle) = self.session(route.port.worker()) else { return Ok(()) };
        handle.mail.command(Command::Session(Box::new(SessionCommand::Add(*route, traffic))));
        Ok(())
    }

    /// Withdraws a channel, at once; says what was carried for it.
    pub fn remove_route(&mut self, route: &Route) -> RouteCounters {
        if route.transport == Transport::Udp {
            return self.routes.remove(route);
        }
        if let Some(handle) = self.session(route.port.worker()) {
            handle.mail.command(Command::Session(Box::new(SessionCommand::Remove(*route))));
        }
        let path = self.paths.remove(&path_of(route));
        path.map(|path| path.values()).unwrap_or_default()
    }

    /// Publishes a UDP client's relayed address to all workers, for its Send indications; replaces
    /// what was published for that client and family before. Without it, as when the table has no
    /// room, they go by the control thread, as [`Event`]s.
    ///
    /// Not published, as with [`add_route`](Self::add_route), with a link-local IPv6 address.
    pub fn add_relayed(&mut self, relayed: &Relayed) -> Result<(), TableFull> {
        let linked = [relayed.client, relayed.relay].iter().any(is_link_local);
        if linked || !self.tuning.indications {
            return Ok(());
        }
        self.permits.insert_relayed(relayed)
    }

    /// Withdraws a relayed address, at once; says what the workers have sent from it for Send
    /// indications.
    pub fn remove_relayed(&mut self, relayed: &Relayed) -> Traffic {
        self.permits.remove_relayed(relayed)
    }

    /// Publishes a UDP client's permission to all workers, at once: for its Send indications, and for
    /// Data indications with what comes from peers that have no channel. Replaces what was published
    /// for that peer and relayed address before. Otherwise as [`add_relayed`](Self::add_relayed).
    pub fn add_permission(&mut self, permission: &Permission) -> Result<(), TableFull> {
        let Permission { client, relay, peer, .. } = *permission;
        let peer = SocketAddr::new(peer, 0);
        if [client, relay, peer].iter().any(is_link_local) || !self.tuning.indications {
            // it may have stood for another client
            self.permits.remove_permission(permission.peer, relay);
            return Ok(());
        }
        self.permits.insert_permission(permission)
    }

    /// Withdraws the permission of a peer's address to use a relayed address, at once; says what
    /// the workers have carried for it in Data indications.
    pub fn remove_permission(&mut self, peer: IpAddr, relay: SocketAddr) -> Traffic {
        self.permits.remove_permission(peer, relay)
    }

    /// What the workers have carried in indications: from a relayed address as it is published now,
    /// and for these peers' permissions to use it.
    pub fn indications(
        &self,
        relayed: &Relayed,
        peers: impl Iterator<Item = IpAddr>,
    ) -> RouteCounters {
        let mut carried =
            RouteCounters { to_peer: self.permits.sent(relayed), ..Default::default() };
        peers.for_each(|peer| carried.to_client.add(self.permits.came(peer, relayed.relay)));
        carried
    }

    /// Ends the connection of a TCP or TLS client, or the association of a DTLS client, once what
    /// was given to [`to_client`](Self::to_client) before is sent; where it is spliced, the peer's
    /// connection ends too. [`Event::Gone`] follows. A client that is not there is ignored.
    pub fn close_client(&mut self, worker: usize, client: Client) {
        if let Some(handle) = self.session(worker) {
            let after = handle.mail.sent();
            let end = SessionCommand::End { client, after };
            handle.mail.command(Command::Session(Box::new(end)));
        }
    }

    /// Joins the connection of a TCP or TLS client with `peer` (RFC 6062), after what was given to
    /// [`to_client`](Self::to_client) before: from there on bytes go through raw, both ways, and
    /// what the client has sent since its last message goes first. It ends when both sides have
    /// ended, or nothing goes through for long, or by [`close_client`](Self::close_client);
    /// [`Event::Gone`] follows. `peer` is closed where the client is not there any more.
    pub fn splice(&mut self, worker: usize, client: Client, peer: TcpStream) {
        if let Some(handle) = self.session(worker) {
            let after = handle.mail.sent();
            let splice = SessionCommand::Splice { client, peer, after };
            handle.mail.command(Command::Session(Box::new(splice)));
        }
    }

    /// Shows another certificate to TLS and DTLS clients from now on; who is connected stays.
    ///
    /// # Errors
    /// DTLS is offered and cannot use the key: the old identity stays.
    pub fn replace_identity(&mut self, identity: &Arc<Identity>) -> Result<(), IdentityError> {
        if !self.session_listen.dtls.is_empty() {
            identity.check_dtls()?;
        }
        for handle in self.workers.iter_mut().filter(|handle| handle.session.is_some()) {
            let command = SessionCommand::Identity(Arc::clone(identity));
            handle.mail.command(Command::Session(Box::new(command)));
        }
        Ok(())
    }

    /// A session thread.
    fn session(&mut self, worker: usize) -> Option<&mut Handle> {
        self.workers.get_mut(worker).filter(|handle| handle.session.is_some())
    }

    /// Hands over at most `budget` events, from each worker in its turn, and says how many. When
    /// more are left, the control thread's waker is woken again.
    pub fn poll(&mut self, budget: usize, on_event: &mut dyn FnMut(Event<'_>)) -> usize {
        self.control.hear();
        self.collect();
        self.workers.iter_mut().for_each(|worker| worker.mail.look());
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
            [snapshot.to_control, snapshot.to_worker] = worker.mail.fills();
            snapshot
        });
        let sessions = self.workers.iter().enumerate().filter_map(|(number, handle)| {
            handle.session.as_ref().map(|counters| counters.snapshot(number))
        });
        Snapshot {
            workers: workers.collect(),
            sessions: sessions.collect(),
            refused_control: self.refused,
            routes: self.routes.live(),
            table_size: self.routes.table().size(),
            permits: self.permits.live(),
            permits_refused: self.permits.refused(),
        }
    }

    /// What the workers have carried for a channel since it was first published.
    pub fn route_counters(&self, route: &Route) -> RouteCounters {
        if route.transport == Transport::Udp {
            return self.routes.counters(route);
        }
        let path = self.paths.get(&path_of(route));
        path.map(|path| path.values()).unwrap_or_default()
    }

    /// Ends the workers and waits for them: what was given to [`to_client`](Self::to_client) and
    /// [`to_peer`](Self::to_peer) before is sent, TLS and DTLS clients are told of the end, and all
    /// sockets are closed then.
    pub fn stop(self) {
        drop(self);
    }

    fn take_events(
        &mut self,
        worker: usize,
        share: usize,
        on_event: &mut dyn FnMut(Event<'_>),
    ) -> usize {
        for taken in 0..share {
            let Self { workers, slots, moves, refused, .. } = self;
            let Handle { mail, read, .. } = &mut workers[worker];
            let events = &mut mail.events;
            let mut wanted = None;
            let found = events.take(|letter, bytes| {
                let Letter { transport, local, remote, slot, generation, marks, .. } = *letter;
                match letter.kind {
                    LetterKind::Client => {
                        if slot == ELSEWHERE {
                            wanted = Wanted::of(remote, local, bytes);
                        }
                        let event =
                            Event::Client { worker, transport, local, remote, marks, bytes };
                        return on_event(event);
                    }
                    LetterKind::Gone => {
                        return on_event(Event::Gone { worker, transport, local, remote });
                    }
                    LetterKind::Peer if slot == ELSEWHERE => {
                        let (port, relay, peer) = (PortId::NOBODY, local, remote);
                        return on_event(Event::Peer { port, relay, peer, marks, bytes });
                    }
                    LetterKind::Peer | LetterKind::Unreachable => {}
                }
                let port = moves.heir(PortId::new(worker, slot, generation));
                match slots.relay(port) {
                    Some(relay) => on_event(told(letter, port, relay, bytes)),
                    None => refused[Reason::PortClosed as usize] += 1,
                }
            });
            let Some(size) = found else { return taken };
            *read += size as u64;
            wanted.into_iter().for_each(|wanted| self.lend(worker, wanted));
        }
        share
    }

    /// Drops the sockets that workers gave back; their slots are free.
    fn collect(&mut self) {
        let Self { workers, slots, moves, .. } = self;
        let mut moved = Vec::new();
        for Handle { mail, registry, .. } in workers {
            mail.collect(|returned| {
                if moves.has(returned.id) {
                    let port = returned.port.as_ref();
                    moved.push((returned.id, port.map_or(0, |port| let_go(registry, port))));
                }
                drop(returned.port);
                slots.release(returned.id);
            });
        }
        self.hand_on(&moved);
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.flush();
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

/// What a relay port was sent, or told by ICMP.
fn told<'b>(letter: &Letter, port: PortId, relay: SocketAddr, bytes: &'b [u8]) -> Event<'b> {
    let Letter { remote: peer, marks, .. } = *letter;
    match (letter.kind, bytes) {
        (LetterKind::Unreachable, &[kind, code, a, b, c, d]) => {
            let data = u32::from_be_bytes([a, b, c, d]);
            Event::Unreachable { port, relay, peer, kind, code, data }
        }
        _ => Event::Peer { port, relay, peer, marks, bytes },
    }
}

/// A session thread's channel.
fn path_of(route: &Route) -> Path {
    let Route { transport, listener, client, channel, relay, .. } = *route;
    (relay, channel, Client { transport, local: listener, remote: client })
}

fn is_link_local(address: &SocketAddr) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local())
}
