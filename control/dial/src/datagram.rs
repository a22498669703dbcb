//! UDP.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::{Dialer, Received, from_anywhere};

/// The largest datagram there is.
const DATAGRAM_MAX: usize = 65_535;

#[derive(Debug)]
pub(crate) struct Datagrams {
    socket: UdpSocket,
    server: SocketAddr,
    buffer: Vec<u8>,
    local: SocketAddr,
}

/// The address that this host would send from.
pub(crate) fn source_for(dialer: &Dialer) -> io::Result<SocketAddr> {
    let probe = UdpSocket::bind(from_anywhere(dialer.server, dialer.local))?;
    probe.connect(dialer.server)?;
    probe.local_addr()
}

impl Datagrams {
    pub(crate) fn new(dialer: &Dialer) -> io::Result<Self> {
        let ip = source_for(dialer)?.ip();
        let socket = UdpSocket::bind(SocketAddr::new(ip, 0))?;
        let local = socket.local_addr()?;
        Ok(Self { socket, server: dialer.server, buffer: vec![0; DATAGRAM_MAX], local })
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        Ok(self.local)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.send_to(bytes, self.server).map(|_| ())
    }

    pub(crate) fn receive(&mut self, limit: Duration) -> io::Result<Received> {
        let deadline = Instant::now() + limit;
        loop {
            let Some(left) = left(deadline) else { return Ok(Received::Nothing) };
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(&mut self.buffer) {
                Ok((len, source)) if same(source, self.server) => {
                    return Ok(Received::Message(self.buffer[..len].to_vec()));
                }
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                // Another datagram's ICMP error: whoever wants to know, waits in vain.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn same(a: SocketAddr, b: SocketAddr) -> bool {
    (a.ip(), a.port()) == (b.ip(), b.port())
}

/// What is left until `deadline`; `None` when nothing is.
pub(crate) fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left)
}

/// Whether a read ended because of its time limit.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | TimedOut | Interrupted)
}
