//! Sending by AF_XDP: frames in memory that is shared with the kernel.
//!
//! ```text
//!  chunks     [ 0 | 1 | 2 | ... | CHUNKS )        each CHUNK bytes
//!
//!  free ──write──> transmit ring ──kernel, device──> completion ring ──> free
//! ```
//!
//! A chunk is in exactly one of these places. Nothing is received here: that is the XDP sink's.

mod ring;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, bail};

use crate::run::Place;
use crate::scheme::{Flow, Scheme};
use crate::traffic::{FLOW_SENT, FLOW_WORDS, Traffic, word};
use crate::{abi, frame, sys};
use ring::Rings;

/// Bytes of a chunk: a frame fits.
const CHUNK: usize = 2048;
/// Chunks, and entries of each ring.
const CHUNKS: usize = 2048;
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
    copying: Copying,
    rings: Rings,
    free: Vec<u64>,
    spin: bool,
}

impl Sender {
    /// Opens it in the calling thread's network namespace, without copies where the driver can.
    ///
    /// # Errors
    /// EPERM: it needs CAP_NET_RAW and CAP_NET_ADMIN. EINVAL: there is no such queue. EBUSY:
    /// somebody else has an AF_XDP socket there.
    pub fn open(interface: u32, queue: u32) -> io::Result<Sender> {
        let open = |zero_copy| Rings::open(interface, queue, zero_copy, CHUNKS, CHUNK);
        let (rings, copying) = match open(true) {
            Ok(rings) => (rings, Copying::Zero),
            Err(_) => (open(false)?, Copying::Copy),
        };
        let free = (0..CHUNKS as u64).map(|chunk| chunk * CHUNK as u64).collect();
        Ok(Sender { interface, copying, rings, free, spin: false })
    }

    /// Whether whoever sends by it waits for what is due by spinning, which is more precise and takes
    /// a core.
    pub fn set_spin(&mut self, spin: bool) {
        self.spin = spin;
    }

    /// How frames get to the device.
    pub fn copying(&self) -> Copying {
        self.copying
    }

    /// A frame to be written by `write`, which gives its length; false when all chunks are under
    /// way.
    fn push(&mut self, write: impl FnOnce(&mut [u8]) -> usize) -> bool {
        if self.free.is_empty() {
            self.reclaim();
        }
        let Some(chunk) = self.free.pop() else { return false };
        let len = write(self.rings.chunk(chunk, CHUNK));
        // There are as many entries as chunks, so there is room.
        self.rings.transmit(chunk, len as u32);
        true
    }

    /// Has the kernel send what was pushed, and takes back what it has sent.
    fn flush(&mut self) -> io::Result<()> {
        self.rings.kick()?;
        self.reclaim();
        Ok(())
    }

    fn reclaim(&mut self) {
        self.rings.completed(&mut self.free);
    }

    fn is_idle(&self) -> bool {
        self.free.len() == CHUNKS
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
    fn run(&mut self, senders: &mut [Sender], stop: &AtomicBool) -> io::Result<()> {
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
