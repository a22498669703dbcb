//! A made-up kernel on the other side of the rings, which does everything that the real one may, in any
//! order, and after each step every frame is in exactly one place.
//!
//! ```text
//!   ours: free list, hands, ledger │ fill ring │ the device's stock │ rx ring          │
//!                                  │ tx ring   │ being sent         │ completion ring  │ frames of a
//!                                                                                      │ lost queue
//! ```
//!
//! For tests: random events in this crate's, bytes of a fuzzer in tests/fuzz. The rings and the memory are
//! the shipped ones; there is no socket, and no device.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::mapping::{Area, Entry, Mapping, Offsets};
use super::ring::{Consumer, Producer, Shared};
use super::rings::{Counts, HEADERS, Rings};
use super::umem::{Member, Umem};
use super::{Frame, FrameSize, START, STRANDED};

/// Draws a number below the one given.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

const QUEUES: usize = 3;
pub(super) const ENTRIES: u32 = 16;
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
pub(super) struct Kernel {
    fill: Consumer<Area<u64>>,
    completion: Producer<Area<u64>>,
    rx: Producer<Area<libc::xdp_desc>>,
    tx: Consumer<Area<libc::xdp_desc>>,
    stock: Vec<u64>,
    sending: Vec<u64>,
    /// Looks at what lies in the rings.
    pub(super) peeks: (Area<u64>, Area<u64>, Area<libc::xdp_desc>, Area<libc::xdp_desc>),
}

pub(super) struct Line {
    pub(super) rings: Rings,
    member: Arc<Member>,
    pub(super) kernel: Kernel,
}

