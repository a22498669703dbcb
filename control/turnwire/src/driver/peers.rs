//! TCP sockets towards peers (RFC 6062), from the first packet until a client binds them.
//!
//! ```text
//!   open_listener   socket on the relayed address, listening ──accept──> Accepted
//!   connect         socket bound to the relayed address ──established──> Connected
//!                                          │
//!                     splice: on to the client's session thread, with all that waits in it
//! ```
//!
//! Few and short-lived, so they are the control thread's: what a peer sends before its connection is
//! bound waits in the kernel's buffer. Nothing is read here. A connection that is made to a peer has
//! the listener's own address and port, which Linux allows where both sockets have SO_REUSEPORT.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::event::Event;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use turn::{ConnectRefusal, Input, PeerConnection, PortRefusal};

use crate::sys;

/// The first token that is ours; those below are the driver's own.
pub(super) const FIRST_TOKEN: usize = 16;
/// How long a peer may take to answer. The client waits 39.5 s for our response (RFC 8489 section
/// 6.2.2).
const CONNECT_MAX: Duration = Duration::from_secs(30);
/// Connections that wait to be accepted on one relayed address.
const BACKLOG: i32 = 16;
/// Connections accepted in one go on one relayed address.
const ACCEPT_MAX: usize = 16;
/// SO_RCVBUF of a connection: what a peer can send before its client binds it.
const UNREAD_BYTES_MAX: usize = 64 << 10;

/// What happened to these sockets, and was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Connections to peers that were established.
    pub connected: u64,
    /// Connections to peers that failed, or were not answered in time.
    pub failed: u64,
    /// Connections from peers that were accepted.
    pub accepted: u64,
    /// Connections to and from peers that there was no room for.
    pub refused: u64,
    /// Connections joined with a client's.
    pub spliced: u64,
    /// Listeners and connections that are held now.
    pub open: usize,
}

/// What the server is to be told.
#[derive(Debug, Clone, Copy)]
pub(super) enum News {
    Connected { id: PeerConnection, result: Result<(), ConnectRefusal> },
    Accepted { relay: SocketAddr, peer: SocketAddr, id: PeerConnection },
    Closed { id: PeerConnection },
}

impl News {
    pub(super) fn input(self) -> Input<'static> {
        match self {
            News::Connected { id, result } => Input::Connected { id, result },
            News::Accepted { relay, peer, id } => Input::Accepted { relay, peer, id },
            News::Closed { id } => Input::PeerClosed { id },
        }
    }
}

enum Held {
    Listener { socket: TcpListener, relay: SocketAddr },
    Connecting { socket: TcpStream, id: PeerConnection, until: Duration },
    Established { socket: TcpStream, id: PeerConnection },
}

/// All of them.
pub struct Peers {
    registry: Registry,
    held: HashMap<usize, Held>,
    listeners: HashMap<SocketAddr, usize>,
    connections: HashMap<PeerConnection, usize>,
    /// Ends of connecting, the earliest first: all have the same length.
    ends: VecDeque<(Duration, PeerConnection)>,
    next_token: usize,
    next_accepted: u32,
    connections_max: usize,
    news: VecDeque<News>,
    counts: PeerCounts,
}

impl Peers {
    /// None yet. They are waited for by `registry`; at most `connections_max` at once, listeners
    /// not counted.
    pub fn new(registry: Registry, connections_max: usize) -> Peers {
        Peers {
            registry,
            held: HashMap::new(),
            listeners: HashMap::new(),
            connections: HashMap::new(),
            ends: VecDeque::new(),
            next_token: FIRST_TOKEN,
            next_accepted: 0,
            connections_max,
            news: VecDeque::new(),
            counts: PeerCounts::default(),
        }
    }

    /// What was counted.
    pub fn counts(&self) -> PeerCounts {
        PeerCounts { open: self.held.len(), ..self.counts }
    }

