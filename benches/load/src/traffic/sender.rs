//! One thread that sends some flows by a schedule.
//!
//! Flows take turns; datagrams that are due together and leave by one socket leave in one call. When
//! a socket is full the thread waits: what is due stays due, and its lateness shows. Streams do not
//! make the others wait: a datagram that a full stream does not take is not sent, and counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;

use super::{Shared, Slots};
use crate::framing::{FRAMING_MAX, Framing};
use crate::latency;
use crate::link::{Link, is_passing};
use crate::mix::Mix;
use crate::schedule::Schedule;
use crate::stamp::{Filler, Stamp};
use crate::sys::{self, Name, SendBatch, monotonic};

/// Most datagrams of one call.
const BATCH: usize = 64;
/// Shortest sleep: several datagrams may come due in it at high rates.
const SLEEP_MIN: u64 = 20_000;
/// How long the ends of messages on full streams are waited for.
const FLUSH_MAX: u64 = 500_000_000;
/// Longest sleep, so that a stop is seen.
const SLEEP_MAX: u64 = 20_000_000;

/// How one flow leaves.
#[derive(Clone)]
pub struct Egress {
    /// The flow.
    pub flow: u32,
    /// The socket's number.
    pub socket: usize,
    /// Where to, on an unconnected socket.
    pub to: Option<Name>,
    /// How its payloads are wrapped.
    pub framing: Framing,
}

impl Egress {
    /// A flow that leaves from another host.
    pub fn elsewhere(flow: u32) -> Egress {
        Egress { flow, socket: usize::MAX, to: None, framing: Framing::Bare }
    }
}

/// A sender thread's work.
pub struct Sender<'a> {
    /// Its flows, in the order of their turns; not empty.
    pub flows: &'a [Egress],
    /// All sockets, by number.
    pub links: &'a [Arc<Link>],
    /// The measurement.
    pub tag: u8,
    /// Payload lengths.
    pub mix: &'a Mix,
    /// Payload bytes.
    pub filler: &'a Filler,
    /// When what is due.
    pub schedule: Schedule,
    /// Parts of the run.
    pub slots: Slots,
    /// This host's clock less the one that stamps are to show, in nanoseconds.
    pub clock_offset: i64,
    /// Wait by spinning, not by sleeping.
    pub spin: bool,
    /// Send trains of datagrams as one (UDP_SEGMENT).
    pub offload: bool,
    /// What all threads share.
    pub shared: &'a Shared,
}

/// What a sender did.
pub struct Sent {
    /// Datagrams that were due.
    pub offered: u64,
    /// Datagrams handed to the kernel, by flow, in the order of the sender's flows.
    pub by_flow: Vec<u32>,
    /// The same by part of the run.
    pub by_slot: Vec<u64>,
    /// Datagrams that a full stream did not take.
    pub blocked: u64,
    /// Datagrams that the kernel refused for another reason.
    pub refused: u64,
    /// The last such reason.
    pub refusal: Option<String>,
    /// From being due to being handed to the kernel, in nanoseconds.
    pub lateness: Histogram<u64>,
    /// When it ended.
    pub ended: u64,
}

impl Sent {
    /// Datagrams handed to the kernel.
    pub fn sent(&self) -> u64 {
        self.by_flow.iter().map(|sent| u64::from(*sent)).sum()
    }
}

/// A datagram in the batch.
#[derive(Clone, Copy)]
struct Waiting {
    /// Index into the sender's flows.
    at: usize,
    due: u64,
}

struct Work<'a, 'b> {
    sender: &'b Sender<'a>,
    batch: SendBatch,
    waiting: Vec<Waiting>,
    /// The next number of each flow.
    next: Vec<u32>,
    sent: Sent,
}

impl Sender<'_> {
    /// Sends until the schedule's end or a stop.
    pub fn run(self) -> Sent {
        sys::precise_timers();
        let slots = self.slots.count;
        let mut work = Work {
            batch: SendBatch::new(BATCH, self.mix.longest() + FRAMING_MAX),
            waiting: Vec::with_capacity(BATCH),
            next: vec![0; self.flows.len()],
            sent: Sent {
                offered: 0,
                by_flow: vec![0; self.flows.len()],
                by_slot: vec![0; slots],
                blocked: 0,
                refused: 0,
                refusal: None,
                lateness: latency::histogram(),
                ended: 0,
            },
            sender: &self,
        };
        sys::sleep_until(self.schedule.start.saturating_sub(SLEEP_MIN));
        let mut k = 0;
        loop {
            let now = monotonic();
            if self.schedule.is_over(k, now) || self.shared.stop_sending.load(Ordering::Relaxed) {
                return work.end(self.schedule.due(now), now);
            }
            let due = match self.schedule.due(now) {
                _ if now < self.schedule.start => 0,
                Some(due) => due.min(k + 16 * BATCH as u64),
                None => k + BATCH as u64,
            };
            while k < due {
                work.push((k % self.flows.len() as u64) as usize, self.schedule.due_at(k, now), k);
                k += 1;
            }
            work.flush();
            self.wait(k, now);
        }
    }

    fn wait(&self, k: u64, now: u64) {
        let next = self.schedule.due_at(k, now);
        if next <= now || self.schedule.rate.is_none() || self.schedule.is_over(k, now) {
            return;
        }
        if self.spin && next - now < SLEEP_MAX {
            std::hint::spin_loop();
            return;
        }
        let at = next.max(now + SLEEP_MIN).min(now + SLEEP_MAX);
        sys::sleep_until(at);
    }
}

