//! Making UDP sockets, and asking what the kernel did with them.
#![allow(unsafe_code, reason = "setsockopt, getsockopt and poll take pointers")]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Bytes of buffer asked for on every socket, as the kernel accounts for them (a datagram of 172
/// bytes costs it 768): bursts must not be lost on this side.
const BUFFER: i32 = 4 << 20;

fn udp(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    grow_buffers(&socket);
    socket.bind(&SockAddr::from(local))?;
    Ok(socket)
}

/// A nonblocking socket that sends to and hears from `remote` only.
///
/// # Errors
/// As socket(2), bind(2), connect(2).
pub fn udp_connected(local: SocketAddr, remote: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp(local)?;
    socket.connect(&SockAddr::from(remote))?;
    Ok(socket.into())
}

/// A nonblocking socket for everybody.
///
/// # Errors
/// As socket(2), bind(2).
pub fn udp_unconnected(local: SocketAddr) -> io::Result<UdpSocket> {
    Ok(udp(local)?.into())
}

/// Whether this address is one of this host's.
pub fn is_bindable(ip: IpAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(ip, 0)).is_ok()
}

/// Large buffers: beyond the host's limit with CAP_NET_ADMIN, up to it without.
pub fn grow_buffers(socket: &impl AsFd) {
    for (force, usual) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)]
    {
        if set_option(socket, libc::SOL_SOCKET, force, BUFFER).is_err() {
            let _ = set_option(socket, libc::SOL_SOCKET, usual, BUFFER);
        }
    }
}

/// Lets the kernel hand over trains of datagrams as one (UDP_GRO).
///
/// # Errors
/// The kernel cannot: before Linux 5.0.
pub fn enable_receive_offload(socket: &impl AsFd) -> io::Result<()> {
    set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1)
}

fn set_option(socket: &impl AsFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let (socket, size) = (socket.as_fd().as_raw_fd(), size_of::<i32>() as libc::socklen_t);
    // SAFETY: `value` is an int and `size` is its size.
    let done = unsafe { libc::setsockopt(socket, level, option, (&raw const value).cast(), size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many datagrams this socket has dropped for want of room since it was made (SO_MEMINFO).
pub fn drops_of(socket: &impl AsFd) -> u64 {
    const SK_MEMINFO_DROPS: usize = 8;
    let mut info = [0_u32; 16];
    let mut size = size_of_val(&info) as libc::socklen_t;
    let socket = socket.as_fd().as_raw_fd();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_MEMINFO);
    // SAFETY: `info` has `size` bytes; the kernel writes no more and says how many.
    let done =
        unsafe { libc::getsockopt(socket, level, option, info.as_mut_ptr().cast(), &raw mut size) };
    if done == 0 { u64::from(info[SK_MEMINFO_DROPS]) } else { 0 }
}

/// Waits until the socket takes data again, at most so many milliseconds.
pub fn wait_writable(socket: &impl AsFd, timeout_ms: i32) {
    wait(socket, libc::POLLOUT, timeout_ms);
}

/// Waits until the socket has something to read, at most so many milliseconds.
pub fn wait_readable(socket: &impl AsFd, timeout_ms: i32) {
    wait(socket, libc::POLLIN, timeout_ms);
}

fn wait(socket: &impl AsFd, events: i16, timeout_ms: i32) {
    let mut poll = libc::pollfd { fd: socket.as_fd().as_raw_fd(), events, revents: 0 };
    // SAFETY: one pollfd, ours.
    unsafe { libc::poll(&raw mut poll, 1, timeout_ms) };
}