/// The simulated interface goes up: a queue as [`Queue::open`] makes it, without the socket.
pub(super) fn open(umem: &mut Umem, start: u32) -> Line {
    let member = Arc::new(Member { socket: None });
    let tag = umem.seat(&member).expect("a seat");
    let (fill, kernel_fill, fill_peek) = ring::<u64>(start);
    let (kernel_completion, completion, completion_peek) = ring::<u64>(start);
    let (kernel_rx, rx, rx_peek) = ring::<libc::xdp_desc>(start);
    let (tx, kernel_tx, tx_peek) = ring::<libc::xdp_desc>(start);
    let (umem, filled_max) = (umem.id(), ENTRIES);
    let counts = Counts::default();
    let (filled, ahead) = (0, HEADERS);
    let rings = Rings { fill, completion, rx, tx, tag, umem, filled, filled_max, ahead, counts };
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
    fn take_stock(&mut self, choose: Choose<'_>) {
        for _ in 0..choose(8) {
            self.stock.extend(self.fill.take());
        }
        self.fill.release();
    }

    /// Packets come in. A few are dropped and their frames used again, as a full rx ring does.
    fn receive(&mut self, choose: Choose<'_>) {
        for _ in 0..choose(8) {
            if self.stock.is_empty() || self.rx.room(1) == 0 {
                break;
            }
            let at = choose(self.stock.len());
            let address = self.stock.swap_remove(at);
            let addr = address / 2048 * 2048 + START as u64;
            let len = 14 + choose(1500) as u32;
            assert!(self.rx.put(libc::xdp_desc { addr, len, options: 0 }));
        }
        self.rx.publish();
    }

    /// Takes from the tx ring; completes out of order, later.
    fn send(&mut self, choose: Choose<'_>) {
        for _ in 0..choose(8) {
            let Some(entry) = self.tx.take() else { break };
            assert!(entry.addr % 2048 + u64::from(entry.len) <= 2048 && entry.len >= 14);
            self.sending.push(entry.addr);
        }
        self.tx.release();
        for _ in 0..choose(8) {
            if self.sending.is_empty() || self.completion.room(1) == 0 {
                break;
            }
            let at = choose(self.sending.len());
            assert!(self.completion.put(self.sending.swap_remove(at)));
        }
        self.completion.publish();
    }

    /// Says what no kernel may: a frame that is somebody else's, or none.
    fn lie(&mut self, choose: Choose<'_>, free: u64) {
        let address = match choose(4) {
            0 => u64::MAX - choose(10_000) as u64,
            1 => u64::from(FRAMES) * 2048 + choose(1 << 30) as u64,
            2 => choose(FRAMES as usize) as u64 * 2048,
            _ => free * 2048,
        };
        if choose(2) == 0 {
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

/// The memory, its queues, the kernel behind them.
pub struct Simulation {
    umem: Umem,
    lines: Vec<Option<Line>>,
    hands: Vec<Frame>,
    now: Duration,
    /// Frames that were with queues that are lost.
    lost: [bool; FRAMES as usize],
    /// Of lost queues, and of all what is nobody's.
    told: Told,
}

impl Simulation {
    /// All frames are free, and no queue is open.
    ///
    /// # Panics
    /// There is no memory.
    pub fn begin() -> Simulation {
        Simulation {
            umem: Umem::new(FRAMES, FrameSize::Bytes2048).expect("memory"),
            lines: (0..QUEUES).map(|_| None).collect(),
            hands: Vec::with_capacity(64),
            now: Duration::from_secs(1),
            lost: [false; FRAMES as usize],
            told: Told::default(),
        }
    }

    /// One event at one of the queues.
    ///
    /// # Panics
    /// What a ring shows the kernel is not what a kernel takes.
    pub fn step(&mut self, lying: bool, choose: Choose<'_>) {
        let at = choose(QUEUES);
        let what = choose(1000);
        let Some(line) = &mut self.lines[at] else {
            if what < 300 {
                // indices wrap within a few hundred steps
                let start = 0u32.wrapping_sub(choose(200) as u32);
                self.lines[at] = Some(open(&mut self.umem, start));
            }
            self.settle(what);
            return;
        };
        match what {
            0..150 => _ = line.rings.refill(&mut self.umem),
            150..300 => line.kernel.take_stock(choose),
            300..450 => line.kernel.receive(choose),
            450..600 => {
                let max = choose(9);
                line.rings.receive(&mut self.umem, &mut self.hands, max);
            }
            600..750 => self.put(at, choose),
            750..850 => line.kernel.send(choose),
            850..950 => _ = line.rings.reclaim(&mut self.umem),
            950..960 if lying => {
                let Some(spare) = self.umem.take() else { return };
                line.kernel.lie(choose, u64::from(spare.number));
                self.umem.give(spare);
                self.told.lies += 1;
            }
            960..964 => self.lose(at),
            _ => self.settle(what),
        }
    }

    /// What was received, or a fresh frame, leaves; grown, shrunk, or not at all.
    fn put(&mut self, at: usize, choose: Choose<'_>) {
        let Some(line) = &mut self.lines[at] else { return };
        if choose(4) == 0 {
            self.hands.extend(self.umem.take());
        }
        while let Some(mut frame) = self.hands.pop() {
            if choose(4) == 0 {
                self.umem.give(frame);
                continue;
            }
            let by = choose(400) as i32 - 250;
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
        let Line { member, kernel, rings } = line;
        self.told = self.told.with(rings.counts);
        self.told.losses += 1;
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

    /// What went through so far.
    pub fn told(&self) -> Told {
        let counts = self.lines.iter().flatten().map(|line| line.rings.counts);
        counts.fold(self.told, |told, counts| told.with(counts))
    }

    /// Every frame is in exactly one place: hands, free list, a kernel's side, a lost queue's. Of a
    /// kernel that lies only our own side is known: there no frame is twice.
    ///
    /// # Panics
    /// It is not so.
    pub fn check(&self, lying: bool) {
        let census = self.umem.census();
        assert_eq!(census.total(), FRAMES, "{census:?}");
        assert_eq!(census.free as usize, self.umem.free(), "{census:?}");
        assert_eq!(census.held as usize, self.hands.len(), "{census:?}");
        let mut seen = [0u8; FRAMES as usize];
        let mut mark = |number: u64| seen[number as usize] += 1;
        self.umem.free_numbers().iter().for_each(|number| mark(u64::from(*number)));
        self.hands.iter().for_each(|frame| mark(u64::from(frame.number)));
        if !lying {
            self.lines.iter().flatten().for_each(|line| line.kernel.each(&mut mark));
        }
        assert!(seen.iter().all(|times| *times <= 1), "a frame is in two places: {census:?}");
        if lying {
            return;
        }
        assert!(self.lines.iter().flatten().all(|line| line.rings.is_sound()));
        assert_eq!(self.told().strays, 0, "it told the truth");
        let missing = seen.iter().filter(|times| **times == 0).count();
        let lost = census.stranded + self.unsettled();
        assert_eq!(missing, lost as usize, "{census:?}");
        let nowhere = seen.iter().zip(&self.lost).position(|(times, lost)| *times == 0 && !lost);
        assert_eq!(nowhere, None, "a frame is nowhere: {census:?}");
    }

    /// All queues are lost, and a second later every frame is free again.
    ///
    /// # Panics
    /// It is not so.
    pub fn end(mut self) {
        (0..QUEUES).for_each(|at| self.lose(at));
        self.hands.drain(..).for_each(|frame| self.umem.give(frame));
        for _ in 0..2 {
            self.umem.settle(self.now);
            self.now += STRANDED;
        }
        let census = self.umem.census();
        assert_eq!((census.free, self.umem.free()), (FRAMES, FRAMES as usize), "{census:?}");
    }
}

/// What went through a simulation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Frames with packets.
    pub received: u64,
    /// Frames that were sent, and came back.
    pub completed: u64,
    /// Names of frames that were not believed.
    pub strays: u64,
    /// Queues that went away.
    pub losses: u64,
    /// Lies of the kernel's.
    pub lies: u64,
}

impl Told {
    fn with(self, counts: Counts) -> Told {
        Told {
            received: self.received + counts.received,
            completed: self.completed + counts.completed,
            strays: self.strays + counts.strays,
            ..self
        }
    }
}
