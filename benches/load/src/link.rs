//! What a client or peer sends and receives by.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys;

/// One client's way to the server, or one peer's to everybody.
#[derive(Debug)]
pub enum Link {
    /// Datagrams.
    Udp(UdpSocket),
}

impl Link {
    /// A client's datagrams, to and from the server only.
    ///
    /// # Errors
    /// As socket(2), bind(2), connect(2).
    pub fn udp(local: SocketAddr, server: SocketAddr) -> io::Result<Link> {
        Ok(Link::Udp(sys::udp_connected(local, server)?))
    }

    /// A peer's datagrams.
    ///
    /// # Errors
    /// As socket(2), bind(2).
    pub fn peer(local: SocketAddr) -> io::Result<Link> {
        Ok(Link::Udp(sys::udp_unconnected(local)?))
    }

    /// The address of this end.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local(&self) -> io::Result<SocketAddr> {
        match self {
            Link::Udp(socket) => socket.local_addr(),
        }
    }

    /// Sends a STUN message. A datagram that does not fit now is lost, as on the way: the client
    /// sends it again.
    ///
    /// # Errors
    /// Nobody listens at the other end.
    pub fn send_control(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Link::Udp(socket) => refusal_of(socket.send(bytes).map(|_| ())),
        }
    }

    /// Sends a peer's datagram.
    ///
    /// # Errors
    /// As sendto(2).
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        match self {
            Link::Udp(socket) => socket.send_to(bytes, to).map(|_| ()),
        }
    }

    /// Receives the next message into `buffer`; its length, or `None` when there is none now.
    ///
    /// # Errors
    /// Nobody listens at the other end.
    pub fn receive_control(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self {
            Link::Udp(socket) => match socket.recv(buffer) {
                Ok(len) => Ok(Some(len)),
                Err(error) => refusal_of(Err(error)).map(|()| None),
            },
        }
    }
}

/// Only errors that will not pass by themselves.
fn refusal_of(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if !is_passing(&error) => Err(error),
        _ => Ok(()),
    }
}

/// Whether a later try may succeed.
pub fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
        || error.raw_os_error() == Some(libc::ENOBUFS)
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Link::Udp(socket) => socket.as_fd(),
        }
    }
}
