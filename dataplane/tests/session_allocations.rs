//! The way of a TCP client's media allocates nothing once it is warm: counted in every thread but
//! the test's own.
#![expect(unsafe_code, reason = "a global allocator that counts")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests wait and measure")]

#[path = "session/kit.rs"]
mod kit;
#[path = "support/rig.rs"]
mod rig;

use kit::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

struct Counting;

static COUNTED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_TEST: Cell<bool> = const { Cell::new(false) };
}

fn note() {
    if !IS_TEST.with(Cell::get) {
        COUNTED.fetch_add(1, SeqCst);
    }
}

// SAFETY: every call is the system allocator's own, with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: passed on as it came.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: passed on as it came.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: passed on as it came.
        unsafe { System.realloc(pointer, layout, size) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: passed on as it came.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
fn a_warm_session_thread_relays_a_tcp_clients_media_without_allocating() {
    IS_TEST.with(|is_test| is_test.set(true));
    let mut rig = start(|_| ());
    let (mut stream, peer) = (connect(rig.tcp()), peer());
    let client = introduce(&mut rig, &mut stream);
    let route = rig.bind_channel(client, 0x4000, peer.local_addr().unwrap());
    (0..20).for_each(|_| round(&mut rig, &mut stream, &peer, route.relay));
    assert!(COUNTED.load(SeqCst) > 0, "the thread's own start was counted");
    let before = COUNTED.load(SeqCst);
    (0..500).for_each(|_| round(&mut rig, &mut stream, &peer, route.relay));
    assert_eq!(COUNTED.load(SeqCst) - before, 0, "in {} messages", 500 * 19);
}