    /// Listens on a relayed address.
    pub(super) fn open_listener(&mut self, relay: SocketAddr) -> Result<(), PortRefusal> {
        let opened = listen(relay).and_then(|socket| {
            self.watch(&socket, Interest::READABLE).map(|token| (token, socket))
        });
        match opened {
            Ok((token, socket)) => {
                self.held.insert(token, Held::Listener { socket, relay });
                self.listeners.insert(relay, token);
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Err(PortRefusal::InUse),
            Err(_) => Err(PortRefusal::Exhausted),
        }
    }

    /// Lets a relayed address go; false if it had no listener.
    pub(super) fn close_listener(&mut self, relay: SocketAddr) -> bool {
        let token = self.listeners.remove(&relay);
        token.and_then(|token| self.release(token)).is_some()
    }

    /// Begins to connect to a peer. How it ends is news later, never before this returns.
    pub(super) fn connect(&mut self, id: PeerConnection, relay: SocketAddr, peer: SocketAddr) {
        let room = self.connections.len() < self.connections_max;
        let begun =
            if room { begin(relay, peer) } else { Err(io::ErrorKind::QuotaExceeded.into()) };
        let begun = begun.and_then(|socket| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.watch(&socket, interest).map(|token| (token, socket))
        });
        match begun {
            Ok((token, socket)) => {
                let until = sys::monotonic() + CONNECT_MAX;
                self.held.insert(token, Held::Connecting { socket, id, until });
                self.connections.insert(id, token);
                self.ends.push_back((until, id));
            }
            Err(error) => {
                let result = Err(refusal(&error));
                self.count_refusal(&error);
                self.news.push_back(News::Connected { id, result });
            }
        }
    }

    /// Ends a connection that is being made or is not spliced.
    pub(super) fn close(&mut self, id: PeerConnection) -> bool {
        let token = self.connections.remove(&id);
        token.and_then(|token| self.release(token)).is_some()
    }

    /// Gives an established connection away.
    pub(super) fn take(&mut self, id: PeerConnection) -> Option<TcpStream> {
        let token = *self.connections.get(&id)?;
        if !matches!(self.held.get(&token), Some(Held::Established { .. })) {
            return None;
        }
        self.connections.remove(&id);
        let Some(Held::Established { socket, .. }) = self.release(token) else { return None };
        self.counts.spliced += 1;
        Some(socket)
    }

