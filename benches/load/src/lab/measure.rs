//! One measurement: threads that send and receive, while this one keeps the allocations alive.

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Result, anyhow};

use super::keep::Keeper;
use super::remote::SINK_LEAD;
use super::{Field, Lab, SECOND, merge};
use crate::control::{ControlError, Engine, Kind, Why};
use crate::cpu;
use crate::latency::Latency;
use crate::progress::{Live, Progress};
use crate::report::{DeviceResult, RunResult};
use crate::schedule::Schedule;
use crate::sys::{self, drops_of, interrupted, monotonic};
use crate::traffic::{Egress, Received, Receiver, Sender, Sent, Shared, Slots};
use crate::xdp::Xdp;

/// From the start of the threads to the first datagram.
const LEAD: u64 = 30_000_000;
/// The same where the kernel makes frames ready first.
const XDP_LEAD: u64 = 100_000_000;
/// No datagram for so long means that no more are under way, even on a machine that stutters.
const QUIET: u64 = 500_000_000;
/// Parts of a run.
const SLOTS: u64 = 60;
/// The shortest part.
const SLOT_MIN: u64 = 100_000_000;
/// A server whose host says so often that nobody listens there is gone.
const UNREACHABLE_MAX: u64 = 10;
/// Above so many flows they have no latency of their own.
const FLOW_LATENCIES_MAX: usize = 4_096;

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Datagrams a second, all flows together; `None`: as many as go.
    pub rate: Option<f64>,
    /// For how long.
    pub duration: Duration,
}

/// What came of it.
pub struct Measurement {
    /// The result, whatever happened.
    pub result: RunResult,
    /// Ctrl-C.
    pub interrupted: bool,
    /// A request that failed meanwhile and ended it.
    pub failure: Option<ControlError>,
}

/// What the threads brought.
pub(super) struct Raw {
    pub(super) slots: Slots,
    /// By sender: its flows and what it did.
    pub(super) sent: Vec<(Vec<Egress>, Sent)>,
    pub(super) received: Vec<Received>,
    pub(super) dropped_here: u64,
    /// The server's process and its CPU seconds.
    pub(super) server_secs: Option<(u32, f64)>,
    pub(super) own_secs: f64,
    /// By how much the other end's clock may be misjudged, in nanoseconds; `None`: it is ours.
    pub(super) clock_error: Option<u64>,
    /// The interfaces of a generator that has no sockets.
    pub(super) devices: Vec<DeviceResult>,
}

impl Lab {
    /// Measures once.
    ///
    /// # Errors
    /// A thread could not do its work on this host.
    pub fn measure(&mut self, load: Load, progress: &mut Progress) -> Result<Measurement> {
        let tag = self.next_tag();
        let clocks = if self.has_sink() { Some(self.announce(tag)?) } else { None };
        let len = load.duration.as_nanos() as u64;
        let lead = match (&clocks, &self.xdp) {
            (Some(_), _) => SINK_LEAD.as_nanos() as u64,
            (None, Some(_)) => XDP_LEAD,
            (None, None) => LEAD,
        };
        let slots = slots(lead, len);
        if let Some(xdp) = &self.xdp {
            xdp.prepare(tag, &load, slots)?;
        }
        if let Some(clocks) = clocks {
            self.go(tag, &load, slots, clocks)?;
        }
        let raw = self.threads(tag, &load, slots, progress);
        progress.clear();
        let (mut raw, failure) = raw?;
        if clocks.is_some() {
            let from_sink = self.collect(tag)?;
            raw.received.push(from_sink.received);
            raw.sent.extend(from_sink.sent);
            raw.dropped_here += from_sink.dropped_here;
        }
        raw.clock_error = clocks.map(|clocks| clocks.error);
        if let Some(xdp) = &self.xdp {
            let whole = !interrupted() && failure.is_none();
            raw.sent.push((self.field.egress.clone(), xdp.sent(slots, whole)));
            raw.received.push(xdp.received(slots)?);
            raw.devices = xdp.devices();
        }
        let mut result = merge::merge(&self.field, &load, &raw);
        let counts = result.totals;
        let came = counts.received + counts.corrupted + counts.misrouted;
        if let Some(words) = self.xdp.as_ref().and_then(|xdp| xdp.silence(came)) {
            result.generator.shortfall = Some(words);
        }
        Ok(Measurement { result, interrupted: interrupted(), failure })
    }

