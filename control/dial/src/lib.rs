//! The client's side of STUN's four transports, for the tools that speak to servers: blocking, with
//! a limit on every wait, one five-tuple for each [`Link`].
//!
//! ```text
//!   Dialer::dial ──> Link ── send ──────> datagram, stream bytes, TLS or DTLS record
//!                         <─ receive ──── one STUN message or one ChannelData message
//! ```
//!
//! Nothing here knows what a message means: streams are cut into messages by their length fields
//! (RFC 8489 section 6.2.2, RFC 8656 section 12.5), and that is all.

#![allow(clippy::disallowed_methods, reason = "sockets are the edge where the clock is read")]

mod datagram;
mod frames;
mod secure;
mod stream;
mod trust;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConnection;
pub use trust::Trust;

/// How long a connection and its handshake may take.
pub const CONNECT: Duration = Duration::from_secs(5);

/// RFC 8489 section 6.2: how a client reaches a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// DTLS over UDP (RFC 7350).
    Dtls,
}

impl Transport {
    /// All of them.
    pub const ALL: [Transport; 4] =
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Dtls];

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Dtls => "dtls",
        }
    }

    /// Whether messages travel in a stream of bytes: no retransmission, ChannelData is padded.
    pub const fn is_stream(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }

    /// Whether a certificate is asked for.
    pub const fn is_secure(self) -> bool {
        matches!(self, Transport::Tls | Transport::Dtls)
    }

    /// The port that is usual: 3478, or 5349 for TLS and DTLS.
    pub const fn default_port(self) -> u16 {
        if self.is_secure() { 5349 } else { 3478 }
    }
}

impl std::str::FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Transport::ALL.into_iter().find(|transport| transport.name() == text);
        found.ok_or_else(|| format!("{text} is none of udp, tcp, tls, dtls"))
    }
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The operating system says no.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// Somebody answers, but not as the transport demands.
    #[error("{0}")]
    Handshake(String),
    /// The server's certificate is not for that name, or of nobody who is believed.
    #[error("its certificate is not believed: {0}")]
    Untrusted(String),
    /// TLS and DTLS need to know whom to believe.
    #[error("no trust is set for {}", .0.name())]
    NoTrust(Transport),
}

/// What came from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    /// A datagram, or one message of a stream (ChannelData without its padding).
    Message(Vec<u8>),
    /// Stream bytes that begin no STUN and no ChannelData message: all that were there.
    Foreign(Vec<u8>),
    /// Nothing within the limit.
    Nothing,
    /// The server has ended the stream or the DTLS association.
    Closed,
}

/// How to reach a server.
#[derive(Clone, Debug)]
pub struct Dialer {
    /// Where it listens.
    pub server: SocketAddr,
    /// By what.
    pub transport: Transport,
    /// Whom to believe; needed for TLS and DTLS.
    pub trust: Option<Arc<Trust>>,
    /// The local address to come from.
    pub local: Option<IpAddr>,
}

impl Dialer {
    /// A link on a new five-tuple; connection and handshakes are done within [`CONNECT`].
    ///
    /// # Errors
    /// [`DialError`].
    pub fn dial(&self) -> Result<Link, DialError> {
        let trust = || self.trust.as_deref().ok_or(DialError::NoTrust(self.transport));
        let inner = match self.transport {
            Transport::Udp => Inner::Udp(datagram::Datagrams::new(self)?),
            Transport::Tcp | Transport::Tls => {
                let (socket, tls) = self.connect()?;
                Inner::Stream(stream::Stream::new(socket, tls))
            }
            Transport::Dtls => Inner::Dtls(Box::new(secure::Association::connect(self, trust()?)?)),
        };
        Ok(Link(inner))
    }

    /// A TCP connection, and over [`Transport::Tls`] the TLS connection on it whose handshake is
    /// done, for loops of one's own. The socket blocks, for [`CONNECT`] at most.
    ///
    /// # Errors
    /// [`DialError`].
    pub fn connect(&self) -> Result<(TcpStream, Option<ClientConnection>), DialError> {
        let socket = stream::connect_tcp(self)?;
        let trust = match (self.transport, &self.trust) {
            (Transport::Tls, None) => return Err(DialError::NoTrust(self.transport)),
            (Transport::Tls, Some(trust)) => trust,
            _ => return Ok((socket, None)),
        };
        let tls = stream::shake_hands(&socket, trust)?;
        Ok((socket, Some(tls)))
    }
}

/// One five-tuple to the server.
#[derive(Debug)]
pub struct Link(Inner);

