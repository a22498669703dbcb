//! TCP, and TLS over it.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::datagram::{is_timeout, left};
use crate::frames::{self, Frame};
use crate::{CONNECT, DialError, Dialer, Received, Trust};

/// Bytes that are read at once.
const CHUNK: usize = 16 * 1024;

#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<ClientConnection>>,
    buffer: Vec<u8>,
    closed: bool,
}

impl Stream {
    pub(crate) fn new(socket: TcpStream, tls: Option<ClientConnection>) -> Self {
        Stream { socket, tls: tls.map(Box::new), buffer: Vec::new(), closed: false }
    }

    pub(crate) fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return self.socket.write_all(bytes) };
        tls.writer().write_all(bytes)?;
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    pub(crate) fn receive(&mut self, limit: Duration) -> io::Result<Received> {
        let deadline = Instant::now() + limit;
        loop {
            match frames::take(&mut self.buffer) {
                Frame::Whole(message) => return Ok(Received::Message(message)),
                Frame::Foreign => return Ok(Received::Foreign(std::mem::take(&mut self.buffer))),
                Frame::Partial if self.closed && self.buffer.is_empty() => {
                    return Ok(Received::Closed);
                }
                // The end came in the middle of something.
                Frame::Partial if self.closed => {
                    return Ok(Received::Foreign(std::mem::take(&mut self.buffer)));
                }
                Frame::Partial => {}
            }
            let Some(left) = left(deadline) else { return Ok(Received::Nothing) };
            self.fill(left)?;
        }
    }

    pub(crate) fn receive_raw(&mut self, limit: Duration) -> io::Result<Received> {
        let deadline = Instant::now() + limit;
        loop {
            if !self.buffer.is_empty() {
                return Ok(Received::Message(std::mem::take(&mut self.buffer)));
            }
            if self.closed {
                return Ok(Received::Closed);
            }
            let Some(left) = left(deadline) else { return Ok(Received::Nothing) };
            self.fill(left)?;
        }
    }

    /// Reads once, for no longer than `limit`.
    fn fill(&mut self, limit: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(limit))?;
        match self.read() {
            Ok(0) => self.closed = true,
            Ok(_) => {}
            Err(error) if is_timeout(&error) => {}
            Err(error) if is_end(&error) => self.closed = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How many bytes came, encrypted or not; 0 at the end.
    fn read(&mut self) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else {
            let mut chunk = [0; CHUNK];
            let len = self.socket.read(&mut chunk)?;
            self.buffer.extend_from_slice(&chunk[..len]);
            return Ok(len);
        };
        let len = tls.read_tls(&mut self.socket)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let start = self.buffer.len();
        self.buffer.resize(start + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut self.buffer[start..])?;
        Ok(if state.peer_has_closed() { 0 } else { len })
    }

    pub(crate) fn security(&self) -> Option<String> {
        let tls = self.tls.as_ref()?;
        let version = tls.protocol_version().map_or("TLS", |version| match version {
            rustls::ProtocolVersion::TLSv1_3 => "TLS 1.3",
            rustls::ProtocolVersion::TLSv1_2 => "TLS 1.2",
            _ => "TLS",
        });
        let alpn = tls.alpn_protocol().map(String::from_utf8_lossy);
        Some(alpn.map_or_else(|| version.to_owned(), |alpn| format!("{version}, {alpn}")))
    }
}

/// The TLS handshake, on a connected socket that blocks.
pub(crate) fn shake_hands(
    mut socket: &TcpStream,
    trust: &Trust,
) -> Result<ClientConnection, DialError> {
    let tls = ClientConnection::new(trust.config(), trust.name());
    let mut tls = tls.map_err(|error| DialError::Handshake(format!("TLS: {error}")))?;
    while tls.is_handshaking() {
        tls.complete_io(&mut socket).map_err(|error| refusal(&error))?;
    }
    Ok(tls)
}

pub(crate) fn connect_tcp(dialer: &Dialer) -> Result<TcpStream, DialError> {
    let plain = || -> io::Result<TcpStream> {
        let domain = Domain::for_address(dialer.server);
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if let Some(ip) = dialer.local {
            socket.bind(&SockAddr::from(SocketAddr::new(ip, 0)))?;
        }
        socket.connect_timeout(&SockAddr::from(dialer.server), CONNECT)?;
        socket.set_tcp_nodelay(true)?;
        let socket: TcpStream = socket.into();
        socket.set_read_timeout(Some(CONNECT))?;
        socket.set_write_timeout(Some(CONNECT))?;
        Ok(socket)
    };
    plain().map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            DialError::Handshake("nothing listens there (does the server offer it?)".into())
        }
        io::ErrorKind::TimedOut => DialError::Handshake("no answer to the connection".into()),
        _ => DialError::Socket(error),
    })
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// A failed handshake as a user would say it.
fn refusal(error: &io::Error) -> DialError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    DialError::Handshake(match (inner, error.kind()) {
        (Some(rustls::Error::InvalidCertificate(why)), _) => {
            return DialError::Untrusted(why.to_string());
        }
        (Some(rustls::Error::InvalidMessage(_)), _) => "it does not speak TLS there".to_owned(),
        (_, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset) => {
            "it ended the TLS handshake".to_owned()
        }
        (_, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            "no answer to the TLS handshake (does it speak TLS there?)".to_owned()
        }
        _ => format!("the TLS handshake failed: {error}"),
    })
}