    /// Sends and receives, from the first thread's start to the last one's end.
    fn threads(
        &mut self,
        tag: u8,
        load: &Load,
        slots: Slots,
        progress: &mut Progress,
    ) -> Result<(Raw, Option<ControlError>)> {
        let elsewhere = self.has_sink();
        let Lab { field, engine, keeper, server_pid, xdp, .. } = self;
        let xdp = xdp.as_ref();
        let field = &*field;
        let parts = if xdp.is_some() { Vec::new() } else { field.parts() };
        let (drops, before) = (field.drops(), cpu_secs(*server_pid));
        let shared = Shared::default();
        let (start, len) = (slots.start, load.duration.as_nanos() as u64);
        let (control, inbox) = mpsc::channel();
        let (sent, received, failure) = thread::scope(|scope| -> Result<_> {
            let receivers = (0..field.options.receivers).map(|at| {
                let receiver = field.receiver(at, tag, slots, &shared, control.clone());
                scope.spawn(move || {
                    field.pin(field.options.senders + at);
                    receiver.run()
                })
            });
            let receivers: Vec<_> = receivers.collect();
            let senders = parts.iter().enumerate().map(|(at, flows)| {
                let share = flows.len() as f64 / field.flows.len() as f64;
                let rate = load.rate.map(|rate| rate * share);
                let schedule = Schedule { start, end: start + len, rate };
                let sender = field.sender(flows, tag, schedule, slots, &shared);
                scope.spawn(move || {
                    field.pin(at);
                    sender.run()
                })
            });
            let senders: Vec<_> = senders.collect();
            let stop = &shared.stop_sending;
            let generator = xdp.map(|xdp| scope.spawn(move || xdp.send(stop)));
            let mut watch = Watch {
                engine,
                keeper,
                inbox,
                shared: &shared,
                xdp,
                end: start + len,
                last: (start, [0; 2]),
                failure: None,
            };
            watch.until(progress, |now| {
                // A sink's threads are not to be seen from here: their time is.
                let over = !elsewhere || now >= start + len;
                over && senders.iter().all(ScopedJoinHandle::is_finished)
                    && generator.as_ref().is_none_or(ScopedJoinHandle::is_finished)
            });
            let sent = senders.into_iter().map(join).collect::<Result<Vec<Sent>>>();
            let generated = generator.map_or(Ok(()), |generator| join(generator)?);
            watch.drain(field.options.drain, elsewhere);
            shared.stop_receiving.store(true, Ordering::Relaxed);
            let received = receivers.into_iter().map(|thread| Ok(join(thread)??));
            generated?;
            Ok((sent?, received.collect::<Result<Vec<Received>>>()?, watch.failure))
        })?;
        let after = cpu_secs(*server_pid);
        let raw = Raw {
            slots,
            sent: parts.into_iter().zip(sent).collect(),
            received,
            dropped_here: field.drops().saturating_sub(drops),
            server_secs: server_pid.zip(after[0].zip(before[0]).map(|(a, b)| a - b)),
            own_secs: after[1].zip(before[1]).map_or(0.0, |(a, b)| a - b),
            clock_error: None,
            devices: Vec::new(),
        };
        Ok((raw, failure))
    }
}

/// Equal parts of a run that is about to begin.
fn slots(lead: u64, len: u64) -> Slots {
    let slot = (len / SLOTS).max(SLOT_MIN).min(len.max(1));
    let count = (len.div_ceil(slot) as usize).max(1);
    Slots { start: monotonic() + lead, len: slot, count }
}

impl Field {
    /// Each sender's flows: those of a socket stay together.
    fn parts(&self) -> Vec<Vec<Egress>> {
        let senders = self.options.senders;
        let part = |at: usize| {
            let own = self.egress.iter().filter(|egress| egress.socket % senders == at);
            own.cloned().collect::<Vec<_>>()
        };
        (0..senders).map(part).filter(|part| !part.is_empty()).collect()
    }

    fn sender<'a>(
        &'a self,
        flows: &'a [Egress],
        tag: u8,
        schedule: Schedule,
        slots: Slots,
        shared: &'a Shared,
    ) -> Sender<'a> {
        Sender {
            flows,
            links: &self.links,
            tag,
            mix: &self.options.mix,
            filler: &self.filler,
            schedule,
            slots,
            clock_offset: 0,
            spin: self.options.spin,
            offload: self.options.offload,
            shared,
        }
    }

    fn receiver<'a>(
        &'a self,
        at: usize,
        tag: u8,
        slots: Slots,
        shared: &'a Shared,
        control: mpsc::Sender<(usize, Vec<u8>)>,
    ) -> Receiver<'a> {
        let flows = self.flows.len();
        let sockets = (0..self.links.len()).filter(|socket| socket % self.options.receivers == at);
        Receiver {
            sockets: sockets.collect(),
            links: &self.links,
            clients: self.options.shape.allocations,
            flows: &self.ingress,
            endings: &self.endings,
            tag,
            payload_max: self.options.mix.longest(),
            filler: &self.filler,
            slots,
            window: if flows <= FLOW_LATENCIES_MAX { 4_096 } else { 512 },
            flow_digits: match flows {
                0..=64 => Some(3),
                65..=512 => Some(2),
                513..=FLOW_LATENCIES_MAX => Some(1),
                _ => None,
            },
            offload: self.options.offload,
            control,
            shared,
        }
    }

    /// Binds this thread to its core, if it was given one.
    fn pin(&self, thread: usize) {
        if let Some(core) = self.options.cores.get(thread) {
            // The command line was checked against the cores of this process.
            let _ = sys::pin(*core);
        }
    }

    /// Datagrams that our own sockets had no room for.
    fn drops(&self) -> u64 {
        self.links.iter().map(|link| drops_of(&**link)).sum()
    }
}

