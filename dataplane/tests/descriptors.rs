//! Running out of descriptors: refused as exhausted, nothing open suffers, and it passes. A test
//! binary of its own, because the limit is the process's.
#![expect(unsafe_code, reason = "setrlimit")]

#[path = "support/rig.rs"]
mod rig;

use dataplane::{Config, OpenPortError, Tuning, monotonic};
use rig::{Host, PATIENCE, Rig, channel_data, config};
use std::time::Duration;

#[test]
fn ports_beyond_the_descriptors_are_refused_and_closing_makes_room() {
    // given a process that may have 200 descriptors
    let limit = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
    // SAFETY: `limit` is a valid rlimit; only this test runs in this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let many = Config { ports_max: 1000, ..config(1, &["127.0.0.1:0"]) };
    let mut rig = Rig::tuned(many, Tuning::default());
    let (mut client, mut peer) = (Host::new("127.0.0.1"), Host::new("127.0.0.1"));
    let listener = rig.listener(0);
    let route = rig.channel(client.address, listener, "127.0.0.1", peer.address);
    let open = |rig: &mut Rig| rig.plane.open_port(0, "127.0.0.1:0".parse().unwrap());
    let before = descriptors();
    for round in 0..20 {
        // when ports are opened until none is left
        let mut ports = Vec::new();
        let refused = loop {
            match open(&mut rig) {
                Ok(port) => ports.push(port),
                Err(error) => break error,
            }
        };
        // then
        assert!(matches!(refused, OpenPortError::Exhausted), "{refused}");
        assert!(ports.len() > 100 && ports.len() < 200, "round {round}: {}", ports.len());
        rig.plane.flush();
        client.send(listener, &channel_data(0x4000, b"still there", 0));
        assert_eq!(peer.receive_one().bytes, b"still there");
        peer.send(route.relay, b"and back");
        assert_eq!(client.receive_one().bytes.len(), 12);
        // and all come back
        ports.drain(..).for_each(|port| rig.plane.close_port(port));
        rig.plane.flush();
        let end = monotonic() + PATIENCE;
        while descriptors() != before {
            assert!(monotonic() < end, "{} descriptors instead of {before}", descriptors());
            rig.told(1, Duration::from_millis(1));
        }
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}
