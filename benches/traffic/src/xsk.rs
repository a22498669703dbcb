//! Sending by AF_XDP, with the data plane's rings. Nothing is received here: that is the XDP sink's.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, bail};
use dataplane::link::xsk::{Error, FrameSize, Options, Queue, Umem};

use crate::net::Interface;
use crate::run::Place;
use crate::scheme::{Flow, Scheme};
use crate::traffic::{FLOW_SENT, FLOW_WORDS, Traffic, word};
use crate::{abi, frame, sys};

/// Entries of each ring, and so most frames that are under way.
const ENTRIES: u32 = 2048;
/// Most frames that are written between two looks at the clock.
const BATCH: usize = 64;
/// Shortest sleep, in nanoseconds.
const SLEEP_MIN: u64 = 20_000;
/// Longest sleep, so that a stop is seen.
const SLEEP_MAX: u64 = 20_000_000;

/// Whether the device reads the frames where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copying {
    /// It does.
    Zero,
    /// The kernel copies each into a packet of its own.
    Copy,
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Copying::Zero { "zero copy" } else { "copy" })
    }
}

/// A socket that sends by one queue of one interface.
pub struct Sender {
    interface: u32,
    // the queue before the memory that it uses
    queue: Queue,
    umem: Umem,
    spin: bool,
}

impl Sender {
    /// Opens it in the calling thread's network namespace, without copies where the driver can.
    ///
    /// # Errors
    /// It needs CAP_NET_RAW and CAP_NET_ADMIN; there is no such queue; somebody else has an AF_XDP
    /// socket there.
    pub fn open(interface: &Interface, queue: u32) -> Result<Sender, Error> {
        // as many to receive into, which the kernel takes at once
        let mut umem = Umem::new(2 * ENTRIES, FrameSize::Bytes2048)?;
        let options = Options { entries: ENTRIES, ..Options::default() };
        let queue = Queue::open(&interface.name, queue, &mut umem, &options)?;
        Ok(Sender { interface: interface.index, queue, umem, spin: false })
    }

    /// Whether whoever sends by it waits for what is due by spinning, which is more precise and takes
    /// a core.
    pub fn set_spin(&mut self, spin: bool) {
        self.spin = spin;
    }

    /// How frames get to the device.
    pub fn copying(&self) -> Copying {
        if self.queue.mode().zero_copy { Copying::Zero } else { Copying::Copy }
    }

    /// A frame to be written by `write`, which gives its length; false when all frames are under
    /// way.
    fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        let Sender { queue, umem, .. } = self;
        if umem.free() == 0 {
            queue.reclaim(umem);
        }
        let Some(mut frame) = umem.take() else { return false };
        frame.set_size(FrameSize::Bytes2048.packet_max()).expect("as long as a frame can be");
        let len = write(umem.bytes_mut(&mut frame));
        frame.set_size(len).expect("shorter");
        queue.transmit(umem, frame).map_err(|frame| umem.give(frame)).is_ok()
    }

    /// Has the kernel send what was pushed, and takes back what it has sent.
    fn flush(&mut self) -> Result<(), Error> {
        self.queue.flush()?;
        self.queue.reclaim(&mut self.umem);
        Ok(())
    }

    fn is_idle(&self) -> bool {
        let counts = self.queue.counts();
        counts.completed == counts.transmitted
    }
}

/// What one run sends, and how far it is.
struct Work<'a> {
    traffic: &'a Traffic,
    templates: Vec<abi::Template>,
    flows: Vec<Flow>,
    numbers: Vec<u32>,
    start: u64,
    end: u64,
    interval: u64,
    tag: u8,
    sent: u64,
}

