//! DTLS over UDP (RFC 7350), 1.2 or 1.3 as the server likes.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output, ProtocolVersion};

use crate::datagram::{is_timeout, left, source_for};
use crate::{CONNECT, DialError, Dialer, Received, Trust};

/// The largest record, and then some.
const BUFFER: usize = 20_000;

pub(crate) struct Association {
    socket: UdpSocket,
    dtls: Dtls,
    buffer: Vec<u8>,
    inbox: VecDeque<Vec<u8>>,
    wake: Instant,
    connected: bool,
    closed: bool,
    certificate: Option<Vec<u8>>,
    refused: bool,
}

impl fmt::Debug for Association {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Association {
    pub(crate) fn connect(dialer: &Dialer, trust: &Trust) -> Result<Self, DialError> {
        let socket = UdpSocket::bind(SocketAddr::new(source_for(dialer)?.ip(), 0))?;
        socket.connect(dialer.server)?;
        let now = Instant::now();
        let (config, certificate) = trust.dtls().map_err(DialError::Untrusted)?;
        let mut dtls = Dtls::new_auto(config, certificate, now);
        dtls.set_active(true);
        let mut this = Self {
            socket,
            dtls,
            buffer: vec![0; BUFFER],
            inbox: VecDeque::new(),
            wake: now,
            connected: false,
            closed: false,
            certificate: None,
            refused: false,
        };
        let deadline = now + CONNECT;
        this.dtls.handle_timeout(now).map_err(|error| dtls_error(&error))?;
        this.drain()?;
        while !this.connected {
            let Some(left) = left(deadline) else {
                return Err(DialError::Handshake(this.silence()));
            };
            this.turn(left)?;
            if this.closed {
                return Err(DialError::Handshake("it ended the DTLS handshake".into()));
            }
        }
        let leaf = this.certificate.as_deref();
        let leaf = leaf.ok_or_else(|| DialError::Handshake("it has no certificate".into()))?;
        trust.believes(leaf).map_err(DialError::Untrusted)?;
        Ok(this)
    }

    fn silence(&self) -> String {
        let nobody = "nothing listens there (port unreachable)";
        if self.refused { nobody.into() } else { "no answer to the DTLS handshake".into() }
    }

    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.dtls
            .send_application_data(bytes)
            .map_err(|error| io::Error::other(error.to_string()))?;
        self.drain()
    }

    pub(crate) fn receive(&mut self, limit: Duration) -> io::Result<Received> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(Received::Message(message));
            }
            if self.closed {
                return Ok(Received::Closed);
            }
            let Some(left) = left(deadline) else { return Ok(Received::Nothing) };
            self.turn(left).map_err(|error| io::Error::other(error.to_string()))?;
        }
    }

    /// One datagram or one timer.
    fn turn(&mut self, limit: Duration) -> Result<(), DialError> {
        let until_timer = self.wake.saturating_duration_since(Instant::now());
        let wait = limit.min(until_timer).max(Duration::from_millis(1));
        self.socket.set_read_timeout(Some(wait))?;
        let mut datagram = [0; 2048];
        let came = match self.socket.recv(&mut datagram) {
            Ok(len) => Some(len),
            Err(error) if is_timeout(&error) => None,
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.refused = true;
                None
            }
            Err(error) => return Err(error.into()),
        };
        self.dtls.handle_timeout(Instant::now()).map_err(|error| dtls_error(&error))?;
        self.drain()?;
        if let Some(len) = came {
            self.dtls.handle_packet(&datagram[..len]).map_err(|error| dtls_error(&error))?;
            self.drain()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> io::Result<()> {
        loop {
            match self.dtls.poll_output(&mut self.buffer) {
                Output::Packet(bytes) => match self.socket.send(bytes) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        self.refused = true;
                    }
                    Err(error) => return Err(error),
                },
                Output::BufferTooSmall { needed } => self.buffer.resize(needed, 0),
                Output::Timeout(at) => {
                    self.wake = at;
                    return Ok(());
                }
                Output::Connected => self.connected = true,
                Output::PeerCert(der) => self.certificate = Some(der.to_vec()),
                Output::ApplicationData(bytes) => self.inbox.push_back(bytes.to_vec()),
                Output::CloseNotify => self.closed = true,
                _ => {}
            }
        }
    }

    pub(crate) fn security(&self) -> Option<String> {
        Some(match self.dtls.protocol_version()? {
            ProtocolVersion::DTLS1_2 => "DTLS 1.2".into(),
            ProtocolVersion::DTLS1_3 => "DTLS 1.3".into(),
            _ => "DTLS".into(),
        })
    }
}

impl Drop for Association {
    fn drop(&mut self) {
        // A courtesy: the server forgets the association at once.
        if self.connected && !self.closed && self.dtls.close().is_ok() {
            let _ = self.drain();
        }
    }
}

fn dtls_error(error: &dimpl::Error) -> DialError {
    DialError::Handshake(format!("DTLS: {error}"))
}
