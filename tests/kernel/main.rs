//! The kernel program, run by BPF_PROG_TEST_RUN beside the same functions on the host.
//!
//! `program` and `host` are two executors of one relay (`world`, `calls`); `cases` is the table of
//! frames, `generated` the random ones (S4), `expect` says independently what should come out.
//! The executor `program` needs root; without it those tests fail and say so.

mod bounds;
mod calls;
mod cases;
mod expect;
mod generated;
mod host;
mod program;
mod punted;
mod world;

use wire::{Counters, Direction};
use world::Relay;

fn run_cases(relay: &mut dyn Relay) {
    let world = calls::world();
    for case in cases::all() {
        let outcome = relay.run(&case.frame);
        let name = &case.name;
        match case.refused {
            Some(reason) => {
                assert_eq!(outcome.reason(), Some(reason), "{name}: {:02x?}", case.frame);
                assert_eq!(outcome.forwarded, None, "{name}");
                assert_eq!(outcome.frame, case.frame, "{name}: changed, though not forwarded");
            }
            None => {
                let reason = outcome.reason();
                assert_eq!(reason, None, "{name} was refused: {:02x?}", case.frame);
                if let Err(error) = expect::check(&world, &case.frame, &outcome) {
                    panic!("{name}: {error}");
                }
                assert_counted(relay, &world, &case.frame, &outcome.counted, name);
            }
        }
    }
}

/// Every forwarded datagram is counted once each way that it went, in all and in its routes.
fn assert_counted(
    relay: &dyn Relay,
    world: &world::World,
    frame: &[u8],
    counted: &[u64; Counters::WORDS],
    name: &str,
) {
    let keys = expect::counting_keys(world, frame);
    let mut expected = [0; Counters::WORDS];
    let packet = turnwire_tests::frame::Packet::parse(frame).expect("it was forwarded");
    let from_client = keys[0].channel.get() != 0;
    let data = expect::application_data(&packet, from_client).expect("it was forwarded").len();
    for key in &keys {
        let way = if key.channel.get() != 0 { Direction::ToPeer } else { Direction::ToClient };
        expected[way as usize] = 1;
        expected[2 + way as usize] = data as u64;
        let (packets, _) = relay.route_counts(key).expect("its route is in the table");
        assert!(packets > 0, "{name}: the route did not count");
    }
    assert_eq!(*counted, expected, "{name}");
}

/// A datagram whose checksum happens to be the sum of its pseudo-header, one in 65,536, has just that
/// checksum where frames come off a cable.
#[test]
fn on_a_cable_no_checksum_is_taken_for_unmade() {
    let world = world::World { checksums: wire::Checksums::Made, ..calls::world() };
    let mut relays: [Box<dyn Relay>; 2] =
        [Box::new(host::Host::new(&world)), Box::new(program::Program::load(&world).unwrap())];
    for name in ["44", "66", "46", "64"] {
        let call = calls::call(name);
        for sent in [calls::from_client(&call, b"some data"), calls::from_peer(&call, b"some data")]
        {
            for relay in &mut relays {
                let outcome = relay.run(&cases::unfinished(&sent));
                assert_eq!(outcome.reason(), None, "{name}");
                assert!(outcome.forwarded.is_some(), "{name}");
            }
        }
    }
}

#[test]
fn the_case_table_holds_on_the_host() {
    run_cases(&mut host::Host::new(&calls::world()));
}

#[test]
fn the_case_table_holds_in_the_kernel() {
    run_cases(&mut program::Program::load(&calls::world()).unwrap());
}
