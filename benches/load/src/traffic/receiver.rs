//! One thread that receives on some sockets and judges what comes.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use hdrhistogram::Histogram;
use turn::message::{ChannelData, Message, is_channel_data};

use super::{Shared, Slots};
use crate::framing::FRAMING_MAX;
use crate::latency::{self, small_histogram};
use crate::link::Link;
use crate::plan::Direction;
use crate::sink::MAGIC;
use crate::stamp::{Filler, Judgement, Stamp};
use crate::sys::{Poller, ReceiveBatch, monotonic};
use crate::tracker::{Arrival, Arrivals, Tracker};

const BATCH: usize = 64;
/// Batches of one socket before the others have their turn.
const BATCHES_MAX: usize = 4;
/// How often recent latencies are handed over, in nanoseconds.
const HAND_OVER: u64 = 200_000_000;
/// The longest train that UDP_GRO makes.
const TRAIN_LEN: usize = 65_536;
/// The longest message on a stream.
const MESSAGE_MAX: usize = 20 + 65_535;
/// First two bytes of a Data indication.
const DATA_INDICATION: [u8; 2] = [0x00, 0x17];

/// Where a flow is to arrive.
#[derive(Clone, Copy, Debug)]
pub struct Ingress {
    /// The socket's number.
    pub socket: usize,
    /// The channel that carries it there; `None` at a peer, or in a Data indication.
    pub channel: Option<u16>,
    /// Its direction.
    pub direction: Direction,
}

/// A receiver thread's work.
pub struct Receiver<'a> {
    /// Its sockets, by number.
    pub sockets: Vec<usize>,
    /// All sockets, by number.
    pub links: &'a [Arc<Link>],
    /// How many of these, from the first on, are clients of the server.
    pub clients: usize,
    /// Where each flow is to arrive.
    pub flows: &'a [Ingress],
    /// The direction that ends at each socket.
    pub endings: &'a [Direction],
    /// The measurement.
    pub tag: u8,
    /// The longest payload.
    pub payload_max: usize,
    /// Payload bytes.
    pub filler: &'a Filler,
    /// Parts of the run.
    pub slots: Slots,
    /// Numbers of a flow among which duplicates are told.
    pub window: usize,
    /// Digits of each flow's own latency histogram; `None`: no such histograms.
    pub flow_digits: Option<u8>,
    /// Receive trains of datagrams as one (UDP_GRO).
    pub offload: bool,
    /// Messages that are not data, for the clients.
    pub control: mpsc::Sender<(usize, Vec<u8>)>,
    /// What all threads share.
    pub shared: &'a Shared,
}

/// What arrived of one flow.
pub struct FlowArrivals {
    tracker: Tracker,
    /// Latencies, where they are kept.
    pub latency: Option<Histogram<u32>>,
}

impl FlowArrivals {
    /// Counted elsewhere.
    pub fn of(arrivals: Arrivals) -> FlowArrivals {
        FlowArrivals { tracker: Tracker::of(arrivals), latency: None }
    }

    /// The counts.
    pub fn arrivals(&self) -> Arrivals {
        self.tracker.arrivals()
    }
}

/// What a receiver saw.
pub struct Received {
    /// By flow number; `None` where nothing arrived here.
    pub flows: Vec<Option<Box<FlowArrivals>>>,
    /// Datagrams that could be read but not attributed, by direction: corrupted.
    pub unreadable: [u64; 2],
    /// Intact datagrams at another socket or channel than theirs, by direction of the flow.
    pub misrouted: [u64; 2],
    /// Datagrams of an earlier measurement.
    pub stray: u64,
    /// Latencies by direction, in nanoseconds.
    pub latency: [Histogram<u64>; 2],
    /// Datagrams by the part of the run in which they were due.
    pub by_slot: Vec<u64>,
    /// Latencies by part of the run, in nanoseconds.
    pub latency_by_slot: Vec<Histogram<u32>>,
}

impl Received {
    /// Nothing yet.
    pub fn new(flows: usize, slots: usize) -> Received {
        Received {
            flows: std::iter::repeat_with(|| None).take(flows).collect(),
            unreadable: [0; 2],
            misrouted: [0; 2],
            stray: 0,
            latency: [latency::histogram(), latency::histogram()],
            by_slot: vec![0; slots],
            latency_by_slot: vec![small_histogram(2); slots],
        }
    }
}

/// What its links are read into, and what it has seen.
struct Work<'a, 'b> {
    receiver: &'b Receiver<'a>,
    seen: Received,
    recent: Histogram<u64>,
    /// Received since the shared counter was told.
    untold: u64,
    /// A message of a stream.
    message: Vec<u8>,
}

