//! The way of a TCP client's media allocates nothing and waits for no lock once it is warm: counted in
//! every thread but the test's own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests wait and measure")]

#[path = "support/counting.rs"]
mod counting;
#[path = "support/futexes.rs"]
mod futexes;
#[path = "session/kit.rs"]
mod kit;
#[path = "support/rig.rs"]
mod rig;

use kit::*;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};

/// Media in both directions, a message and its answer, and a frame in two pieces.
fn round(rig: &mut rig::Rig, stream: &mut TcpStream, peer: &UdpSocket, relay: SocketAddr) {
    let frame = channel_data(0x4000, &[7; 160], 0);
    stream.write_all(&frame.repeat(8)).unwrap();
    (0..8).for_each(|_| assert_eq!(receive(peer).0.len(), 160));
    (0..8).for_each(|_| assert_eq!(peer.send_to(&[8; 158], relay).unwrap(), 158));
    assert_eq!(read(stream, 8 * 164).len(), 8 * 164);
    stream.write_all(&[&frame[..], &frame[..50]].concat()).unwrap();
    assert_eq!(receive(peer).0.len(), 160);
    stream.write_all(&frame[50..]).unwrap();
    assert_eq!(receive(peer).0.len(), 160);
    stream.write_all(&stun(4)).unwrap();
    let (client, _) = rig.heard();
    rig.plane.to_client(SESSION, client, &stun(8));
    rig.plane.flush();
    assert_eq!(read(stream, 28), stun(8));
}

#[test]
fn a_warm_session_thread_relays_a_tcp_clients_media_without_allocating_or_waiting_for_a_lock() {
    counting::leave_out_this_thread();
    let mut rig = start(|_| ());
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let client = introduce(&mut rig, &mut stream);
    let route = rig.bind_channel(client, 0x4000, peer.local_addr().unwrap());
    (0..20).for_each(|_| round(&mut rig, &mut stream, &peer, route.relay));
    assert!(counting::counted() > 0, "the thread's own start was counted");
    futexes::count();
    let before = (counting::counted(), futexes::counted());
    (0..500).for_each(|_| round(&mut rig, &mut stream, &peer, route.relay));
    let after = (counting::counted(), futexes::counted());
    assert_eq!(after, before, "allocations and futex calls in {} messages", 500 * 19);
}