impl Traffic {
    /// Sends the prepared run by AF_XDP, from this thread, in place of [`Traffic::generate`]; for
    /// each interface of a path there must be a sender. What is due stays due until it is sent, so
    /// a stall shows as lateness; nothing is skipped.
    ///
    /// # Errors
    /// The kernel refuses to send.
    pub fn transmit(
        &self,
        flows: &[Flow],
        senders: &mut [Sender],
        place: Place,
        stop: &AtomicBool,
    ) -> Result<()> {
        place.take()?;
        let Scheme { paths, .. } = &self.scheme;
        for path in paths {
            if !senders.iter().any(|sender| sender.interface == path.interface) {
                bail!("there is no AF_XDP socket for interface {}", path.interface);
            }
        }
        let mut work = Work {
            traffic: self,
            templates: paths.iter().map(|path| path.template()).collect(),
            numbers: vec![0; flows.len()],
            flows: flows.to_vec(),
            start: self.word(word::START),
            end: self.word(word::END),
            interval: self.word(word::INTERVAL),
            tag: self.word(word::TAG) as u8,
            sent: 0,
        };
        let sent = work.run(senders, stop);
        for (flow, number) in self.maps.flows.chunks(FLOW_WORDS).zip(&work.numbers) {
            flow[FLOW_SENT].store(u64::from(*number), Relaxed);
        }
        sent.context("sending by AF_XDP")
    }
}

impl Work<'_> {
    fn run(&mut self, senders: &mut [Sender], stop: &AtomicBool) -> Result<(), Error> {
        let mut now = sys::monotonic();
        while !stop.load(Relaxed) && !self.traffic.is_over() {
            let next = self.start + (self.traffic.word(word::NEXT) >> abi::FRACTION);
            let nothing = now < self.start || (self.interval > 0 && next > now);
            if nothing || next >= self.end {
                senders.iter_mut().try_for_each(Sender::flush)?;
                let left = next.max(self.start).saturating_sub(now);
                if senders.iter().any(|sender| sender.spin) {
                    std::hint::spin_loop();
                } else {
                    let until = left.clamp(SLEEP_MIN, SLEEP_MAX);
                    std::thread::sleep(std::time::Duration::from_nanos(until));
                }
            } else {
                self.batch(senders, now);
                senders.iter_mut().try_for_each(Sender::flush)?;
            }
            now = sys::monotonic();
        }
        // What the rings still hold belongs to this run.
        for _ in 0..1_000 {
            if senders.iter().all(Sender::is_idle) {
                break;
            }
            senders.iter_mut().try_for_each(Sender::flush)?;
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        Ok(())
    }

    /// What is due at `now`, up to a batch of it.
    fn batch(&mut self, senders: &mut [Sender], now: u64) {
        for _ in 0..BATCH {
            let next = self.traffic.word(word::NEXT);
            let due = if self.interval == 0 { now } else { self.start + (next >> abi::FRACTION) };
            if due > now || due >= self.end || !self.one(senders, due) {
                return;
            }
            self.traffic.set(word::NEXT, next + self.interval);
            self.traffic.set(word::NOW, now);
            self.note(due, now);
        }
    }

    fn one(&mut self, senders: &mut [Sender], due: u64) -> bool {
        let scheme = &self.traffic.scheme;
        let size = scheme.payloads[(self.sent % scheme.payloads.len() as u64) as usize];
        let at = (self.sent % self.flows.len() as u64) as usize;
        let flow = self.flows[at];
        let interface = scheme.paths[flow.path].interface;
        let sender = senders.iter_mut().find(|sender| sender.interface == interface);
        let stamp = abi::stamp(self.tag, at as u32, self.numbers[at], due);
        let template = &self.templates[flow.path];
        let pushed = sender.is_some_and(|sender| {
            sender.push(|out| frame::write(template, flow.out, size, stamp, out))
        });
        if pushed {
            self.numbers[at] += 1;
            self.sent += 1;
            let way = word::SENT + usize::from(flow.to_client);
            self.traffic.set(way, self.traffic.word(way) + 1);
        }
        pushed
    }

    fn note(&self, due: u64, now: u64) {
        let maps = &self.traffic.maps;
        let len = self.traffic.word(word::SLOT).max(1);
        let slot = ((due - self.start) / len).min(abi::SLOTS as u64 - 1) as usize;
        maps.sent[slot].fetch_add(1, Relaxed);
        maps.lateness[abi::bucket(now - due, abi::COARSE)].fetch_add(1, Relaxed);
    }
}
