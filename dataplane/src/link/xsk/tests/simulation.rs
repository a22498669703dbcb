//! A made-up kernel on the other side of the rings, which does everything that the real one may, in any
//! order, and after each step every frame is in exactly one place.
//!
//! ```text
//!   ours: free list, hands, ledger │ fill ring │ the device's stock │ rx ring          │
//!                                  │ tx ring   │ being sent         │ completion ring  │ frames of a
//!                                                                                      │ lost queue
//! ```

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use turnwire_tests::random::Random;

use super::super::mapping::{Area, Entry, Mapping, Offsets};
use super::super::ring::{Consumer, Producer, Shared};
use super::super::rings::{Counts, Rings};
use super::super::umem::{Member, Umem};
use super::super::*;

const STEPS: u32 = 120_000;
const QUEUES: usize = 3;
const ENTRIES: u32 = 16;
const FRAMES: u32 = 96;

/// As the kernel lays a ring out: the indices on cache lines of their own.
const OFFSETS: Offsets = Offsets { producer: 0, consumer: 64, flags: 128, entries: 192 };

type Ring<T> = (Producer<Area<T>>, Consumer<Area<T>>, Area<T>);

fn ring<T: Entry>(start: u32) -> Ring<T> {
    let len = Area::<T>::len(OFFSETS, ENTRIES).next_multiple_of(4096);
    let mapping = Arc::new(Mapping::fresh(len).expect("memory"));
    let area = || Area::<T>::new(Arc::clone(&mapping), OFFSETS, ENTRIES);
    for index in [area().producer(), area().consumer()] {
        index.store(start, Relaxed);
    }
    (Producer::new(area()), Consumer::new(area()), area())
}

/// The kernel's side of one queue, and what its device has.
struct Kernel {
    fill: Consumer<Area<u64>>,
    completion: Producer<Area<u64>>,
    rx: Producer<Area<libc::xdp_desc>>,
    tx: Consumer<Area<libc::xdp_desc>>,
    stock: Vec<u64>,
    sending: Vec<u64>,
    /// Looks at what lies in the rings.
    peeks: (Area<u64>, Area<u64>, Area<libc::xdp_desc>, Area<libc::xdp_desc>),
}

struct Line {
    rings: Rings,
    member: Arc<Member>,
    kernel: Kernel,
}

/// The simulated interface goes up: a queue as [`Queue::open`] makes it, without the socket.
fn open(umem: &mut Umem, start: u32) -> Line {
    let member = Arc::new(Member { socket: None });
    let tag = umem.seat(&member).expect("a seat");
    let (fill, kernel_fill, fill_peek) = ring::<u64>(start);
    let (kernel_completion, completion, completion_peek) = ring::<u64>(start);
    let (kernel_rx, rx, rx_peek) = ring::<libc::xdp_desc>(start);
    let (tx, kernel_tx, tx_peek) = ring::<libc::xdp_desc>(start);
    let (umem, filled_max) = (umem.id(), ENTRIES);
    let counts = Counts::default();
    let rings = Rings { fill, completion, rx, tx, tag, umem, filled: 0, filled_max, counts };
    let kernel = Kernel {
        fill: kernel_fill,
        completion: kernel_completion,
        rx: kernel_rx,
        tx: kernel_tx,
        stock: Vec::new(),
        sending: Vec::new(),
        peeks: (fill_peek, completion_peek, rx_peek, tx_peek),
    };
    Line { rings, member, kernel }
}

impl Kernel {
    /// Takes from the fill ring, as far as it likes.
    fn take_stock(&mut self, random: &mut Random) {
        for _ in 0..random.below(8) {
            self.stock.extend(self.fill.take());
        }
        self.fill.release();
    }

    /// Packets come in. A few are dropped and their frames used again, as a full rx ring does.
    fn receive(&mut self, random: &mut Random) {
        for _ in 0..random.below(8) {
            if self.stock.is_empty() || self.rx.room(1) == 0 {
                break;
            }
            let at = random.below(self.stock.len());
            let address = self.stock.swap_remove(at);
            let addr = address / 2048 * 2048 + START as u64;
            let len = 14 + random.below(1500) as u32;
            assert!(self.rx.put(libc::xdp_desc { addr, len, options: 0 }));
        }
        self.rx.publish();
    }

