//! Making the sockets: bound, nonblocking, with the options that the relay relies on.

use super::sys::{self, set_option};
use crate::batch::SocketId;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Bytes of socket buffer, as the kernel accounts for them: a small datagram costs it about 768
/// bytes, a full Ethernet frame about 2,304.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// SO_RCVBUF.
    pub receive: usize,
    /// SO_SNDBUF.
    pub send: usize,
}

/// A bound UDP socket, ready for a worker.
#[derive(Debug)]
pub struct Bound {
    socket: Socket,
    local: SocketAddr,
    /// The kernel's count of drops, when a link last saw it.
    overflowed: u32,
}

impl Bound {
    /// The address it is bound to; the port is never 0.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The buffers that the kernel granted, which may be less than was asked for; 0 where it does
    /// not say.
    pub fn granted(&self) -> BufferSizes {
        // the kernel doubles what it is asked for, to account for its own overhead
        BufferSizes {
            receive: self.socket.recv_buffer_size().unwrap_or(0) / 2,
            send: self.socket.send_buffer_size().unwrap_or(0) / 2,
        }
    }

    /// The number of its descriptor, for [`duplicate`].
    pub fn number(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The kernel's count of drops, as far as the link that gave it back has counted them.
    pub fn overflowed(&self) -> u32 {
        self.overflowed
    }

    /// Before a link gives it back.
    pub(super) fn set_overflowed(&mut self, overflowed: u32) {
        self.overflowed = overflowed;
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Sends with DF set, whatever the path's MTU is known to be, or as usual. Only then does the
    /// kernel report the routers' "fragmentation needed", so it stays set until something is to be
    /// sent without. A kernel that refuses sends as usual: DONT-FRAGMENT is then not honoured, and
    /// nothing else is lost.
    pub(super) fn set_dont_fragment(&self, set: bool) {
        let value = if set { libc::IP_PMTUDISC_PROBE } else { libc::IP_PMTUDISC_DONT };
        let _ = discover(&self.socket, self.local, value);
    }

    /// Sends with this TTL (or hop limit) whatever is not told another; without one, with the host's
    /// default.
    pub(super) fn set_ttl(&self, ttl: Option<u8>) -> io::Result<()> {
        let (level, option) = per_family(
            self.local,
            (libc::IPPROTO_IP, libc::IP_TTL),
            (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS),
        );
        set_option(self.socket.as_fd(), level, option, ttl.map_or(-1, i32::from))
    }

    /// Lets the kernel hand over datagrams of one sender and one size merged in one message
    /// (UDP_GRO, Linux 5.0). A kernel without it goes on with single datagrams.
    pub(super) fn set_merged(&self) {
        let _ = set_option(self.socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
    }
}

/// What a datagram is told that is to have the host's default TTL, where its socket has another.
/// A hop limit that one interface or route has of its own is not among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    v4: u8,
    v6: u8,
}

impl Defaults {
    /// Of the network namespace that this thread is in.
    pub(super) fn read() -> Self {
        let v4 = default(Domain::IPV4, libc::IPPROTO_IP, libc::IP_TTL);
        let v6 = default(Domain::IPV6, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS);
        Self { v4, v6 }
    }

    pub(super) fn of(self, v4: bool) -> u8 {
        if v4 { self.v4 } else { self.v6 }
    }
}

/// What a new socket says of its TTL; where there is none of this family, what kernels are born with.
fn default(domain: Domain, level: i32, option: i32) -> u8 {
    const BORN_WITH: u8 = 64;
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP));
    let read = socket.and_then(|socket| sys::option(socket.as_fd(), level, option));
    read.ok().and_then(|ttl| u8::try_from(ttl).ok()).unwrap_or(BORN_WITH)
}

/// Binds a listener. `shared`: one of several workers' sockets on this address (SO_REUSEPORT).
pub fn bind_listener(address: SocketAddr, shared: bool, sizes: BufferSizes) -> io::Result<Bound> {
    let socket = open(address, sizes)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.ip().is_unspecified() {
        let (level, option) = per_family(
            address,
            (libc::IPPROTO_IP, libc::IP_PKTINFO),
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        );
        set_option(socket.as_fd(), level, option, 1)?;
    }
    finish(socket, address)
}

