//! Starting: all listeners are bound before the first worker runs, so that a client never changes
//! its worker because another one joins the group.

use super::lanes::{bind_lanes, steer};
use super::{Dataplane, Handle, WorkerInfo};
use crate::batch::{Batch, DATAGRAM_MAX, SocketId};
use crate::config::{Config, Sessions, StartError, Tuning};
use crate::link::socket::{
    Bound, BufferSizes, BusyPolling, Member, SocketLink, Spreading, WAKE, bind_listener, busy_poll,
    monotonic, register,
};
use crate::mailbox::{Bell, WorkerEnd, mailbox};
use crate::session::SessionCounters;
use crate::session::start::{self as session, is_covered};
use crate::slots::Slots;
use crate::stats::Counters;
use crate::table::{PermitWriter, RouteWriter};
use crate::worker::{Listener, Shared, Worker};
use core_affinity::CoreId;
use mio::{Poll, Waker};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use wire::Reason;

/// Bytes of a ring for each of `Config::ring_len`.
const RING_UNIT: usize = 512;

/// Fewest that a ring is made for.
const RING_LEN_MIN: usize = 256;

pub(super) fn start(
    config: Config,
    tuning: Tuning,
    waker: Arc<Waker>,
) -> Result<Dataplane, StartError> {
    let cores: Vec<Option<usize>> = if config.cores.is_empty() {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        vec![None; cores]
    } else {
        config.cores.iter().copied().map(Some).collect()
    };
    if cores.len() > usize::from(u16::MAX) {
        return Err(StartError::TooManyWorkers(cores.len()));
    }
    let dtls = &config.sessions.dtls_listen;
    let (listen, listeners) = bind_all(&config.listen, dtls, cores.len(), &tuning)?;
    let mut lanes = bind_lanes(&listen, cores.len(), &tuning);
    let (session_listen, doors) = session::bind_all(&config, cores.len(), tuning.listener)?;
    let seats: Vec<Seat> = (0..cores.len()).map(Seat::new).collect::<Result<_, _>>()?;
    let wakers = seats.iter().map(|seat| Arc::clone(&seat.waker)).collect();
    let spreading = steer(&config, &listen, &listeners, &mut lanes, wakers)?;
    let routes = RouteWriter::new(config.routes_max)?;
    let permits = PermitWriter::new(config.permits_max)?;
    let control = Arc::new(Bell::new(waker));
    let stop = Arc::new(AtomicBool::new(false));
    let mut plane = Dataplane {
        workers: Vec::with_capacity(cores.len()),
        routes,
        permits,
        paths: HashMap::new(),
        loans: HashMap::new(),
        moves: Default::default(),
        slots: Slots::new(cores.len() + doors.len(), config.ports_max),
        listen,
        session_listen,
        tuning,
        refused: [0; Reason::COUNT],
        stop,
        control,
        turn: 0,
    };
    let ring_size = RING_UNIT * config.ring_len.max(RING_LEN_MIN);
    let sockets = listeners.into_iter().zip(lanes).zip(seats);
    for (&core, ((listeners, lanes), seat)) in cores.iter().zip(sockets) {
        let sockets = Sockets { listeners, lanes, spreading: spreading.clone() };
        let worker = seat.index;
        // on an error the workers that run already end with `plane`
        let handle = start_worker(&plane, seat, core, sockets, ring_size)
            .map_err(|source| StartError::Worker { worker, source })?;
        plane.workers.push(handle);
    }
    let all = Arc::new(AtomicUsize::new(0));
    for (index, (&core, doors)) in cores.iter().zip(doors).enumerate() {
        let settings = config.sessions.clone();
        let handle = start_session(&plane, index, core, (doors, settings), ring_size, &all);
        let worker = plane.workers.len();
        plane.workers.push(handle.map_err(|source| StartError::Worker { worker, source })?);
    }
    Ok(plane)
}

/// Binds every address for every worker: the addresses, then by worker the listeners. Those that
/// are also for DTLS are shared with the session threads.
fn bind_all(
    addresses: &[SocketAddr],
    dtls: &[SocketAddr],
    workers: usize,
    tuning: &Tuning,
) -> Result<(Vec<SocketAddr>, Vec<Vec<Bound>>), StartError> {
    if addresses.is_empty() {
        return Err(StartError::NoListener);
    }
    let fail = |address| move |source| StartError::Listen { address, source };
    let shared = workers > 1
        || tuning.lanes > 0
        || addresses.iter().any(|at| is_covered(at, addresses) || dtls.contains(at));
    for (index, &address) in addresses.iter().enumerate().filter(|(_, at)| at.port() != 0) {
        if addresses[..index].contains(&address) {
            let twice = io::Error::new(io::ErrorKind::AddrInUse, "the address is given twice");
            return Err(fail(address)(twice));
        }
        // SO_REUSEPORT would silently share the port with another process of the same user
        bind_listener(address, false, tuning.listener).map_err(fail(address))?;
    }
    let mut listeners: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
    let mut bound = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let mut resolved = address;
        for listeners in &mut listeners {
            let listener = bind_listener(resolved, shared, tuning.listener);
            let listener = listener.map_err(fail(address))?;
            resolved.set_port(listener.local().port());
            listeners.push(listener);
        }
        bound.push(resolved);
    }
    Ok((bound, listeners))
}

