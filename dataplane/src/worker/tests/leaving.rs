//! When an indication leaves in the frame that it came in, and when it does not.

use super::indications::send_to;
use super::parity::{Sent, read};
use super::*;
use crate::kernel::FrameTables;
use crate::link::xsk::{FrameSize, Umem};
use crate::route::{Permission, PermissionHops, Relayed};
use crate::worker::frames::indication::Known;
use crate::worker::frames::{Stays, leaving};
use crate::worker::indication::Ids;
use wire::PortUse;

/// The kernel's tables know the ports and the hop, and no channel.
fn tables() -> FrameTables {
    let ports = [(address(RELAY).port(), PortUse::relay(0)), (3478, wire::LISTENER)];
    FrameTables::for_tests(&[], &ports)
}

/// Whether the test's one interface has a queue.
#[derive(Clone, Copy)]
struct Lane(bool);

struct Scene {
    bench: Bench,
    tables: FrameTables,
    umem: Umem,
}

impl Scene {
    /// A client with a permission for its peer, both at known hops; no channel.
    fn new() -> Scene {
        let mut bench = bench();
        bench.routes.remove(&bench.route);
        let Route { client, listener, relay, port, .. } = bench.route;
        bench.permits.insert_relayed(&Relayed { client, listener, relay, port }).unwrap();
        bench.permits.insert_permission(&permission(&bench)).unwrap();
        let umem = Umem::new(2, FrameSize::Bytes2048).unwrap();
        let mut scene = Scene { bench, tables: tables(), umem };
        scene.lead(1, 1);
        scene
    }

    fn lead(&mut self, to_peer: u16, to_client: u16) {
        let hops = PermissionHops { to_peer, to_client };
        self.bench.permits.lead_permission(address(PEER).ip(), address(RELAY), hops);
    }

    /// What leaves of a frame, or its fate in words; the frame is back on the free list then.
    fn pass(&mut self, sent: &Sent, now: Duration, lane: Lane) -> Result<Vec<u8>, String> {
        self.pass_bytes(&sent.frame(), now, lane).inspect(|frame| _ = read(frame, sent))
    }

    fn pass_bytes(&mut self, bytes: &[u8], now: Duration, lane: Lane) -> Result<Vec<u8>, String> {
        let mut frame = self.umem.take().expect("a free frame");
        frame.set_size(bytes.len()).expect("it fits");
        self.umem.bytes_mut(&mut frame).copy_from_slice(bytes);
        let Shared { routes, permits } = &self.bench.worker.shared;
        let (view, permits) = (View::new(routes, now), Permits::new(permits, now));
        let kernel = &self.tables.view(now);
        let egress = &self.bench.worker.egress;
        let known = Known { kernel, tables: &Tables { view, permits }, egress };
        let out = |interface| (lane.0 && interface == 2).then_some(0);
        let left = leaving(&mut self.umem.view(&mut frame), &known, &mut Ids::new(), out);
        let left = match left {
            Ok(_) => Ok(self.umem.bytes(&frame).to_vec()),
            Err(Stays::Datagram(None)) => Err("datagram".to_owned()),
            Err(Stays::Datagram(Some(reason))) => Err(format!("socket: {}", reason.name())),
            Err(Stays::Refused(way, reason)) => Err(format!("{way:?}: {}", reason.name())),
        };
        self.umem.give(frame);
        assert_eq!(self.umem.census().free, 2, "no frame is lost");
        left
    }
}

fn permission(bench: &Bench) -> Permission {
    let Route { client, listener, relay, .. } = bench.route;
    let (peer, expires) = (address(PEER).ip(), NOW + Duration::from_secs(300));
    Permission { client, listener, relay, peer, expires }
}

fn sent([remote, local]: [&str; 2], payload: Vec<u8>) -> Sent {
    let (remote, local) = (address(remote), address(local));
    let arrival = Arrival { remote, local, ttl: 9, tos: 0x2e, truncated: false };
    let by = SocketId::RELAYED;
    Sent { by, arrival, payload, checksum: true, whole: false }
}

/// A Send indication, and a datagram of the peer's, with so many bytes of data.
fn both(size: usize) -> [Sent; 2] {
    let data = vec![0xc5; size];
    let send = send_to(PEER, &data, false);
    [sent([CLIENT, LISTENER], send), sent([PEER, RELAY], data)]
}

/// What becomes of a Send, and of a peer's datagram.
#[track_caller]
fn become_of(scene: &mut Scene, now: Duration, lane: Lane, wanted: [&str; 2]) {
    for (sent, wanted) in both(160).iter().zip(wanted) {
        let came = scene.pass(sent, now, lane).map(|_| "frame".to_owned());
        assert_eq!(came.unwrap_or_else(|fate| fate), wanted);
    }
}

