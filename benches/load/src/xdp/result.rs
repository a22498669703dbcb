//! What generator and sink counted, as the socket generator's threads would have told it.

use hdrhistogram::Histogram;

use super::{Xdp, lock, minus};
use crate::latency;
use crate::report::DeviceResult;
use crate::tracker::Arrivals;
use crate::traffic::{FlowArrivals, Received, Sent, Slots};

/// Counts of nanoseconds, put into a histogram.
fn fill<C: hdrhistogram::Counter>(histogram: &mut Histogram<C>, counts: &[(u64, u64)]) {
    for (nanoseconds, count) in counts {
        let most = || C::from_u32(u32::MAX);
        let count = C::from_u64(*count).or_else(most).unwrap_or_else(C::zero);
        histogram.saturating_record_n((*nanoseconds).max(1), count);
    }
}

impl Xdp {
    /// What was sent. `whole`: nobody ended the run early.
    pub(crate) fn sent(&self, slots: Slots, whole: bool) -> Sent {
        let sent = self.traffic.sent();
        let packets: u64 = sent.packets.iter().sum();
        let mut lateness = latency::histogram();
        fill(&mut lateness, &self.traffic.lateness());
        let tried = packets + sent.skipped;
        let total = self.total.load(std::sync::atomic::Ordering::Relaxed);
        let by_flow = (0..self.ways.len()).map(|flow| self.traffic.sent_of(flow) as u32);
        let mut by_slot = self.traffic.sent_by_slot();
        by_slot.truncate(slots.count);
        Sent {
            // Of an unpaced run, and of one that was ended early, only that much was due.
            offered: if whole && total > 0 { total } else { tried },
            by_flow: by_flow.collect(),
            by_slot,
            blocked: 0,
            refused: 0,
            refusal: None,
            lateness,
            ended: slots.start + sent.time.as_nanos() as u64,
        }
    }

    /// What the sink received.
    ///
    /// # Errors
    /// The kernel refuses to tell.
    pub(crate) fn received(&self, slots: Slots) -> anyhow::Result<Received> {
        let seen = minus(self.traffic.seen()?, *lock(&self.before));
        let mut received = Received::new(self.ways.len(), slots.count);
        for (at, slot) in received.flows.iter_mut().enumerate() {
            let traffic::Arrivals { received, reordered, duplicated, damaged } =
                self.traffic.arrivals_of(at);
            let arrivals = Arrivals { received, reordered, duplicated, corrupted: damaged };
            if arrivals != Arrivals::default() {
                *slot = Some(Box::new(FlowArrivals::of(arrivals)));
            }
        }
        received.unreadable = seen.unreadable;
        received.misrouted = seen.misrouted;
        received.stray = seen.stray;
        for (histogram, to_client) in received.latency.iter_mut().zip([false, true]) {
            fill(histogram, &self.traffic.latency(to_client));
        }
        received.by_slot = self.traffic.received_by_slot();
        received.by_slot.truncate(slots.count);
        for (slot, histogram) in received.latency_by_slot.iter_mut().enumerate() {
            fill(histogram, &self.traffic.latency_of_slot(slot));
        }
        Ok(received)
    }

    /// The interfaces, with their own counters since the run began.
    pub(crate) fn devices(&self) -> Vec<DeviceResult> {
        self.devices.iter().map(super::Device::result).collect()
    }

    /// Words about a run of which nothing came back at all, if this was one.
    pub(crate) fn silence(&self, received: u64) -> Option<String> {
        let sent: u64 = self.traffic.sent().packets.iter().sum();
        let out: u64 = self.devices().iter().map(|device| device.tx_packets).sum();
        if sent < 100 || received > 0 {
            return None;
        }
        Some(if out < sent / 2 {
            format!(
                "the interface sent {out} of {sent} frames: its driver may not take redirected \
                 frames (--generator af-xdp), or this is a veth whose other end has neither an XDP \
                 program nor GRO on (ethtool -K DEV gro on, there)"
            )
        } else {
            format!("of {sent} frames that left, none came back")
        })
    }
}