/// The main thread's part of a measurement.
struct Watch<'a> {
    engine: &'a mut Engine,
    keeper: &'a mut Keeper,
    inbox: mpsc::Receiver<(usize, Vec<u8>)>,
    shared: &'a Shared,
    xdp: Option<&'a Xdp>,
    end: u64,
    /// When progress was told, and the counts then.
    last: (u64, [u64; 2]),
    failure: Option<ControlError>,
}

impl Watch<'_> {
    /// Keeps the allocations alive and tells how it goes, until the senders are done.
    fn until(&mut self, progress: &mut Progress, done: impl Fn(u64) -> bool) {
        while !done(monotonic()) {
            self.work(Duration::from_millis(20));
            self.look();
            let stopped = self.shared.stop_sending.load(Ordering::Relaxed);
            if stopped {
                return;
            }
            if interrupted() || self.failure.is_some() {
                self.shared.stop_sending.store(true, Ordering::Relaxed);
            }
            if self.shared.unreachable.load(Ordering::Relaxed) >= UNREACHABLE_MAX {
                let gone = Why::Unreachable("nothing listens there any more".to_owned());
                self.failure.get_or_insert(self.engine.error(0, Kind::Refresh, gone));
            }
            if self.shared.closed.load(Ordering::Relaxed) > 0 {
                self.failure.get_or_insert(self.engine.error(0, Kind::Refresh, Why::Closed));
            }
            let now = monotonic();
            if now > self.last.0 + SECOND / 4 && progress.is_due() {
                progress.live(&self.live(now));
            }
        }
    }

    /// Control messages, retransmissions and refreshes, for so long.
    fn work(&mut self, time: Duration) {
        let until = monotonic() + time.as_nanos() as u64;
        loop {
            let now = monotonic();
            let left = Duration::from_nanos(until.saturating_sub(now));
            if let Ok((session, bytes)) = self.inbox.recv_timeout(left) {
                self.engine.input(session, &bytes, now);
            }
            self.engine.tick(now);
            self.keeper.tick(self.engine, now);
            while let Some(outcome) = self.engine.poll() {
                self.failure = self.failure.take().or(outcome.result.err());
            }
            if now >= until {
                return;
            }
        }
    }

    /// Has a generator past the sockets tell its counts.
    fn look(&self) {
        if let Some(xdp) = self.xdp {
            xdp.tell(self.shared);
        }
    }

    fn live(&mut self, now: u64) -> Live {
        if let Some(xdp) = self.xdp {
            xdp.tell_latency(self.shared);
        }
        let (sent, received) = self.shared.counts();
        let secs = now.saturating_sub(self.last.0) as f64 / SECOND as f64;
        let [sent_before, received_before] = self.last.1;
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / secs.max(0.001);
        self.last = (now, [sent, received]);
        Live {
            rates: [rate(sent, sent_before), rate(received, received_before)],
            counts: [sent, received],
            latency: Latency::of(&self.shared.take_recent()),
            left: self.end.saturating_sub(now) as f64 / SECOND as f64,
        }
    }

    /// Waits for what is still under way; of what is sent elsewhere nobody here knows how much.
    fn drain(&mut self, most: Duration, elsewhere: bool) {
        let end = monotonic() + most.as_nanos() as u64;
        let (mut last, mut since) = (self.shared.counts().1, monotonic());
        loop {
            self.work(Duration::from_millis(10));
            self.look();
            let (now, (sent, received)) = (monotonic(), self.shared.counts());
            if received != last {
                (last, since) = (received, now);
            }
            // Duplicates may still come when everything has: a little quiet in any case.
            let all = received >= sent && !elsewhere;
            let quiet = if all { QUIET / 10 } else { QUIET };
            if now >= end || now - since >= quiet {
                return;
            }
        }
    }
}

/// The server's CPU seconds, and our own.
fn cpu_secs(server: Option<u32>) -> [Option<f64>; 2] {
    [server.and_then(cpu::process_secs), cpu::process_secs(std::process::id())]
}

fn join<T>(thread: ScopedJoinHandle<'_, T>) -> Result<T> {
    thread.join().map_err(|_| anyhow!("a thread of the generator panicked"))
}