/// Binds a relay port: on this host's address `relay`, for one worker.
pub fn bind_relay(relay: SocketAddr, sizes: BufferSizes) -> io::Result<Bound> {
    let socket = open(relay, sizes)?;
    let (level, option) = per_family(
        relay,
        (libc::IPPROTO_IP, libc::IP_RECVERR),
        (libc::IPPROTO_IPV6, libc::IPV6_RECVERR),
    );
    set_option(socket.as_fd(), level, option, 1)?;
    finish(socket, relay)
}

/// Another descriptor of the socket `number` of this process, which must be bound to `local`: with
/// it another thread sends from the same port. The port is free once both are closed.
pub fn duplicate(number: RawFd, local: SocketAddr) -> io::Result<Bound> {
    let socket = Socket::from(sys::duplicate(number)?);
    // whatever the caller believes, it is this socket or none
    if socket.local_addr()?.as_socket() != Some(local) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(Bound { socket, local, overflowed: 0 })
}

/// Registers `socket` as `id`, edge-triggered. It leaves the poller when it is dropped, with all its
/// duplicates.
pub fn register(registry: &Registry, socket: &Bound, id: SocketId) -> io::Result<()> {
    let descriptor = socket.socket.as_raw_fd();
    registry.register(&mut SourceFd(&descriptor), id.into(), Interest::READABLE)
}

/// Takes `socket` out of the poller, where duplicates of it live on: the kernel would go on telling of
/// it, and wake who has nothing to do with it any more.
pub fn deregister(registry: &Registry, socket: &Bound) -> io::Result<()> {
    registry.deregister(&mut SourceFd(&socket.socket.as_raw_fd()))
}

impl From<SocketId> for Token {
    fn from(id: SocketId) -> Self {
        Token(id.bits() as usize)
    }
}

impl From<Token> for SocketId {
    fn from(token: Token) -> Self {
        SocketId::from_bits(token.0 as u32)
    }
}

fn open(address: SocketAddr, sizes: BufferSizes) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_recv_hoplimit_v6(true)?;
        socket.set_recv_tclass_v6(true)?;
    } else {
        set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVTTL, 1)?;
        socket.set_recv_tos_v4(true)?;
    }
    // Sockets cannot see the DF bit of what they receive, so the alternate behaviour of RFC 8656
    // section 14 applies: it is taken as 0.
    discover(&socket, address, libc::IP_PMTUDISC_DONT)?;
    set_option(socket.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    grow(&socket, sizes);
    Ok(socket)
}

/// Path MTU discovery; its values are the same numbers for both families.
fn discover(socket: &Socket, address: SocketAddr, value: i32) -> io::Result<()> {
    let (level, option) = per_family(
        address,
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    );
    set_option(socket.as_fd(), level, option, value)
}

/// Asks for buffers beyond the host's limit first, which takes CAP_NET_ADMIN, then for as much as
/// the limit allows. What was granted can be read back; less is no reason to fail.
fn grow(socket: &Socket, sizes: BufferSizes) {
    if force(socket, libc::SO_RCVBUFFORCE, sizes.receive).is_err() {
        let _ = socket.set_recv_buffer_size(sizes.receive);
    }
    if force(socket, libc::SO_SNDBUFFORCE, sizes.send).is_err() {
        let _ = socket.set_send_buffer_size(sizes.send);
    }
}

/// Sets a buffer's size beyond the host's limit.
fn force(socket: &Socket, option: libc::c_int, bytes: usize) -> io::Result<()> {
    let bytes = i32::try_from(bytes).unwrap_or(i32::MAX / 2);
    set_option(socket.as_fd(), libc::SOL_SOCKET, option, bytes)
}

fn finish(socket: Socket, address: SocketAddr) -> io::Result<Bound> {
    socket.bind(&SockAddr::from(address))?;
    let local = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok(Bound { socket, local, overflowed: 0 })
}

fn per_family<T>(address: SocketAddr, v4: T, v6: T) -> T {
    if address.is_ipv4() { v4 } else { v6 }
}
