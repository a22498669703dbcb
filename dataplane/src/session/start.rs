//! Binding what session threads listen on, and making a session of it.

use super::association::{Clock, HalfOpen, RECORD_ROOM};
use super::desk::Desk;
use super::doors::{self, Census, Door};
use super::incoming::READ_SIZE;
use super::member::Takes;
use super::members::Members;
use super::relay::Relay;
use super::wheel::Wheel;
use super::{DOOR, LINK, Session, SessionCounters};
use crate::batch::{Batch, SocketId};
use crate::config::{Config, Sessions, StartError, Tuning};
use crate::link::socket::{
    Bound, BufferSizes, SocketLink, WAKE, bind_listener, monotonic, register,
};
use crate::mailbox::WorkerEnd;
use crate::plane::SessionAddresses;
use crate::stats::Counters;
use crate::worker::Allowance;
use mio::unix::SourceFd;
use mio::{Interest, Poll, Registry, Token, Waker};
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

/// One thread's listeners.
#[derive(Default)]
pub(crate) struct Listeners {
    streams: Vec<(std::net::TcpListener, Takes)>,
    dtls: Vec<Bound>,
}

/// Binds everything for `threads` threads; nothing where nothing is configured.
pub(crate) fn bind_all(
    config: &Config,
    threads: usize,
    sizes: BufferSizes,
) -> Result<(SessionAddresses, Vec<Listeners>), StartError> {
    let sessions = &config.sessions;
    check_identity(sessions)?;
    let mut bound = SessionAddresses::default();
    if sessions.tcp_listen.is_empty()
        && sessions.tls_listen.is_empty()
        && sessions.dtls_listen.is_empty()
    {
        return Ok((bound, Vec::new()));
    }
    let mut listeners: Vec<Listeners> = (0..threads).map(|_| Listeners::default()).collect();
    let tls_only = sessions.tls_listen.iter().filter(|at| !is_both(at, &sessions.tcp_listen));
    let all: Vec<SocketAddr> = sessions.tcp_listen.iter().chain(tls_only).copied().collect();
    let shared = threads > 1 || all.iter().any(|address| is_covered(address, &all));
    for &address in &sessions.tcp_listen {
        let tls = is_both(&address, &sessions.tls_listen);
        let takes = Takes { plain: true, tls };
        let local = bind_streams(address, shared, takes, &mut listeners)?;
        bound.tcp.push(local);
        if tls {
            bound.tls.push(local);
        }
    }
    for &address in sessions.tls_listen.iter().filter(|at| !is_both(at, &sessions.tcp_listen)) {
        let takes = Takes { plain: false, tls: true };
        bound.tls.push(bind_streams(address, shared, takes, &mut listeners)?);
    }
    for &address in &sessions.dtls_listen {
        let beside_udp = is_both(&address, &config.listen);
        let swallows = |udp: &SocketAddr| is_covered(udp, &[address]);
        if !beside_udp
            && (is_covered(&address, &config.listen) || config.listen.iter().any(swallows))
        {
            // one of the two would silently get what is for the other
            let text = "plain UDP and DTLS on one port need the same address";
            let source = io::Error::new(io::ErrorKind::AddrInUse, text);
            return Err(StartError::Listen { address, source });
        }
        bound.dtls.push(bind_dtls(address, beside_udp, sizes, &mut listeners)?);
    }
    Ok((bound, listeners))
}

fn is_both(address: &SocketAddr, others: &[SocketAddr]) -> bool {
    address.port() != 0 && others.contains(address)
}

fn check_identity(sessions: &Sessions) -> Result<(), StartError> {
    let secured = sessions.tls_listen.iter().chain(&sessions.dtls_listen).next();
    match (secured, &sessions.identity) {
        (Some(address), None) => Err(StartError::NoIdentity(*address)),
        (Some(_), Some(identity)) if !sessions.dtls_listen.is_empty() => Ok(identity.check_dtls()?),
        _ => Ok(()),
    }
}

/// True when another of the addresses stands for all of this one's family, on the same port.
pub(crate) fn is_covered(address: &SocketAddr, addresses: &[SocketAddr]) -> bool {
    let covers = |other: &SocketAddr| {
        other.ip().is_unspecified()
            && other.is_ipv4() == address.is_ipv4()
            && other.port() == address.port()
    };
    address.port() != 0 && !address.ip().is_unspecified() && addresses.iter().any(covers)
}