#[derive(Debug)]
enum Inner {
    Udp(datagram::Datagrams),
    Stream(stream::Stream),
    Dtls(Box<secure::Association>),
}

impl Link {
    /// This end's address, before any NAT.
    ///
    /// # Errors
    /// As getsockname(2).
    pub fn local(&self) -> io::Result<SocketAddr> {
        match &self.0 {
            Inner::Udp(udp) => udp.local(),
            Inner::Stream(stream) => stream.local(),
            Inner::Dtls(dtls) => dtls.local(),
        }
    }

    /// Sends one datagram or record, or bytes of a stream, as they are.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Inner::Udp(udp) => udp.send(bytes),
            Inner::Stream(stream) => stream.send(bytes),
            Inner::Dtls(dtls) => dtls.send(bytes),
        }
    }

    /// The next message from the server. A connection that was reset is [`Received::Closed`].
    ///
    /// # Errors
    /// As recv(2).
    pub fn receive(&mut self, limit: Duration) -> io::Result<Received> {
        match &mut self.0 {
            Inner::Udp(udp) => udp.receive(limit),
            Inner::Stream(stream) => stream.receive(limit),
            Inner::Dtls(dtls) => dtls.receive(limit),
        }
    }

    /// The next bytes of a stream as they come, cut into nothing (RFC 6062, after ConnectionBind);
    /// as [`Link::receive`] for the others.
    ///
    /// # Errors
    /// As recv(2).
    pub fn receive_raw(&mut self, limit: Duration) -> io::Result<Received> {
        match &mut self.0 {
            Inner::Stream(stream) => stream.receive_raw(limit),
            _ => self.receive(limit),
        }
    }

    /// The UDP socket, not connected: answers from other addresses can be read from it. `None` for
    /// the other transports.
    pub fn socket(&self) -> Option<&UdpSocket> {
        match &self.0 {
            Inner::Udp(udp) => Some(udp.socket()),
            _ => None,
        }
    }

    /// What TLS or DTLS has agreed on, for people: version, and the application protocol if any.
    pub fn security(&self) -> Option<String> {
        match &self.0 {
            Inner::Udp(_) => None,
            Inner::Stream(stream) => stream.security(),
            Inner::Dtls(dtls) => dtls.security(),
        }
    }
}

/// Any port on any address of the family of `like`, or on `ip`.
fn from_anywhere(like: SocketAddr, ip: Option<IpAddr>) -> SocketAddr {
    let any: IpAddr = match like {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(ip.unwrap_or(any), 0)
}

/// The host and the address of `HOST`, `HOST:PORT` or `[IPV6]:PORT`; the first of several addresses.
///
/// # Errors
/// What is wrong with it, in words.
pub fn resolve(text: &str, default_port: u16) -> Result<(String, SocketAddr), String> {
    let text = text.trim();
    let bare: Result<IpAddr, _> = text.trim_matches(['[', ']']).parse();
    let (host, port) = match (bare, text.rsplit_once(':')) {
        (Ok(ip), _) => (ip.to_string(), default_port),
        (_, Some((host, port))) => {
            let port = port.parse().ok().filter(|port: &u16| *port > 0);
            let port = port.ok_or_else(|| {
                format!("{text:?} is no HOST or HOST:PORT, such as turn.example.org:3478")
            })?;
            (host.trim_matches(['[', ']']).to_owned(), port)
        }
        (_, None) => (text.to_owned(), default_port),
    };
    let mut found = (host.as_str(), port)
        .to_socket_addrs()
        .map_err(|error| format!("{host} cannot be resolved: {error}"))?;
    let address = found.next().ok_or_else(|| format!("{host} has no address"))?;
    Ok((host, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_by_host_port_or_both() {
        let address = |text: &str| resolve(text, 3478).map(|(_, address)| address.to_string());
        assert_eq!(address("127.0.0.1"), Ok("127.0.0.1:3478".into()));
        assert_eq!(address("127.0.0.1:99"), Ok("127.0.0.1:99".into()));
        assert_eq!(address("::1"), Ok("[::1]:3478".into()));
        assert_eq!(address("[::1]:5"), Ok("[::1]:5".into()));
        assert_eq!(resolve("[::1]", 1).map(|(host, _)| host), Ok("::1".into()));
        assert!(address("127.0.0.1:many").is_err());
    }

    #[test]
    fn transports_have_names() {
        for transport in Transport::ALL {
            assert_eq!(transport.name().parse(), Ok(transport));
        }
        assert!("sctp".parse::<Transport>().is_err());
    }
}
