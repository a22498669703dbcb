//! Three hosts, and a route between two of them.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::kernel::testing::{Host, ethtool, ip};
use crate::kernel::{AttachError, AttachedInterface, Kernel, KernelConfig, XdpMode};
use crate::route::{PortId, Route, Transport};

/// The other two hosts; the relay is the thread itself.
pub(super) struct Lab {
    pub(super) client: Host,
    pub(super) peer: Host,
}

/// Ends of a call.
pub(super) struct Ends {
    pub(super) client: UdpSocket,
    pub(super) peer: UdpSocket,
    /// The relay's own sockets: what the program passes on.
    pub(super) listener: UdpSocket,
    pub(super) relay: UdpSocket,
}

impl Lab {
    pub(super) fn new() -> Lab {
        let lab = Lab { client: Host::new(), peer: Host::new() };
        lab.cable(&lab.client, "eth0", "c0", "192.0.2", "2001:db8:1");
        lab.cable(&lab.peer, "eth1", "p0", "198.51.100", "2001:db8:2");
        // Neighbours are known, so that tests do not wait for them.
        for (near, far, v4, v6) in [
            ("eth0", "02:00:00:00:00:c0", "192.0.2.2", "2001:db8:1::2"),
            ("eth1", "02:00:00:00:00:d0", "198.51.100.2", "2001:db8:2::2"),
        ] {
            ip(&format!("neigh replace {v4} lladdr {far} dev {near} nud permanent"));
            ip(&format!("neigh replace {v6} lladdr {far} dev {near} nud permanent"));
        }
        lab
    }

    /// A veth pair; see the picture above.
    pub(super) fn cable(&self, host: &Host, near: &str, far: &str, v4: &str, v6: &str) {
        let mac = if far == "c0" { "02:00:00:00:00:c0" } else { "02:00:00:00:00:d0" };
        ip(&format!("link add {near} type veth peer name {far} address {mac}"));
        ip(&format!("link set {far} netns {}", host.id));
        ip(&format!("address add {v4}.1/24 dev {near}"));
        ip(&format!("address add {v6}::1/64 dev {near} nodad"));
        ip(&format!("link set {near} up"));
        host.ip("link set lo up");
        host.ip(&format!("link set {far} up"));
        host.ip(&format!("address add {v4}.2/24 dev {far}"));
        host.ip(&format!("address add {v6}::2/64 dev {far} nodad"));
        // Whole checksums, and a receiver for frames that are redirected to it.
        ethtool(&format!("-K {near} tx off"));
        let far = far.to_owned();
        host.run(move || {
            ethtool(&format!("-K {far} tx off"));
            ethtool(&format!("-K {far} gro on"));
        });
    }

    pub(super) fn ends(&self, route: &Route) -> Ends {
        let (client, peer) = (route.client, route.peer);
        let ends = Ends {
            client: self.client.run(move || bind(client)),
            peer: self.peer.run(move || bind(peer)),
            listener: bind(route.listener),
            relay: bind(route.relay),
        };
        // Whatever asks for link addresses has done so before anything is counted.
        for (socket, to) in [(&ends.client, route.listener), (&ends.peer, route.relay)] {
            socket.send_to(b"hello", to).unwrap();
        }
        assert_eq!(receive(&ends.listener).0, b"hello");
        assert_eq!(receive(&ends.relay).0, b"hello");
        ends
    }
}

/// A process that another test is just starting may hold a copy of a socket closed here, until it
/// execs: so an address may be in use for a moment.
fn bind(address: SocketAddr) -> UdpSocket {
    let bound = (0..100).find_map(|_| {
        let bound = UdpSocket::bind(address).ok();
        if bound.is_none() {
            std::thread::sleep(Duration::from_millis(10));
        }
        bound
    });
    bound.unwrap_or_else(|| panic!("cannot bind {address}"))
}

/// The next datagram, for which a busy machine gets its time.
#[track_caller]
pub(super) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    receive_within(socket, Duration::from_secs(10)).expect("nothing came")
}

/// True when nothing comes for a while.
pub(super) fn is_silent(socket: &UdpSocket) -> bool {
    receive_within(socket, Duration::from_millis(300)).is_none()
}

fn receive_within(socket: &UdpSocket, time: Duration) -> Option<(Vec<u8>, SocketAddr)> {
    let mut buffer = [0; 2048];
    socket.set_read_timeout(Some(time)).unwrap();
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => return Some((buffer[..len].to_vec(), from)),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => return None,
                // the process was stopped for a moment
                ErrorKind::Interrupted => {}
                _ => panic!("{error}"),
            },
        }
    }
}

/// A ChannelData message.
pub(super) fn channel_data(channel: u16, data: &[u8]) -> Vec<u8> {
    let mut message = channel.to_be_bytes().to_vec();
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
    message
}

/// CLOCK_MONOTONIC.
pub(super) fn now() -> Duration {
    crate::kernel::testing::monotonic()
}

/// A route over the families that the two letters say: client, then peer.
pub(super) fn route(client: char, peer: char) -> Route {
    let address = |family: char, v4: &str, v6: &str| -> SocketAddr {
        if family == '4' { v4.parse().unwrap() } else { v6.parse().unwrap() }
    };
    Route {
        transport: Transport::Udp,
        client: address(client, "192.0.2.2:5000", "[2001:db8:1::2]:5000"),
        listener: address(client, "192.0.2.1:3478", "[2001:db8:1::1]:3478"),
        channel: 0x4000,
        relay: address(peer, "198.51.100.1:50000", "[2001:db8:2::1]:50000"),
        port: PortId::new(0, 0, 0),
        peer: address(peer, "198.51.100.2:7000", "[2001:db8:2::2]:7000"),
        expires: now() + Duration::from_secs(600),
        inner: false,
    }
}

pub(super) fn config() -> KernelConfig {
    KernelConfig {
        interfaces: vec!["eth0".to_owned(), "eth1".to_owned()],
        // Far ends have GRO on, so that a redirect reaches them natively.
        mode: XdpMode::Native,
        listen: vec!["0.0.0.0:3478".parse().unwrap(), "[::]:3478".parse().unwrap()],
        relay_ips: vec!["198.51.100.1".parse().unwrap(), "2001:db8:2::1".parse().unwrap()],
        routes_max: 1000,
        punt: crate::kernel::Punt::Off,
    }
}

pub(super) fn attach(
    change: impl FnOnce(&mut KernelConfig),
) -> Result<(Kernel, Vec<AttachedInterface>), AttachError> {
    let mut config = config();
    change(&mut config);
    Kernel::attach_here(&config)
}