    /// The next thing to tell the server.
    pub(super) fn next_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }

    /// When a connection that is being made has had its time.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.ends.front().map(|(until, _)| *until)
    }

    /// Gives up connections that have had their time.
    pub(super) fn expire(&mut self, now: Duration) {
        while let Some(&(until, id)) = self.ends.front()
            && until <= now
        {
            self.ends.pop_front();
            let token = self.connections.get(&id).copied();
            let held = token.and_then(|token| self.held.get(&token));
            // A number may be another connection's by now: its end is its own.
            if matches!(held, Some(Held::Connecting { until: own, .. }) if *own <= now) {
                self.close(id);
                self.counts.failed += 1;
                self.news.push_back(News::Connected { id, result: Err(ConnectRefusal::Failed) });
            }
        }
    }

    /// Looks at a socket that something happened to.
    pub(super) fn on_event(&mut self, event: &Event) {
        let token = event.token().0;
        match self.held.get(&token) {
            Some(Held::Listener { .. }) => self.accept(token),
            Some(Held::Connecting { .. }) => self.look_at_connecting(token),
            Some(Held::Established { .. }) => self.look_at_established(token),
            None => {}
        }
    }

    fn accept(&mut self, token: usize) {
        let mut taken = Vec::new();
        let Some(Held::Listener { socket, relay }) = self.held.get(&token) else { return };
        let relay = *relay;
        while taken.len() < ACCEPT_MAX
            && let Ok(accepted) = socket.accept()
        {
            taken.push(accepted);
        }
        if taken.len() == ACCEPT_MAX {
            // Edge-triggered: asked for anew, it tells again of what is left.
            let fd = socket.as_raw_fd();
            let _ = self.registry.reregister(&mut SourceFd(&fd), Token(token), Interest::READABLE);
        }
        for (socket, peer) in taken {
            self.hold_accepted(socket, relay, peer);
        }
    }

    fn hold_accepted(&mut self, socket: TcpStream, relay: SocketAddr, peer: SocketAddr) {
        let ready = socket.set_nonblocking(true);
        let room = self.connections.len() < self.connections_max;
        let watched = ready.and_then(|()| self.watch(&socket, Interest::READABLE));
        let (true, Ok(token)) = (room, watched) else {
            self.counts.refused += 1;
            return;
        };
        let id = self.accepted_id();
        self.held.insert(token, Held::Established { socket, id });
        self.connections.insert(id, token);
        self.counts.accepted += 1;
        self.news.push_back(News::Accepted { relay, peer, id });
    }

    fn accepted_id(&mut self) -> PeerConnection {
        loop {
            self.next_accepted = self.next_accepted.wrapping_add(1);
            let id = PeerConnection(self.next_accepted | PeerConnection::ACCEPTED);
            // Far fewer are held than there are numbers.
            if !self.connections.contains_key(&id) {
                return id;
            }
        }
    }

    fn look_at_connecting(&mut self, token: usize) {
        let Some(Held::Connecting { socket, id, .. }) = self.held.get(&token) else { return };
        let id = *id;
        let result = match socket.take_error() {
            Ok(None) if socket.peer_addr().is_ok() => Ok(()),
            // Neither an error nor a peer yet: something else woke us.
            Ok(None) => return,
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match result {
            Ok(()) => {
                if let Some(Held::Connecting { socket, id, .. }) = self.held.remove(&token) {
                    self.held.insert(token, Held::Established { socket, id });
                }
                self.counts.connected += 1;
                self.news.push_back(News::Connected { id, result: Ok(()) });
                self.look_at_established(token);
            }
            Err(error) => {
                self.close(id);
                self.count_refusal(&error);
                self.news.push_back(News::Connected { id, result: Err(refusal(&error)) });
            }
        }
    }

    /// A peer that sent and then ended keeps its connection: what it sent is the client's.
    fn look_at_established(&mut self, token: usize) {
        let Some(Held::Established { socket, id }) = self.held.get(&token) else { return };
        let id = *id;
        let ended = match socket.peek(&mut [0; 1]) {
            Ok(waiting) => waiting == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        };
        if ended {
            self.close(id);
            self.news.push_back(News::Closed { id });
        }
    }

    fn watch(&mut self, socket: &impl AsRawFd, interest: Interest) -> io::Result<usize> {
        let token = self.next_token;
        let fd = socket.as_raw_fd();
        self.registry.register(&mut SourceFd(&fd), Token(token), interest)?;
        // Never used again: an event for a socket that is gone finds nothing.
        self.next_token += 1;
        Ok(token)
    }

    fn release(&mut self, token: usize) -> Option<Held> {
        let held = self.held.remove(&token)?;
        let fd = match &held {
            Held::Listener { socket, .. } => socket.as_raw_fd(),
            Held::Connecting { socket, .. } | Held::Established { socket, .. } => {
                socket.as_raw_fd()
            }
        };
        // It is open, so it is registered; closing it would end that too.
        let _ = self.registry.deregister(&mut SourceFd(&fd));
        Some(held)
    }

    fn count_refusal(&mut self, error: &io::Error) {
        match refusal(error) {
            ConnectRefusal::Failed => self.counts.failed += 1,
            ConnectRefusal::Exhausted => self.counts.refused += 1,
        }
    }
}

fn refusal(error: &io::Error) -> ConnectRefusal {
    match error.raw_os_error() {
        Some(
            libc::EMFILE
            | libc::ENFILE
            | libc::ENOBUFS
            | libc::ENOMEM
            | libc::ENOSPC
            | libc::EADDRNOTAVAIL
            | libc::EADDRINUSE,
        ) => ConnectRefusal::Exhausted,
        None if error.kind() == io::ErrorKind::QuotaExceeded => ConnectRefusal::Exhausted,
        _ => ConnectRefusal::Failed,
    }
}

fn socket(relay: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(relay), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if relay.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A connection that ended a moment ago keeps nobody from the address.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&SockAddr::from(relay))?;
    Ok(socket)
}

fn listen(relay: SocketAddr) -> io::Result<TcpListener> {
    // SO_REUSEPORT would silently share the port with another listener of this user.
    drop(socket(relay, false)?);
    let socket = socket(relay, true)?;
    // Accepted connections have it from their listener.
    let _ = socket.set_recv_buffer_size(UNREAD_BYTES_MAX);
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn begin(relay: SocketAddr, peer: SocketAddr) -> io::Result<TcpStream> {
    let socket = socket(relay, true)?;
    socket.set_tcp_nodelay(true)?;
    let _ = socket.set_recv_buffer_size(UNREAD_BYTES_MAX);
    match socket.connect(&SockAddr::from(peer)) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

#[cfg(test)]
mod tests;
