//! One worker, or one session thread, in one interval.

use serde::Serialize;

use super::super::rates::{Interval, ratio};
use super::{Flow, Reason};
use crate::admin::metrics::BATCH_SIZES;

/// Batches of one class of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Batches {
    /// Datagrams.
    pub size: &'static str,
    /// Of all batches, 1 being all.
    pub share: f64,
}

/// A ring of datagrams between a worker and the control thread, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ring {
    /// Waiting now.
    pub waiting_bytes: f64,
    /// The most since the start.
    pub peak_bytes: f64,
    /// Its size.
    pub size_bytes: f64,
}

/// What came by AF_XDP.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Frames {
    /// Queues now.
    pub queues: f64,
    /// Of those, without copies.
    pub zero_copy: f64,
    /// Frames on the free list.
    pub free: f64,
    /// Frames with the worker.
    pub held: f64,
    /// Frames with queues to receive into.
    pub receiving: f64,
    /// Frames with queues to send.
    pub sending: f64,
    /// Frames that wait until a lost queue has surely let go of them.
    pub set_aside: f64,
    /// Batches received.
    pub batches_per_sec: f64,
    /// Frames of a batch.
    pub batch_mean: Option<f64>,
    /// Batches by their size, the smallest first; none where there was none.
    pub batches: Vec<Batches>,
    /// Forwarded as they lay.
    pub forwarded_per_sec: f64,
    /// Handed on as datagrams.
    pub datagrams_per_sec: f64,
    /// Dropped.
    pub refused_per_sec: f64,
    /// Of those, for want of room in a ring to send by.
    pub tx_full_per_sec: f64,
    /// Dropped by the kernel: the worker was behind.
    pub rx_ring_full_per_sec: f64,
    /// Dropped by the kernel: no frame to receive into, or too long for one.
    pub rx_dropped_per_sec: f64,
    /// Times that the kernel had nothing to receive into.
    pub fill_ring_empty_per_sec: f64,
    /// System calls to wake the kernel.
    pub wakeups_per_sec: f64,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Worker {
    /// Its number.
    pub worker: String,
    /// Its thread's name.
    pub thread: String,
    /// `socket` or `session`.
    pub tier: String,
    /// The core that it is pinned to, if any.
    pub core: Option<String>,
    /// Somebody lets it run elsewhere than on that core.
    pub strayed: bool,
    /// Cores in use: at most 1.
    pub cpu: f64,
    /// Cores that it waited for.
    pub waiting: f64,
    /// From clients.
    pub to_peer: Flow,
    /// From peers.
    pub to_client: Flow,
    /// Datagrams in.
    pub in_per_sec: f64,
    /// Datagrams out.
    pub out_per_sec: f64,
    /// Datagrams handed to the control thread.
    pub to_control_per_sec: f64,
    /// Datagrams not forwarded.
    pub refused_per_sec: f64,
    /// The same by reason.
    pub refused: Vec<Reason>,
    /// Times that it slept.
    pub wakeups_per_sec: f64,
    /// Batches received.
    pub batches_per_sec: f64,
    /// Datagrams of a batch; not known of a session thread, which counts messages in streams too.
    pub batch_mean: Option<f64>,
    /// Batches by size; empty where there were none.
    pub batches: Vec<Batches>,
    /// Datagrams of a message that came in.
    pub gathered_in: Option<f64>,
    /// Datagrams of a message that went out.
    pub gathered_out: Option<f64>,
    /// To the control thread.
    pub ring_to_control: Ring,
    /// From the control thread.
    pub ring_to_worker: Ring,
    /// Datagrams lost in full receive buffers.
    pub socket_overflows_per_sec: f64,
    /// Its clients come by lanes.
    pub spread: bool,
    /// Relay ports.
    pub relay_ports: f64,
    /// AF_XDP, where it is on.
    pub frames: Option<Frames>,
}

impl Worker {
    /// All of them, by number.
    pub(super) fn all(interval: &Interval<'_>) -> Vec<Worker> {
        let all = interval.now().all("turnwire_worker_info", &[]);
        let mut workers: Vec<Worker> = all
            .map(|(series, _)| {
                let [worker, thread, tier, core] =
                    ["worker", "thread", "tier", "core"].map(|label| series.label(label));
                one(interval, worker, (thread, tier, core))
            })
            .collect();
        workers.sort_by_key(|worker| worker.worker.parse().unwrap_or(u64::MAX));
        workers
    }
}