impl Work<'_, '_> {
    /// Adds number `k`, of flow `at`, to the batch, which is sent first if this one leaves by
    /// another socket.
    fn push(&mut self, at: usize, due: u64, k: u64) {
        let flow = &self.sender.flows[at];
        let other = self
            .waiting
            .first()
            .is_some_and(|first| self.sender.flows[first.at].socket != flow.socket);
        if other || self.batch.is_full() {
            self.flush();
        }
        let Sender { tag, mix, filler, clock_offset, .. } = *self.sender;
        let scheduled = due.saturating_add_signed(-clock_offset);
        let stamp = Stamp { tag, flow: flow.flow, sequence: self.next[at], scheduled };
        self.next[at] += 1;
        let len = mix.len_of(k);
        self.batch.push(|out| flow.framing.wrap(len, out, |payload| filler.write(stamp, payload)));
        self.waiting.push(Waiting { at, due });
    }

    /// Sends the batch: all of it, or as much as there is time for.
    fn flush(&mut self) {
        let Some(first) = self.waiting.first() else { return };
        let flows = self.sender.flows;
        let link = &self.sender.links[flows[first.at].socket];
        match &**link {
            Link::Udp(socket) => {
                let mut done = 0;
                let mut retried = false;
                while done < self.batch.len() {
                    let waiting = &self.waiting;
                    let name = |at: usize| flows[waiting[at].at].to.as_ref();
                    match self.batch.send(socket, done, name, self.sender.offload) {
                        Ok(sent) => {
                            self.count(done, done + sent);
                            (done, retried) = (done + sent, false);
                        }
                        Err(error) if is_passing(&error) => {
                            if !self.may_wait() {
                                break;
                            }
                            sys::wait_writable(socket, 1);
                        }
                        // An ICMP error of an earlier datagram fails the next call, once.
                        Err(error) if !retried => {
                            self.sender.shared.note_error(&error);
                            retried = true;
                        }
                        Err(error) => {
                            self.refuse(&error);
                            (done, retried) = (done + 1, false);
                        }
                    }
                }
                self.take_back(done);
            }
            Link::Stream(stream) => {
                let messages = (0..self.batch.len()).map(|at| self.batch.datagram(at));
                let taken = stream.send(messages).unwrap_or_else(|error| {
                    self.sent.refusal = Some(error.to_string());
                    0
                });
                self.count(0, taken);
                self.sent.blocked += (self.batch.len() - taken) as u64;
            }
        }
        self.batch.clear();
        self.waiting.clear();
    }

    /// What was begun is sent to its end.
    fn finish_streams(&self, until: u64) {
        let links = self.sender.flows.iter().map(|flow| &self.sender.links[flow.socket]);
        let streams = links.filter_map(|link| match &**link {
            Link::Stream(stream) => Some(stream),
            Link::Udp(_) => None,
        });
        for stream in streams {
            while matches!(stream.flush(), Ok(false)) && monotonic() < until {
                sys::wait_writable(&**stream, 1);
            }
        }
    }

    fn may_wait(&self) -> bool {
        let stop = self.sender.shared.stop_sending.load(Ordering::Relaxed);
        !stop && !self.sender.schedule.is_over(0, monotonic())
    }

    fn refuse(&mut self, error: &io::Error) {
        self.sent.refused += 1;
        self.sent.refusal = Some(error.to_string());
    }

    /// The datagrams from `from` on were not sent: their numbers are free again.
    fn take_back(&mut self, from: usize) {
        for waiting in &self.waiting[from..] {
            self.next[waiting.at] -= 1;
        }
    }

    fn count(&mut self, from: usize, to: usize) {
        let now = monotonic();
        for Waiting { at, due } in &self.waiting[from..to] {
            self.sent.by_flow[*at] += 1;
            self.sent.by_slot[self.sender.slots.of(*due)] += 1;
            self.sent.lateness.saturating_record(now.saturating_sub(*due));
        }
        self.sender.shared.sent.fetch_add((to - from) as u64, Ordering::Relaxed);
    }

    /// Without a rate, what was offered is what went.
    fn end(mut self, due: Option<u64>, now: u64) -> Sent {
        self.sent.offered = due.unwrap_or(self.sent.sent() + self.sent.refused);
        self.sent.ended = now;
        self.finish_streams(now + FLUSH_MAX);
        self.sent
    }
}