    /// Takes from the tx ring; completes out of order, later.
    fn send(&mut self, random: &mut Random) {
        for _ in 0..random.below(8) {
            let Some(entry) = self.tx.take() else { break };
            assert!(entry.addr % 2048 + u64::from(entry.len) <= 2048 && entry.len >= 14);
            self.sending.push(entry.addr);
        }
        self.tx.release();
        for _ in 0..random.below(8) {
            if self.sending.is_empty() || self.completion.room(1) == 0 {
                break;
            }
            let at = random.below(self.sending.len());
            assert!(self.completion.put(self.sending.swap_remove(at)));
        }
        self.completion.publish();
    }

    /// Says what no kernel may: a frame that is somebody else's, or none.
    fn lie(&mut self, random: &mut Random, free: u64) {
        let address = match random.below(3) {
            0 => u64::MAX - random.below(10_000) as u64,
            1 => u64::from(FRAMES) * 2048 + random.below(1 << 30) as u64,
            _ => free * 2048,
        };
        if random.below(2) == 0 {
            if self.completion.put(address) {
                self.completion.publish();
            }
        } else if self.rx.put(libc::xdp_desc { addr: address, len: 60, options: 0 }) {
            self.rx.publish();
        }
    }

    /// Shows the number of each frame that is with the kernel, by the rings' memory alone.
    fn each(&self, mut show: impl FnMut(u64)) {
        let (fill, completion, rx, tx) = &self.peeks;
        let mut show = |address: u64| show(address / 2048);
        between(fill, &mut show);
        between(completion, &mut show);
        between(rx, |entry| show(entry.addr));
        between(tx, |entry| show(entry.addr));
        self.stock.iter().chain(&self.sending).for_each(|address| show(*address));
    }

    fn count(&self) -> u32 {
        let mut count = 0;
        self.each(|_| count += 1);
        count
    }
}

/// What lies between a ring's two indices.
fn between<T: Entry>(area: &Area<T>, mut show: impl FnMut(T)) {
    let (mut at, end) = (area.consumer().load(Relaxed), area.producer().load(Relaxed));
    while at != end {
        show(area.read(at));
        at = at.wrapping_add(1);
    }
}