fn one(interval: &Interval<'_>, worker: &str, (thread, tier, core): (&str, &str, &str)) -> Worker {
    let rate = |name: &str| interval.rate(name, &[("worker", worker)]);
    let rate_of = |name: &str, label: &str, value: &str| {
        interval.rate(name, &[("worker", worker), (label, value)])
    };
    let flow = |direction| Flow {
        packets_per_sec: rate_of("turnwire_worker_forwarded_packets_total", "direction", direction),
        bytes_per_sec: rate_of("turnwire_worker_forwarded_bytes_total", "direction", direction),
    };
    let thread_rate = |name| interval.rate(name, &[("thread", thread)]);
    let [inward, outward] =
        ["in", "out"].map(|way| rate_of("turnwire_worker_packets_total", "way", way));
    let [messages_in, messages_out] =
        ["in", "out"].map(|way| rate_of("turnwire_worker_messages_total", "way", way));
    let batches_per_sec = rate("turnwire_worker_batches_total");
    // messages of streams are among a session thread's datagrams
    let only_sockets = |value: Option<f64>| value.filter(|_| tier != "session");
    let refused =
        interval.rates_by("turnwire_worker_refused_packets_total", &[("worker", worker)], "reason");
    Worker {
        worker: worker.to_owned(),
        thread: thread.to_owned(),
        tier: tier.to_owned(),
        core: (!core.is_empty()).then(|| core.to_owned()),
        strayed: interval.gauge("turnwire_worker_strayed", &[("worker", worker)]) > 0.0,
        cpu: thread_rate("turnwire_thread_cpu_seconds_total"),
        waiting: thread_rate("turnwire_thread_waiting_seconds_total"),
        to_peer: flow("to_peer"),
        to_client: flow("to_client"),
        in_per_sec: inward,
        out_per_sec: outward,
        to_control_per_sec: rate("turnwire_worker_control_packets_total"),
        refused_per_sec: rate("turnwire_worker_refused_packets_total"),
        refused: refused.into_iter().map(|(reason, per_sec)| Reason { reason, per_sec }).collect(),
        wakeups_per_sec: rate("turnwire_worker_wakeups_total"),
        batches_per_sec,
        batch_mean: only_sockets(ratio(inward, batches_per_sec)),
        batches: batches(interval, "turnwire_worker_batches_total", worker, batches_per_sec),
        gathered_in: only_sockets(ratio(inward, messages_in)),
        gathered_out: only_sockets(ratio(outward, messages_out)),
        ring_to_control: ring(interval, worker, "to_control"),
        ring_to_worker: ring(interval, worker, "to_worker"),
        socket_overflows_per_sec: rate("turnwire_worker_socket_overflows_total"),
        spread: interval.gauge("turnwire_worker_spread", &[("worker", worker)]) > 0.0,
        relay_ports: interval.gauge("turnwire_worker_relay_ports", &[("worker", worker)]),
        frames: frames(interval, worker),
    }
}

fn frames(interval: &Interval<'_>, worker: &str) -> Option<Frames> {
    interval.now().all("turnwire_af_xdp_queues", &[("worker", worker)]).next()?;
    let rate = |name| interval.rate(name, &[("worker", worker)]);
    let way =
        |way| interval.rate("turnwire_af_xdp_frames_total", &[("worker", worker), ("way", way)]);
    let queues =
        |mode| interval.gauge("turnwire_af_xdp_queues", &[("worker", worker), ("mode", mode)]);
    let place = |place| {
        interval.gauge("turnwire_af_xdp_memory_frames", &[("worker", worker), ("place", place)])
    };
    let batches_per_sec = rate("turnwire_af_xdp_batches_total");
    let all = rate("turnwire_af_xdp_frames_total");
    Some(Frames {
        batches_per_sec,
        batch_mean: ratio(all, batches_per_sec),
        batches: batches(interval, "turnwire_af_xdp_batches_total", worker, batches_per_sec),
        queues: queues("copy") + queues("zero_copy"),
        zero_copy: queues("zero_copy"),
        free: place("free"),
        held: place("held"),
        receiving: place("receiving"),
        sending: place("sending"),
        set_aside: place("set_aside"),
        forwarded_per_sec: way("forwarded"),
        datagrams_per_sec: way("datagram"),
        refused_per_sec: way("refused"),
        tx_full_per_sec: rate("turnwire_af_xdp_tx_full_total"),
        rx_ring_full_per_sec: rate("turnwire_af_xdp_rx_ring_full_total"),
        rx_dropped_per_sec: rate("turnwire_af_xdp_rx_dropped_total"),
        fill_ring_empty_per_sec: rate("turnwire_af_xdp_fill_ring_empty_total"),
        wakeups_per_sec: rate("turnwire_af_xdp_wakeups_total"),
    })
}

fn batches(interval: &Interval<'_>, name: &'static str, worker: &str, all: f64) -> Vec<Batches> {
    let share = |size: &'static str| {
        let labels = [("worker", worker), ("size", size)];
        let share = ratio(interval.rate(name, &labels), all)?;
        Some(Batches { size, share })
    };
    BATCH_SIZES.into_iter().filter_map(share).collect()
}

fn ring(interval: &Interval<'_>, worker: &str, ring: &str) -> Ring {
    let gauge = |name| interval.gauge(name, &[("worker", worker), ("ring", ring)]);
    Ring {
        waiting_bytes: gauge("turnwire_worker_ring_waiting_bytes"),
        peak_bytes: gauge("turnwire_worker_ring_peak_bytes"),
        size_bytes: gauge("turnwire_worker_ring_size_bytes"),
    }
}
