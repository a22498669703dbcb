//! Two hosts and a cable between them, and what answers on one of them.
//!
//! ```text
//!   near: Reflector on x0 ───────────── x1: far, plain sockets
//!         192.0.2.1                         192.0.2.2
//! ```
//!
//! The cable is a veth pair, or the two interfaces that TURNWIRE_LAB_CABLE names ("eth0:eth1"), which
//! are moved to their hosts: a guest's.

use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{MapData, XskMap};
use aya::programs::{Xdp, xdp::XdpMode};

use super::super::*;
use crate::kernel::testing::{Host, ethtool, ip, is_root, monotonic};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../../../ebpf/object/divert.o");

pub(crate) const PORT: u16 = 7000;
/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of a socket's receive buffer in a guest, which may stand still for a while.
pub(crate) const GUEST_BUFFER: usize = 32 << 20;

/// What the test on the near host knows.
pub(crate) struct Lab {
    pub(crate) far: Arc<Host>,
    /// The near end of the cable.
    pub(crate) near: String,
    /// The far end.
    pub(crate) far_end: String,
}

/// Runs `test` on the near host. Without root it is skipped, and says what it needs.
pub(crate) fn in_lab(test: impl FnOnce(&Lab) + Send + 'static) {
    if !is_root() {
        eprintln!("skipped: network namespaces and AF_XDP need root");
        return;
    }
    let (near, far) = (Host::new(), Arc::new(Host::new()));
    let cable = std::env::var("TURNWIRE_LAB_CABLE").ok();
    if cable.is_some() {
        // a guest's own: it is the whole machine's
        std::fs::write("/proc/sys/net/core/rmem_max", GUEST_BUFFER.to_string()).expect("root may");
    }
    let (x0, x1) = match cable.as_deref().and_then(|cable| cable.split_once(':')) {
        Some((x0, x1)) => {
            ip(&format!("link set {x0} netns {}", near.id));
            ip(&format!("link set {x1} netns {}", far.id));
            (x0.to_owned(), x1.to_owned())
        }
        None => {
            near.ip(&cable_between("x0", "x1", far.id));
            ("x0".to_owned(), "x1".to_owned())
        }
    };
    connect(&near, &far, &x0, &x1, 2);
    let lab = Lab { far, near: x0, far_end: x1 };
    near.run(move || test(&lab));
}

/// With two queues each.
pub(crate) fn cable_between(near: &str, far: &str, host: i32) -> String {
    let queues = "numrxqueues 2 numtxqueues 2";
    format!("link add {near} {queues} type veth peer name {far} {queues} netns {host}")
}

/// Addresses 192.0.N.1 and 192.0.N.2, known neighbours, whole checksums.
pub(crate) fn connect(near: &Host, far: &Host, x0: &str, x1: &str, net: u8) {
    for (host, name, own, other) in [(near, x0, 1, 2), (far, x1, 2, 1)] {
        let name = name.to_owned();
        host.run(move || plug(&name, net, own, other));
    }
}

fn mac(net: u8, host: u8) -> String {
    format!("02:00:00:00:{net:02x}:{host:02x}")
}

/// One end of the cable.
pub(crate) fn plug(name: &str, net: u8, own: u8, other: u8) {
    // nothing but what the test sends
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    ip(&format!("link set {name} address {}", mac(net, own)));
    ip(&format!("address add 192.0.{net}.{own}/24 dev {name}"));
    ethtool(&format!("-K {name} tx off"));
    ip(&format!("link set {name} up"));
    let (far, address) = (mac(net, other), format!("192.0.{net}.{other}"));
    ip(&format!("neigh replace {address} lladdr {far} dev {name} nud permanent"));
}

/// The program that hands all frames over, attached to an interface.
pub(crate) struct Divert {
    _ebpf: Ebpf,
    sockets: XskMap<MapData>,
}