fn start_worker(
    plane: &Dataplane,
    seat: Seat,
    core: Option<usize>,
    sockets: Sockets,
    ring_size: usize,
) -> io::Result<Handle> {
    let Seat { index, poll, waker } = seat;
    let registry = poll.registry().try_clone()?;
    let bell = Arc::new(Bell::new(waker));
    for (at, listener) in sockets.listeners.iter().chain(&sockets.lanes).enumerate() {
        register(&registry, listener, SocketId::listener(at))?;
    }
    let listener_buffers = sockets.listeners.iter().map(Bound::granted).fold(
        BufferSizes { receive: usize::MAX, send: usize::MAX },
        |least, granted| BufferSizes {
            receive: least.receive.min(granted.receive),
            send: least.send.min(granted.send),
        },
    );
    let busy_polling = busy_poll(&poll, &sockets.listeners, plane.tuning.busy_poll);
    if busy_polling.is_on() {
        for lane in &sockets.lanes {
            // granted to the listeners; a lane without it is only told of later
            let _ = lane.set_busy_poll(plane.tuning.busy_poll);
        }
    }
    let lanes = sockets.spreading.as_ref().map_or(0, |spreading| spreading.lanes());
    let (mail, worker_mail) = mailbox(ring_size, bell, Arc::clone(&plane.control));
    let counters = Arc::new(Counters::default());
    let parts = Parts {
        index,
        poll,
        sockets,
        mail: worker_mail,
        shared: Shared {
            routes: Arc::clone(plane.routes.table()),
            permits: Arc::clone(plane.permits.table()),
        },
        counters: Arc::clone(&counters),
        tuning: plane.tuning,
        stop: Arc::clone(&plane.stop),
    };
    let (thread, pinned) = spawn(format!("turnwire-w{index}"), core, move || parts.work())?;
    let info = WorkerInfo { core, pinned, listener_buffers, busy_polling, lanes };
    Ok(Handle { mail, registry, counters, session: None, thread: Some(thread), read: 0, info })
}

/// Starts the session thread beside worker `index`.
fn start_session(
    plane: &Dataplane,
    index: usize,
    core: Option<usize>,
    (listeners, settings): (session::Listeners, Sessions),
    ring_size: usize,
    all: &Arc<AtomicUsize>,
) -> io::Result<Handle> {
    let pollers = session::Pollers::new()?;
    let registry = pollers.ports()?;
    let bell = Arc::new(Bell::new(Arc::new(pollers.waker()?)));
    let (mail, thread_mail) = mailbox(ring_size, bell, Arc::clone(&plane.control));
    let (counters, session) = (Arc::new(Counters::default()), Arc::new(SessionCounters::default()));
    let parts = session::Parts {
        pollers,
        listeners,
        mail: thread_mail,
        counters: Arc::clone(&counters),
        session: Arc::clone(&session),
        settings,
        tuning: plane.tuning,
        all: Arc::clone(all),
        stop: Arc::clone(&plane.stop),
    };
    let (thread, pinned) = spawn(format!("turnwire-s{index}"), core, move || parts.work())?;
    let listener_buffers = BufferSizes { receive: 0, send: 0 };
    let busy_polling = BusyPolling::Off;
    let info = WorkerInfo { core, pinned, listener_buffers, busy_polling, lanes: 0 };
    Ok(Handle {
        mail,
        registry,
        counters,
        session: Some(session),
        thread: Some(thread),
        read: 0,
        info,
    })
}

/// Where a worker sleeps, and what wakes it.
struct Seat {
    index: usize,
    poll: Poll,
    waker: Arc<Waker>,
}

impl Seat {
    /// Of the worker with this index.
    fn new(index: usize) -> Result<Self, StartError> {
        let fail = |source| StartError::Worker { worker: index, source };
        let poll = Poll::new().map_err(fail)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKE).map_err(fail)?);
        Ok(Self { index, poll, waker })
    }
}

/// What a worker's clients come by.
struct Sockets {
    listeners: Vec<Bound>,
    lanes: Vec<Bound>,
    spreading: Option<Arc<Spreading>>,
}

/// What a worker is made of, on its way into its thread.
struct Parts {
    index: usize,
    poll: Poll,
    sockets: Sockets,
    mail: WorkerEnd<Bound>,
    shared: Shared,
    counters: Arc<Counters>,
    tuning: Tuning,
    stop: Arc<AtomicBool>,
}

impl Parts {
    fn work(self) -> io::Result<()> {
        let Tuning { batch_len, datagram_max, mut offload, .. } = self.tuning;
        // merged, they would be longer than their rooms
        offload.receive &= datagram_max >= DATAGRAM_MAX;
        let Sockets { listeners, lanes, spreading } = self.sockets;
        let spreading = spreading.map(|spreading| Member::new(spreading, self.index));
        let locals: Vec<_> =
            listeners.iter().map(|listener| Listener { local: listener.local() }).collect();
        let link = SocketLink::with_lanes(self.poll, (listeners, lanes), offload, spreading);
        let batch = Batch::new(batch_len, datagram_max);
        Worker::new(link, self.mail, locals, self.shared, self.counters, batch)
            .run(&self.stop, monotonic)
    }
}

/// Starts the thread, and says whether it could be pinned.
fn spawn(
    name: String,
    core: Option<usize>,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> io::Result<(JoinHandle<io::Result<()>>, bool)> {
    let (report, reported) = mpsc::channel();
    let thread = thread::Builder::new().name(name).spawn(move || {
        let pinned = core.is_some_and(pin);
        // the starting thread waits for it, so it is there
        let _ = report.send(pinned);
        work()
    })?;
    Ok((thread, reported.recv().unwrap_or(false)))
}

/// Pins this thread to a core that it may run on. The list comes first: `core_affinity` aborts on
/// a number beyond what a CPU set holds.
fn pin(id: usize) -> bool {
    let known = core_affinity::get_core_ids().unwrap_or_default();
    known.contains(&CoreId { id }) && core_affinity::set_for_current(CoreId { id })
}
