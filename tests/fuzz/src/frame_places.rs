//! The AF_XDP rings and their memory against a made-up kernel: after each event every frame is in
//! exactly one place, and once all queues are gone every one is free.
//!
//! ```text
//!   | lying? 1 | queue 1, event 2, what it needs | queue 1, event 2, ... |
//! ```
//!
//! A choice of at most 256 is a byte, of more two, of more than 65,536 four; behind the end of the
//! input nothing happens any more.

use dataplane::link::xsk::simulation::Simulation;

use crate::input::Input;

pub(crate) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let lying = input.byte() % 2 == 1;
    let mut simulation = Simulation::begin();
    while !input.is_empty() {
        simulation.step(lying, &mut |limit| match limit {
            0..=256 => usize::from(input.byte()) % limit.max(1),
            257..=65_536 => usize::from(input.u16()) % limit,
            _ => u32::from_be_bytes(input.array()) as usize % limit,
        });
        simulation.check(lying);
    }
    simulation.end();
}

/// The events' numbers, as `Simulation::step` tells them apart.
const REFILL: u16 = 0;
const STOCK: u16 = 150;
const ARRIVE: u16 = 300;
const RECEIVE: u16 = 450;
const PUT: u16 = 600;
const SEND: u16 = 750;
const RECLAIM: u16 = 850;
const LIE: u16 = 950;
const LOSE: u16 = 960;
const SETTLE: u16 = 999;

fn event(queue: u8, event: u16, choices: &[u8]) -> Vec<u8> {
    [&[queue][..], &event.to_be_bytes(), choices].concat()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    // a queue opens, and packets come in and go out again by it
    let open = |queue| event(queue, 0, &[7]);
    let turn = |queue| {
        [
            event(queue, REFILL, &[]),
            event(queue, STOCK, &[7]),
            event(queue, ARRIVE, &[4, 0, 1, 0, 1, 0, 200, 2, 1, 0, 0, 0, 0]),
            event(queue, RECEIVE, &[8]),
            event(queue, PUT, &[0, 1, 1, 44, 1, 0, 10, 1, 0, 250, 1, 0, 1, 1, 0, 0]),
            event(queue, SEND, &[7, 7, 1, 0, 0, 0, 0]),
            event(queue, RECLAIM, &[]),
        ]
        .concat()
    };
    let one = [&[0][..], &open(0), &turn(0).repeat(6)].concat();
    let lost = [
        &[0][..],
        &open(0),
        &open(1),
        &open(2),
        &turn(0),
        &turn(1).repeat(2),
        &event(1, LOSE, &[]),
        &turn(2),
        &event(1, SETTLE, &[]),
        &event(1, SETTLE, &[]),
        &open(1),
        &turn(1),
    ]
    .concat();
    let lies = [
        &[1][..],
        &open(0),
        &turn(0),
        &event(0, LIE, &[2, 5, 0]),
        &event(0, LIE, &[3, 1]),
        &event(0, RECEIVE, &[8]),
        &event(0, LIE, &[0, 0, 9, 0]),
        &event(0, RECLAIM, &[]),
        &turn(0).repeat(3),
    ]
    .concat();
    vec![one, lost, lies]
}
