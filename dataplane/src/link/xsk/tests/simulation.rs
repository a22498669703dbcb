//! Random events through the simulation, and what it cannot show.

use std::sync::atomic::Ordering::Relaxed;
use turnwire_tests::random::Random;

use super::super::ring::Shared;
use super::super::simulation::{ENTRIES, Simulation, open};
use super::super::*;

const STEPS: u32 = 120_000;

#[test]
fn every_frame_is_in_exactly_one_place_whatever_the_kernel_does() {
    let mut random = Random::replayable(0x5eed_0a5c);
    let mut simulation = Simulation::begin();
    for _ in 0..STEPS {
        simulation.step(false, &mut |limit| random.below(limit));
        simulation.check(false);
    }
    let told = simulation.told();
    assert!(told.received > 1000 && told.completed > 1000 && told.losses > 50, "{told:?}");
    simulation.end();
}

#[test]
fn a_kernel_that_names_frames_it_has_not_is_not_believed() {
    let mut random = Random::replayable(0x5eed_11e5);
    let mut simulation = Simulation::begin();
    for _ in 0..STEPS {
        simulation.step(true, &mut |limit| random.below(limit));
        simulation.check(true);
    }
    let told = simulation.told();
    assert!(told.lies > 100 && told.strays > 100, "{told:?}");
    simulation.end();
}

#[test]
fn indices_that_cannot_be_allow_nothing() {
    let mut umem = Umem::new(64, FrameSize::Bytes2048).expect("memory");
    let mut line = open(&mut umem, 0);
    let (_, completion, rx, tx) = &line.kernel.peeks;
    completion.producer().store(ENTRIES + 1, Relaxed);
    rx.producer().store(u32::MAX, Relaxed);
    tx.consumer().store(5, Relaxed);
    let mut frames = Vec::with_capacity(64);
    assert_eq!(line.rings.receive(&mut umem, &mut frames, 64), 0);
    assert_eq!(line.rings.reclaim(&mut umem), 0);
    assert!(!line.rings.is_sound());
}

#[test]
#[should_panic(expected = "a frame of another memory")]
fn a_frame_of_another_memory_is_refused() {
    let memory = || Umem::new(4, FrameSize::Bytes2048).expect("memory");
    let (mut one, other) = (memory(), memory());
    let frame = one.take().expect("a free frame");
    other.bytes(&frame);
}

#[test]
fn a_packet_stays_inside_its_frame() {
    let mut umem = Umem::new(4, FrameSize::Bytes2048).expect("memory");
    let mut frame = umem.take().expect("a free frame");
    assert_eq!((frame.headroom(), frame.tailroom()), (320, 1728));
    assert_eq!(frame.set_size(1729), None);
    frame.set_size(1728).expect("it fits");
    assert_eq!(frame.move_start(-321), None);
    frame.move_start(-320).expect("to the frame's start");
    assert_eq!((frame.size(), frame.headroom(), frame.tailroom()), (2048, 0, 0));
    frame.move_start(2048).expect("to its end");
    assert_eq!((frame.move_start(1), frame.size()), (None, 0));
    assert_eq!(umem.bytes(&frame), b"");
    umem.give(frame);
    assert_eq!(umem.free(), 4);
}