impl Receiver<'_> {
    /// Receives until told to stop.
    ///
    /// # Errors
    /// epoll refuses a socket.
    pub fn run(self) -> io::Result<Received> {
        let mut poller = Poller::new()?;
        for socket in &self.sockets {
            poller.add(&*self.links[*socket], *socket)?;
        }
        let mut work = Work {
            seen: Received::new(self.flows.len(), self.slots.count),
            recent: latency::histogram(),
            untold: 0,
            message: Vec::new(),
            receiver: &self,
        };
        let stride = match self.offload {
            true => TRAIN_LEN,
            false => self.payload_max.max(1_500) + FRAMING_MAX,
        };
        let mut batch = ReceiveBatch::new(if self.offload { 16 } else { BATCH }, stride);
        let mut next_hand_over = monotonic() + HAND_OVER;
        loop {
            let last = self.shared.stop_receiving.load(Ordering::Relaxed);
            let ready = poller.wait(if last { 0 } else { 10 });
            for at in 0..ready {
                let socket = poller.ready(at);
                if !work.read(socket, &mut batch) {
                    poller.remove(&*self.links[socket]);
                    self.shared.closed.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.shared.received.fetch_add(std::mem::take(&mut work.untold), Ordering::Relaxed);
            let now = monotonic();
            if now >= next_hand_over || last {
                work.hand_over();
                next_hand_over = now + HAND_OVER;
            }
            if last {
                return Ok(work.seen);
            }
        }
    }
}

impl Work<'_, '_> {
    /// Reads a socket; whether there may ever be more.
    fn read(&mut self, socket: usize, batch: &mut ReceiveBatch) -> bool {
        match &*self.receiver.links[socket] {
            Link::Udp(udp) => {
                for _ in 0..BATCHES_MAX {
                    let count = match batch.receive(udp) {
                        Ok(count) => count,
                        // An ICMP error is an error of something sent: the next call goes on.
                        Err(error) => {
                            self.receiver.shared.note_error(&error);
                            return true;
                        }
                    };
                    let now = monotonic();
                    for at in 0..count {
                        for bytes in batch.datagrams(at) {
                            self.take(socket, bytes, now);
                        }
                    }
                    if !batch.is_full() {
                        break;
                    }
                }
                true
            }
            Link::Stream(stream) => {
                let mut message = std::mem::take(&mut self.message);
                message.resize(MESSAGE_MAX, 0);
                let mut alive = true;
                for _ in 0..BATCH * BATCHES_MAX {
                    match stream.receive(&mut message) {
                        Ok(Some(len)) => self.take(socket, &message[..len], monotonic()),
                        Ok(None) => break,
                        Err(_) => {
                            alive = false;
                            break;
                        }
                    }
                }
                self.message = message;
                alive
            }
        }
    }

    /// One message at a socket.
    fn take(&mut self, socket: usize, bytes: &[u8], now: u64) {
        if socket >= self.receiver.clients {
            return self.judge(socket, None, bytes, now);
        }
        if is_channel_data(bytes) {
            return match ChannelData::parse(bytes) {
                Some(ChannelData { channel, data }) => {
                    self.judge(socket, Some(channel.number()), data, now);
                }
                None => self.unreadable(socket),
            };
        }
        if bytes.starts_with(&DATA_INDICATION) {
            let message = Message::parse(bytes).ok();
            return match message.as_ref().and_then(Message::data) {
                Some(data) => self.judge(socket, None, data, now),
                // ICMP, which the engine knows how to ignore
                None => self.control(socket, bytes),
            };
        }
        self.control(socket, bytes);
    }

    fn control(&self, socket: usize, bytes: &[u8]) {
        // The other end only goes away when the measurement is over.
        let _ = self.receiver.control.send((socket, bytes.to_vec()));
    }

    /// A datagram that is not anybody's: the direction is the one that ends at this socket.
    fn unreadable(&mut self, socket: usize) {
        self.untold += 1;
        self.seen.unreadable[self.receiver.endings[socket] as usize] += 1;
    }

    fn judge(&mut self, socket: usize, channel: Option<u16>, payload: &[u8], now: u64) {
        let (stamp, intact) = match self.receiver.filler.judge(payload) {
            Judgement::Intact(stamp) => (stamp, true),
            Judgement::Damaged(stamp) => (stamp, false),
            // a sink's answer that comes late
            Judgement::Unreadable if payload.starts_with(MAGIC) => return,
            Judgement::Unreadable => return self.unreadable(socket),
        };
        if stamp.tag != self.receiver.tag {
            self.seen.stray += 1;
            return;
        }
        let Some(ingress) = self.receiver.flows.get(stamp.flow as usize).copied() else {
            return self.unreadable(socket);
        };
        self.untold += 1;
        if ingress.socket != socket || ingress.channel != channel {
            self.seen.misrouted[ingress.direction as usize] += 1;
            return;
        }
        self.count(stamp, ingress, intact, now);
    }

    fn count(&mut self, stamp: Stamp, ingress: Ingress, intact: bool, now: u64) {
        let (window, digits) = (self.receiver.window, self.receiver.flow_digits);
        let flow = self.seen.flows[stamp.flow as usize].get_or_insert_with(|| {
            let latency = digits.map(small_histogram);
            Box::new(FlowArrivals { tracker: Tracker::new(window), latency })
        });
        let slot = self.receiver.slots.of(stamp.scheduled);
        if !intact {
            let before = flow.tracker.arrivals().corrupted;
            flow.tracker.damaged(stamp.sequence);
            self.seen.by_slot[slot] += flow.tracker.arrivals().corrupted - before;
            return;
        }
        if flow.tracker.intact(stamp.sequence) == Arrival::Duplicate {
            return;
        }
        let latency = now.saturating_sub(stamp.scheduled);
        if let Some(own) = &mut flow.latency {
            own.saturating_record(latency);
        }
        self.seen.by_slot[slot] += 1;
        self.seen.latency_by_slot[slot].saturating_record(latency);
        self.seen.latency[ingress.direction as usize].saturating_record(latency);
        self.recent.saturating_record(latency);
    }

    fn hand_over(&mut self) {
        let mut recent =
            self.receiver.shared.recent.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The ranges are equal, so adding cannot fail.
        let _ = recent.add(&self.recent);
        self.recent.reset();
    }
}