struct World {
    umem: Umem,
    lines: Vec<Option<Line>>,
    hands: Vec<Frame>,
    now: Duration,
    random: Random,
    /// Frames that were with queues that are lost.
    lost: [bool; FRAMES as usize],
    losses: u32,
    lies: u64,
    strays: u64,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            umem: Umem::new(FRAMES, FrameSize::Bytes2048).expect("memory"),
            lines: (0..QUEUES).map(|_| None).collect(),
            hands: Vec::with_capacity(64),
            now: Duration::from_secs(1),
            random: Random::replayable(seed),
            lost: [false; FRAMES as usize],
            losses: 0,
            lies: 0,
            strays: 0,
        }
    }

    fn step(&mut self, lying: bool) {
        let at = self.random.below(QUEUES);
        let what = self.random.below(1000);
        let Some(line) = &mut self.lines[at] else {
            if what < 300 {
                // indices wrap within a few hundred steps
                let start = 0u32.wrapping_sub(self.random.below(200) as u32);
                self.lines[at] = Some(open(&mut self.umem, start));
            }
            self.settle(what);
            return;
        };
        match what {
            0..150 => _ = line.rings.refill(&mut self.umem),
            150..300 => line.kernel.take_stock(&mut self.random),
            300..450 => line.kernel.receive(&mut self.random),
            450..600 => {
                let max = self.random.below(9);
                line.rings.receive(&mut self.umem, &mut self.hands, max);
            }
            600..750 => self.put(at),
            750..850 => line.kernel.send(&mut self.random),
            850..950 => _ = line.rings.reclaim(&mut self.umem),
            950..960 if lying => {
                let Some(spare) = self.umem.take() else { return };
                line.kernel.lie(&mut self.random, u64::from(spare.number));
                self.umem.give(spare);
                self.lies += 1;
            }
            960..964 => self.lose(at),
            _ => self.settle(what),
        }
    }

    /// What was received, or a fresh frame, leaves; grown, shrunk, or not at all.
    fn put(&mut self, at: usize) {
        let Some(line) = &mut self.lines[at] else { return };
        if self.random.below(4) == 0 {
            self.hands.extend(self.umem.take());
        }
        while let Some(mut frame) = self.hands.pop() {
            if self.random.below(4) == 0 {
                self.umem.give(frame);
                continue;
            }
            let by = self.random.below(400) as i32 - 250;
            if frame.move_start(by).is_none() || frame.size() < 14 {
                // beyond the frame, or a fresh one
                let _ = frame.set_size(60);
            }
            if let Err(frame) = line.rings.transmit(&mut self.umem, frame) {
                self.hands.push(frame);
                break;
            }
        }
        if self.hands.len() > 40 {
            self.hands.drain(..20).for_each(|frame| self.umem.give(frame));
        }
        line.rings.publish();
    }

    fn lose(&mut self, at: usize) {
        let Some(line) = self.lines[at].take() else { return };
        self.strays += line.rings.counts.strays;
        let Line { member, kernel, .. } = line;
        self.losses += 1;
        // a kernel that lies names frames that there are not
        kernel.each(|number| {
            self.lost.get_mut(number as usize).into_iter().for_each(|lost| *lost = true);
        });
        drop(member);
    }

    fn settle(&mut self, what: usize) {
        self.now += Duration::from_millis(what as u64);
        self.umem.settle(self.now);
        if self.umem.census().stranded == 0 && self.unsettled() == 0 {
            self.lost.fill(false);
        }
    }

    /// Frames that the ledger says are with a queue that is no more.
    fn unsettled(&self) -> u32 {
        let census = self.umem.census();
        let lines: u32 = self.lines.iter().flatten().map(|line| line.kernel.count()).sum();
        (census.filled + census.sent).saturating_sub(lines)
    }

    /// Every frame is in exactly one place: hands, free list, a kernel's side, a lost queue's.
    fn check(&self, step: u32) {
        let census = self.umem.census();
        assert_eq!(census.total(), FRAMES, "step {step}: {census:?}");
        assert_eq!(census.free as usize, self.umem.free(), "step {step}: {census:?}");
        assert_eq!(census.held as usize, self.hands.len(), "step {step}: {census:?}");
        let mut seen = [0u8; FRAMES as usize];
        let mut mark = |number: u64| seen[number as usize] += 1;
        self.umem.free_numbers().iter().for_each(|number| mark(u64::from(*number)));
        self.hands.iter().for_each(|frame| mark(u64::from(frame.number)));
        self.lines.iter().flatten().for_each(|line| line.kernel.each(&mut mark));
        let at_queues = seen.iter().map(|times| u32::from(*times)).sum::<u32>();
        assert!(seen.iter().all(|times| *times <= 1), "step {step}: a frame is in two places");
        let missing = FRAMES - at_queues;
        let lost = census.stranded + self.unsettled();
        assert_eq!(missing, lost, "step {step}: {census:?}");
        let nowhere = seen.iter().zip(&self.lost).position(|(times, lost)| *times == 0 && !lost);
        assert_eq!(nowhere, None, "step {step}: a frame is nowhere");
    }
}

#[test]
fn every_frame_is_in_exactly_one_place_whatever_the_kernel_does() {
    let mut world = World::new(0x5eed_0a5c);
    let (mut received, mut completed) = (0, 0);
    for step in 0..STEPS {
        world.step(false);
        world.check(step);
        if step % 1000 == 0 {
            let counts = world.lines.iter().flatten().map(|line| line.rings.counts);
            let counts: Vec<_> = counts.collect();
            received += counts.iter().map(|counts| counts.received).sum::<u64>();
            completed += counts.iter().map(|counts| counts.completed).sum::<u64>();
        }
        assert!(world.lines.iter().flatten().all(|line| line.rings.is_sound()));
    }
    assert_eq!(world.strays, 0);
    let losses = world.losses;
    assert!(received > 1000 && completed > 1000 && losses > 50, "{received} {completed} {losses}");
}

#[test]
fn a_kernel_that_names_frames_it_has_not_is_not_believed() {
    let mut world = World::new(0x5eed_11e5);
    for _ in 0..STEPS {
        world.step(true);
        let census = world.umem.census();
        assert_eq!(census.total(), FRAMES);
        assert_eq!(census.held as usize, world.hands.len());
        assert_eq!(census.free as usize, world.umem.free());
    }
    assert!(world.lies > 100 && world.strays > 100, "{} {}", world.lies, world.strays);
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
