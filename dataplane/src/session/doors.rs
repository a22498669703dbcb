//! Taking connections in: listeners, and the limits of how many there may be.

use super::Ending;
use super::member::Takes;
use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// Connections that the kernel holds ready for one listener.
const BACKLOG: i32 = 4096;

/// Unsent bytes that the kernel takes for one connection: what is beyond waits in the queue here,
/// where datagrams that are too late can be dropped.
const UNSENT_MAX: u32 = 128 << 10;

/// After this long without an acknowledgement the kernel gives a connection up.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long accepting pauses when no descriptor is left.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);

/// A listener.
pub(crate) struct Door {
    pub(crate) listener: TcpListener,
    pub(crate) takes: Takes,
    /// There may be connections to accept.
    pub(crate) pending: bool,
}

/// What came of accepting.
pub(crate) enum Knock {
    /// A connection, from this address.
    Came(TcpStream, SocketAddr),
    /// None waits.
    Nobody,
    /// No descriptor or memory is left.
    Exhausted,
}

impl Door {
    pub(crate) fn accept(&mut self) -> Knock {
        loop {
            return match self.listener.accept() {
                Ok((socket, remote)) => Knock::Came(socket, remote),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => Knock::Nobody,
                    // a connection that has failed while it waited, or a call to make again
                    Some(libc::EINTR | libc::ECONNABORTED | libc::EPROTO) => continue,
                    _ => Knock::Exhausted,
                },
            };
        }
    }
}

/// Binds a TCP listener. What is set here every accepted connection inherits.
pub(crate) fn bind(
    address: SocketAddr,
    shared: bool,
) -> io::Result<(std::net::TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    let probes = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15))
        .with_retries(4);
    socket.set_tcp_keepalive(&probes)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    let local = socket.local_addr()?.as_socket().unwrap_or(address);
    Ok((socket.into(), local))
}

/// Finds out whether an address is free.
pub(crate) fn probe(address: SocketAddr) -> io::Result<()> {
    bind(address, false).map(drop)
}

/// What connections of one source are counted under: an IPv4 address, or the /64 of an IPv6 one.
pub(crate) fn source(ip: IpAddr) -> u128 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() & !u128::from(u64::MAX),
    }
}

/// How many connections there are, by thread, by source, and on all threads.
pub(crate) struct Census {
    thread: usize,
    thread_max: usize,
    all: Arc<AtomicUsize>,
    all_max: usize,
    per_source: HashMap<u128, usize>,
    source_max: usize,
}

impl Census {
    pub(crate) fn new(limits: &crate::config::SessionLimits, all: Arc<AtomicUsize>) -> Self {
        Self {
            thread: 0,
            thread_max: limits.connections_per_thread,
            all,
            all_max: limits.connections,
            per_source: HashMap::new(),
            source_max: limits.connections_per_source,
        }
    }

    /// Counts a connection in, or says why not.
    pub(crate) fn enter(&mut self) -> Result<(), Ending> {
        if self.thread >= self.thread_max {
            return Err(Ending::ThreadFull);
        }
        if self.all.fetch_add(1, Relaxed) >= self.all_max {
            self.all.fetch_sub(1, Relaxed);
            return Err(Ending::AllFull);
        }
        self.thread += 1;
        Ok(())
    }

    pub(crate) fn leave(&mut self) {
        self.thread -= 1;
        self.all.fetch_sub(1, Relaxed);
    }

    /// Counts one more for its source, or says that there are too many.
    pub(crate) fn enter_source(&mut self, source: u128) -> Result<(), Ending> {
        let count = self.per_source.entry(source).or_default();
        if *count >= self.source_max {
            return Err(Ending::SourceFull);
        }
        *count += 1;
        Ok(())
    }

    pub(crate) fn leave_source(&mut self, source: u128) {
        if let Some(count) = self.per_source.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SessionLimits;

    #[test]
    fn sources_are_addresses_and_prefixes() {
        let of = |text: &str| source(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8:1:2::3"), of("2001:db8:1:2:ffff::4"));
        assert_ne!(of("2001:db8:1:2::3"), of("2001:db8:1:3::3"));
    }

    #[test]
    fn each_limit_refuses_by_its_name_and_what_leaves_makes_room() {
        let all = Arc::new(AtomicUsize::new(0));
        let limits = SessionLimits {
            connections: 3,
            connections_per_thread: 2,
            connections_per_source: 1,
            ..SessionLimits::default()
        };
        let mut one = Census::new(&limits, Arc::clone(&all));
        let mut other = Census::new(&limits, Arc::clone(&all));
        assert_eq!(
            (one.enter(), one.enter(), one.enter()),
            (Ok(()), Ok(()), Err(Ending::ThreadFull))
        );
        assert_eq!((other.enter(), other.enter()), (Ok(()), Err(Ending::AllFull)));
        one.leave();
        assert_eq!((other.enter(), all.load(Relaxed)), (Ok(()), 3));
        assert_eq!(one.enter_source(7), Ok(()));
        assert_eq!((one.enter_source(7), one.enter_source(8)), (Err(Ending::SourceFull), Ok(())));
        one.leave_source(7);
        assert_eq!(one.enter_source(7), Ok(()));
    }
}
