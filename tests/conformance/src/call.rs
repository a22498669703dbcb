//! The peer's side.

#![allow(clippy::disallowed_methods, reason = "sockets are the edge where the clock is read")]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::check::{Stop, Verdict, fail};
use crate::codec::hex;
use crate::trial::Trial;

/// How long a datagram that must come may take.
const SOON: Duration = Duration::from_secs(2);
/// How often it is sent.
const TRIES: u32 = 3;

/// A peer: a UDP socket on the address that the run was told.
pub struct Peer<'t> {
    trial: &'t Trial<'t>,
    socket: UdpSocket,
    address: SocketAddr,
    /// What was expected and has come.
    past: RefCell<Vec<Vec<u8>>>,
}

impl<'t> Peer<'t> {
    /// On any port.
    ///
    /// # Errors
    /// There is no such address here.
    pub fn new(trial: &'t Trial<'t>) -> Result<Self, Stop> {
        Self::at(trial, trial.options.peer_ip)
    }

    /// On any port of another address of this host.
    ///
    /// # Errors
    /// There is no such address here.
    pub fn at(trial: &'t Trial<'t>, ip: IpAddr) -> Result<Self, Stop> {
        let bound = UdpSocket::bind(SocketAddr::new(ip, 0));
        let socket = bound.map_err(|error| fail(format!("a socket on {ip}"), error.to_string()))?;
        let address = socket.local_addr().map_err(|error| fail("an address", error.to_string()))?;
        Ok(Self { trial, socket, address, past: RefCell::default() })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends a datagram.
    ///
    /// # Errors
    /// The host does not.
    pub fn send(&self, to: SocketAddr, data: &[u8]) -> Result<(), Stop> {
        self.trial.note(&format!("peer -> {to}:"), data);
        let sent = self.socket.send_to(data, to);
        // An earlier datagram's ICMP error is told at the next one.
        sent.or_else(|_| self.socket.send_to(data, to))
            .map(|_| ())
            .map_err(|error| fail("a peer that can send", error.to_string()))
    }

    /// The next datagram, and from where.
    pub fn receive(&self, limit: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        let deadline = Instant::now() + limit;
        let mut buffer = vec![0; 65_535];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.socket.set_read_timeout(Some(left)).is_err() {
                return None;
            }
            if let Ok((len, source)) = self.socket.recv_from(&mut buffer) {
                buffer.truncate(len);
                self.trial.note(&format!("peer <- {source}:"), &buffer);
                return Some((buffer, source));
            }
        }
    }

    /// Lets `send` be called until this datagram comes, a few times, and says where it came from.
    ///
    /// # Errors
    /// It does not come, or something else does.
    pub fn expect(
        &self,
        data: &[u8],
        mut send: impl FnMut() -> Verdict,
    ) -> Result<SocketAddr, Stop> {
        let expected = || format!("a datagram {} at the peer", hex(data));
        for _ in 0..TRIES {
            send()?;
            let until = Instant::now() + SOON / TRIES;
            while let Some((came, source)) =
                self.receive(until.saturating_duration_since(Instant::now()))
            {
                if came == data {
                    self.past.borrow_mut().push(came);
                    return Ok(source);
                }
                // What was sent again comes again.
                if !self.past.borrow().contains(&came) {
                    return Err(fail(expected(), hex(&came)));
                }
            }
        }
        Err(fail(expected(), "nothing"))
    }

    /// Fails if anything comes within a moment.
    ///
    /// # Errors
    /// What came.
    pub fn expect_nothing(&self, what: &str) -> Verdict {
        while let Some((came, source)) = self.receive(self.trial.options.grace) {
            if !self.past.borrow().contains(&came) {
                let came = format!("{} from {source}", hex(&came));
                return Err(fail(format!("nothing at the peer for {what}"), came));
            }
        }
        Ok(())
    }
}
