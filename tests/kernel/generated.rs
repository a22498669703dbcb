//! 100,000 generated frames (S4): the kernel program and the host's functions must agree in
//! verdict, counters and every byte, and what they forward must be right by independent code.

use crate::calls::{NAMES, OUR_VLAN, call, from_client, from_peer, world};
use crate::expect;
use crate::host::Host;
use crate::program::{PUNTED, Program};
use crate::punted::{places, program};
use crate::world::Relay;
use turnwire_tests::random::Random;
use wire::Punt;

fn frame(random: &mut Random) -> Vec<u8> {
    let call = call(NAMES[random.below(NAMES.len())]);
    let size = if random.one_in(3) { random.below(1500) } else { random.below(64) };
    let data: Vec<u8> = (0..size).map(|_| random.next_u64() as u8).collect();
    let up = random.one_in(2);
    let mut sent = if up { from_client(&call, &data) } else { from_peer(&call, &data) };
    if up {
        sent.payload.extend((0..random.below(5)).map(|_| random.next_u64() as u8));
    }
    sent.ttl = if random.one_in(20) { random.below(3) as u8 } else { random.next_u64() as u8 };
    sent.traffic_class = random.next_u64() as u8;
    sent.dont_fragment = random.one_in(2);
    sent.checksum = !random.one_in(8);
    match random.below(12) {
        0 => sent.vlans = vec![OUR_VLAN],
        1 => sent.vlans = vec![random.below(4096) as u16],
        2 => sent.vlans = vec![OUR_VLAN, random.below(4096) as u16],
        _ => {}
    }
    if random.one_in(30) {
        sent.options = vec![0; 8];
    }
    if random.one_in(20) {
        sent.source.set_port(random.next_u64() as u16);
    }
    let mut frame = if random.one_in(30) && sent.payload.len() > 32 {
        sent.fragments(16)[random.below(2)].clone()
    } else {
        sent.frame()
    };
    match random.below(10) {
        0 => frame.extend((0..random.below(40)).map(|_| random.next_u64() as u8)),
        1 => frame.truncate(14 + random.below(frame.len() - 13)),
        2 | 3 => flip(random, &mut frame),
        _ => {}
    }
    frame
}

/// Up to three bits, most of them in the headers.
fn flip(random: &mut Random, frame: &mut [u8]) {
    for _ in 0..=random.below(3) {
        let end = if random.one_in(4) { frame.len() } else { frame.len().min(70) };
        let at = random.below(end);
        frame[at] ^= 1 << random.below(8);
    }
}

#[test]
fn a_hundred_thousand_generated_frames_have_the_same_fate_in_the_kernel_and_on_the_host() {
    let world = world();
    let (mut kernel, mut host) = (Program::load(&world).unwrap(), Host::new(&world));
    let mut random = Random::replayable(20_261_121);
    let (mut forwarded, mut reasons) = (0, std::collections::BTreeMap::new());
    for number in 0..100_000 {
        let frame = frame(&mut random);
        let (ours, theirs) = (host.run(&frame), kernel.run(&frame));
        assert_eq!(ours, theirs, "frame {number}: host (left), kernel (right): {frame:02x?}");
        match ours.reason() {
            Some(reason) => {
                assert_eq!(ours.frame, frame, "frame {number} was changed, though not forwarded");
                *reasons.entry(reason).or_insert(0) += 1;
            }
            None => {
                forwarded += 1;
                expect::check(&world, &frame, &ours)
                    .unwrap_or_else(|error| panic!("frame {number}: {error}\n{frame:02x?}"));
            }
        }
    }
    println!("{forwarded} forwarded; refused: {reasons:?}");
    // The generator must reach what it is meant to reach.
    assert!(forwarded > 20_000, "only {forwarded} frames were forwarded");
    assert!(reasons.len() >= 12, "only these reasons came up: {reasons:?}");
    for key in world.calls.iter().flat_map(|call| call.keys()) {
        assert_eq!(kernel.route_counts(&key), host.route_counts(&key), "counters of {key:?}");
    }
}

#[test]
fn generated_frames_go_to_workers_by_the_kernels_word_as_by_the_hosts() {
    let world = world();
    let (mut kernel, mut host) =
        (program(Punt::Unrouted), Host::punting(&world, Punt::Unrouted, &places()));
    let mut random = Random::replayable(20_261_122);
    let (mut punted, mut left) = (0, 0);
    for number in 0..30_000 {
        let frame = frame(&mut random);
        let (ours, theirs) = (host.run(&frame), kernel.run(&frame));
        assert_eq!(ours, theirs, "frame {number}: host (left), kernel (right): {frame:02x?}");
        match ours.counted[PUNTED] {
            0 => left += u32::from(ours.forwarded.is_none()),
            _ => punted += 1,
        }
    }
    println!("{punted} to workers, {left} to the stack");
    assert!(punted > 1_000 && left > 1_000, "the generator must reach both");
}