fn bind_streams(
    address: SocketAddr,
    shared: bool,
    takes: Takes,
    listeners: &mut [Listeners],
) -> Result<SocketAddr, StartError> {
    let fail = |source| StartError::ListenTcp { address, source };
    if address.port() != 0 && shared && listeners.len() > 1 {
        // SO_REUSEPORT would silently share the port with another process of the same user
        doors::probe(address).map_err(fail)?;
    }
    let mut resolved = address;
    for listeners in listeners {
        let (listener, local) = doors::bind(resolved, shared).map_err(fail)?;
        resolved.set_port(local.port());
        listeners.streams.push((listener, takes));
    }
    Ok(resolved)
}

fn bind_dtls(
    address: SocketAddr,
    beside_udp: bool,
    sizes: BufferSizes,
    listeners: &mut [Listeners],
) -> Result<SocketAddr, StartError> {
    let fail = |source| StartError::Listen { address, source };
    let shared = listeners.len() > 1 || beside_udp;
    if address.port() != 0 && shared && !beside_udp {
        bind_listener(address, false, sizes).map_err(fail)?;
    }
    let mut resolved = address;
    for listeners in &mut *listeners {
        let listener = bind_listener(resolved, shared, sizes).map_err(fail)?;
        resolved.set_port(listener.local().port());
        listeners.dtls.push(listener);
    }
    Ok(resolved)
}

/// The pollers of a session thread, and who wakes it.
pub(crate) struct Pollers {
    outer: Poll,
    inner: Poll,
}

impl Pollers {
    pub(crate) fn new() -> io::Result<Self> {
        let (outer, inner) = (Poll::new()?, Poll::new()?);
        let descriptor = inner.as_raw_fd();
        outer.registry().register(&mut SourceFd(&descriptor), LINK, Interest::READABLE)?;
        Ok(Self { outer, inner })
    }

    pub(crate) fn waker(&self) -> io::Result<Waker> {
        Waker::new(self.outer.registry(), WAKE)
    }

    /// Where relay ports are registered.
    pub(crate) fn ports(&self) -> io::Result<Registry> {
        self.inner.registry().try_clone()
    }
}

/// What a session thread is made of, on its way into the thread.
pub(crate) struct Parts {
    pub(crate) pollers: Pollers,
    pub(crate) listeners: Listeners,
    pub(crate) mail: WorkerEnd<Bound>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) session: Arc<SessionCounters>,
    pub(crate) settings: Sessions,
    pub(crate) tuning: Tuning,
    /// Connections of all threads.
    pub(crate) all: Arc<AtomicUsize>,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Parts {
    pub(crate) fn work(self) -> io::Result<()> {
        let stop = Arc::clone(&self.stop);
        self.session()?.run(&stop, monotonic)
    }

    fn session(self) -> io::Result<Session> {
        let Pollers { outer, inner } = self.pollers;
        for (at, listener) in self.listeners.dtls.iter().enumerate() {
            register(inner.registry(), listener, SocketId::listener(at))?;
        }
        let mut doors = Vec::with_capacity(self.listeners.streams.len());
        for (at, (listener, takes)) in self.listeners.streams.into_iter().enumerate() {
            let mut listener = mio::net::TcpListener::from_std(listener);
            outer.registry().register(&mut listener, Token(DOOR | at), Interest::READABLE)?;
            doors.push(Door { listener, takes, pending: true });
        }
        let dtls = self.listeners.dtls.iter().map(Bound::local).collect();
        let Tuning { batch_len, datagram_max, .. } = self.tuning;
        let now = monotonic();
        let link = SocketLink::new(inner, self.listeners.dtls);
        Ok(Session {
            poll: outer,
            doors,
            dtls,
            census: Census::new(&self.settings.limits, self.all),
            settings: self.settings,
            members: Members::default(),
            half_open: HalfOpen::new(),
            contenders: Default::default(),
            associations: 0,
            desk: Desk::new(self.mail),
            relay: Relay::new(link, Batch::new(batch_len, datagram_max), self.counters),
            inbound: Some(Batch::new(batch_len, datagram_max)),
            counters: self.session,
            wheel: Wheel::new(now),
            clock: Clock::new(now),
            link_ready: true,
            ready: VecDeque::new(),
            dirty: Vec::new(),
            stalled: Vec::new(),
            due: Vec::new(),
            deferred: VecDeque::new(),
            letters: 0,
            letter_bytes: Vec::new(),
            paused: None,
            allowance: Allowance::default(),
            input: vec![0; READ_SIZE].into_boxed_slice(),
            plain: Vec::with_capacity(2 * READ_SIZE),
            room: vec![0; RECORD_ROOM].into_boxed_slice(),
            routes: 0,
        })
    }
}
