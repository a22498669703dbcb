//! What a client or peer sends and receives by.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::stream::Stream;
use crate::sys;

/// How often a message is tried on a stream that is full, a millisecond each.
const CONTROL_TRIES: usize = 200;

/// One client's way to the server, or one peer's to everybody.
#[derive(Debug)]
pub enum Link {
    /// Datagrams.
    Udp(UdpSocket),
    /// A client's stream.
    Stream(Box<Stream>),
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
            Link::Stream(stream) => stream.local(),
        }
    }

    /// Sends a STUN message. A message that does not fit now is lost, as on the way: the client
    /// sends it again.
    ///
    /// # Errors
    /// Nobody listens at the other end.
    pub fn send_control(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Link::Udp(socket) => refusal_of(socket.send(bytes).map(|_| ())),
            Link::Stream(stream) => {
                for _ in 0..CONTROL_TRIES {
                    if stream.send([bytes].into_iter())? == 1 {
                        return Ok(());
                    }
                    sys::wait_writable(&**stream, 1);
                }
                // The stream is full for long: as if it were lost on the way.
                Ok(())
            }
        }
    }

    /// Sends a peer's datagram.
    ///
    /// # Errors
    /// As sendto(2).
    pub fn send_to(&self, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
        match self {
            Link::Udp(socket) => socket.send_to(bytes, to).map(|_| ()),
            Link::Stream(_) => Err(io::ErrorKind::Unsupported.into()),
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
            Link::Stream(stream) => stream.receive(buffer),
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
            Link::Stream(stream) => stream.as_fd(),
        }
    }
}