#[test]
fn an_indication_leaves_as_a_frame_for_as_long_as_there_is_a_permission() {
    let mut scene = Scene::new();
    let (here, end) = (Lane(true), NOW + Duration::from_secs(300));
    become_of(&mut scene, NOW, here, ["frame", "frame"]);
    become_of(&mut scene, end - Duration::from_nanos(1), here, ["frame", "frame"]);
    become_of(&mut scene, end, here, ["datagram", "datagram"]);
    // a refresh keeps the hops
    let refreshed =
        Permission { expires: end + Duration::from_secs(1), ..permission(&scene.bench) };
    scene.bench.permits.insert_permission(&refreshed).unwrap();
    become_of(&mut scene, end, here, ["frame", "frame"]);
    scene.bench.permits.remove_permission(refreshed.peer, refreshed.relay);
    become_of(&mut scene, NOW, here, ["datagram", "datagram"]);
    // one that is given anew has none at first
    scene.bench.permits.insert_permission(&refreshed).unwrap();
    become_of(&mut scene, NOW, here, ["socket: no_hop", "socket: no_hop"]);
}

#[test]
fn what_has_no_hop_or_no_queue_is_a_sockets() {
    let mut scene = Scene::new();
    become_of(&mut scene, NOW, Lane(false), ["socket: no_hop", "socket: no_hop"]);
    scene.lead(0, 1);
    become_of(&mut scene, NOW, Lane(true), ["socket: no_hop", "frame"]);
    scene.lead(1, 0);
    become_of(&mut scene, NOW, Lane(true), ["frame", "socket: no_hop"]);
    // the table of hops has two places, and nobody's index is beyond them
    scene.lead(7, 7);
    become_of(&mut scene, NOW, Lane(true), ["socket: no_hop", "socket: no_hop"]);
}

#[test]
fn a_permission_that_moves_to_another_client_does_not_take_the_hops_along() {
    let mut scene = Scene::new();
    let client = address("192.0.2.1:5001");
    let moved = Permission { client, ..permission(&scene.bench) };
    scene.bench.permits.insert_permission(&moved).unwrap();
    become_of(&mut scene, NOW, Lane(true), ["socket: no_hop", "socket: no_hop"]);
}

#[test]
fn a_channel_that_only_the_workers_table_has_is_not_answered_with_an_indication() {
    let mut scene = Scene::new();
    scene.bench.routes.insert(&scene.bench.route).unwrap();
    become_of(&mut scene, NOW, Lane(true), ["frame", "datagram"]);
    let after = scene.bench.route.expires;
    become_of(&mut scene, after, Lane(true), ["frame", "frame"]);
}

#[test]
fn a_relay_port_of_another_worker_sends_frames_all_the_same() {
    let mut scene = Scene::new();
    let Route { client, listener, relay, port, .. } = scene.bench.route;
    scene.bench.control.command(Command::Close { id: port });
    let port = PortId::new(1, 3, 5);
    scene.bench.permits.insert_relayed(&Relayed { client, listener, relay, port }).unwrap();
    scene.bench.worker.round(NOW);
    become_of(&mut scene, NOW, Lane(true), ["frame", "frame"]);
}

#[test]
fn the_last_hop_and_a_wrong_checksum_are_refused_on_their_way() {
    let mut scene = Scene::new();
    let ways = ["ToPeer", "ToClient"];
    for (mut sent, way) in both(33).into_iter().zip(ways) {
        for ttl in [0, 1] {
            sent.arrival.ttl = ttl;
            let refused = Err(format!("{way}: last_hop"));
            assert_eq!(scene.pass(&sent, NOW, Lane(true)), refused);
        }
        sent.arrival.ttl = 2;
        assert!(scene.pass(&sent, NOW, Lane(true)).is_ok());
        let mut frame = sent.frame();
        *frame.last_mut().expect("it is not empty") ^= 1;
        let refused = Err(format!("{way}: malformed"));
        assert_eq!(scene.pass_bytes(&frame, NOW, Lane(true)), refused);
    }
}

/// The hop's packets have 1,500 bytes at most: 28 of headers, and 36 of a Data indication's.
#[test]
fn what_no_longer_fits_the_hop_is_a_sockets() {
    let mut scene = Scene::new();
    for (size, fits) in [(1432, true), (1436, true), (1437, false), (1440, false)] {
        let [_, data] = both(size);
        let left = scene.pass(&data, NOW, Lane(true));
        match fits {
            true => assert_eq!(left.map(|frame| frame.len()), Ok(14 + 28 + 36 + size), "{size}"),
            false => assert_eq!(left, Err("socket: too_big".to_owned()), "{size}"),
        }
    }
}

/// Frames are used again: what lies behind the data is an older frame's.
#[test]
fn padding_is_zero_whatever_lay_there() {
    let mut scene = Scene::new();
    for size in (0..9).chain([159, 160, 161, 162, 163]) {
        let mut frame = scene.umem.take().expect("a free frame");
        frame.set_size(1700).expect("it fits");
        scene.umem.bytes_mut(&mut frame).fill(0xee);
        scene.umem.give(frame);
        let [_, data] = both(size);
        let trailing = [data.frame(), vec![0xdb; size % 3]].concat();
        let left = scene.pass_bytes(&trailing, NOW, Lane(true)).expect("it leaves");
        let message = &left[42..];
        let padding = size.next_multiple_of(4) - size;
        assert_eq!(message.len(), 36 + size + padding, "{size}");
        assert_eq!(message[34..36], (size as u16).to_be_bytes(), "{size}");
        assert_eq!(message[36..], [vec![0xc5; size], vec![0; padding]].concat(), "{size}");
        _ = read(&left, &data);
    }
}