impl Divert {
    pub(crate) fn attach(interface: &str) -> Divert {
        let mut ebpf = Ebpf::load(OBJECT).expect("the object loads");
        let sockets = ebpf.take_map("SOCKETS").expect("it has the map");
        let sockets = XskMap::try_from(sockets).expect("of sockets");
        let program: &mut Xdp =
            ebpf.program_mut("divert").expect("it has the program").try_into().unwrap();
        program.load().expect("the verifier takes it");
        program.attach(interface, XdpMode::Driver).expect("it attaches natively");
        Divert { _ebpf: ebpf, sockets }
    }

    pub(crate) fn add(&mut self, queue: &Queue) {
        self.sockets.set(queue.number(), queue.as_fd().as_raw_fd(), 0).expect("a socket fits");
    }
}

/// Sends everything back that came, by the queue that it came by.
pub(crate) struct Reflector {
    pub(crate) umem: Umem,
    pub(crate) queues: Vec<Queue>,
    frames: Vec<Frame>,
    /// What is done to each frame before it goes back.
    pub(crate) change: fn(&mut Umem, &mut Frame),
    /// Frames that the tx ring had no room for.
    pub(crate) dropped: u64,
}

impl Reflector {
    pub(crate) fn new(umem: Umem, queues: Vec<Queue>) -> Reflector {
        Reflector { umem, queues, frames: Vec::with_capacity(64), change: |_, _| (), dropped: 0 }
    }

    /// One turn of the loop. How many frames it had.
    pub(crate) fn turn(&mut self) -> usize {
        let mut had = 0;
        for queue in &mut self.queues {
            had += queue.receive(&mut self.umem, &mut self.frames, 64);
            for mut frame in self.frames.drain(..) {
                if !swap(self.umem.bytes_mut(&mut frame)) {
                    self.umem.give(frame);
                    continue;
                }
                (self.change)(&mut self.umem, &mut frame);
                if let Err(frame) = queue.transmit(&mut self.umem, frame) {
                    self.dropped += 1;
                    self.umem.give(frame);
                }
            }
            queue.reclaim(&mut self.umem);
            queue.refill(&mut self.umem);
            queue.flush().expect("the queue works");
        }
        had
    }

    /// Turns until `done`, for as long as patience lasts.
    #[track_caller]
    pub(crate) fn turn_until(&mut self, what: &str, mut done: impl FnMut(&Reflector) -> bool) {
        let started = monotonic();
        while !done(self) {
            assert!(monotonic() - started < PATIENCE, "{what} never came: {self:?}");
            if self.turn() == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    }
}

impl std::fmt::Debug for Reflector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?}, {} dropped", self.umem.census(), self.dropped)?;
        for queue in &self.queues {
            writeln!(f, "{queue:?}: {:?} {:?}", queue.counts(), queue.statistics())?;
        }
        Ok(())
    }
}

/// Exchanges MAC addresses, IPv4 addresses and UDP ports: no checksum changes. False for anything
/// but a UDP datagram for [`PORT`].
pub(crate) fn swap(bytes: &mut [u8]) -> bool {
    if bytes.len() < 42 || bytes[12..14] != [8, 0] || bytes[23] != 17 {
        return false;
    }
    if bytes[36..38] != PORT.to_be_bytes() {
        return false;
    }
    let (to, from) = bytes.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let (source, target) = bytes[26..34].split_at_mut(4);
    source.swap_with_slice(target);
    let (source, target) = bytes[34..38].split_at_mut(2);
    source.swap_with_slice(target);
    true
}

/// A socket on the far host, connected to the near one's [`PORT`].
pub(crate) fn far_socket(net: u8, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((format!("192.0.{net}.2"), port)).expect("a free port");
    socket.connect((format!("192.0.{net}.1"), PORT)).expect("a route");
    socket.set_read_timeout(Some(PATIENCE)).expect("an option");
    socket
}

pub(crate) fn open(interface: &str, number: u32, umem: &mut Umem, entries: u32) -> Queue {
    let options = Options { copying: Copying::Copy, entries, busy_poll: None };
    Queue::open(interface, number, umem, &options).unwrap_or_else(|error| panic!("{error}"))
}
