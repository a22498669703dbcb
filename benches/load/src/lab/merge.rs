//! From what the threads counted to a result.

use hdrhistogram::Histogram;

use super::measure::{Load, Raw};
use super::{Field, SECOND};
use crate::latency::{self, Latency, small_histogram};
use crate::plan::{Direction, channel_number};
use crate::report::{
    Counts, DirectionResult, FlowResult, Generator, RunResult, ServerCpu, Slot, count, kept_up,
    percent,
};
use crate::tracker::Arrivals;

/// Most flows that a result lists.
const FLOWS_LISTED: usize = 4_096;
/// Of more flows, the worst so many.
const FLOWS_WORST: usize = 100;
/// A relay that delivers all but this is not blamed when the generator falls short.
const RELAY_WELL: f64 = 0.001;
/// One flow, counted at both ends.
#[derive(Clone, Copy, Default)]
struct Tally {
    offered: u64,
    sent: u64,
    arrivals: Arrivals,
}

impl Tally {
    fn counts(self) -> Counts {
        let Tally { offered, sent, arrivals } = self;
        let lost = sent.saturating_sub(arrivals.received + arrivals.corrupted);
        with_ratio(Counts {
            offered,
            sent,
            received: arrivals.received,
            lost,
            loss_ratio: 0.0,
            reordered: arrivals.reordered,
            duplicated: arrivals.duplicated,
            corrupted: arrivals.corrupted,
            misrouted: 0,
        })
    }
}

fn with_ratio(counts: Counts) -> Counts {
    let loss_ratio = counts.lost as f64 / counts.sent.max(1) as f64;
    Counts { loss_ratio, ..counts }
}

fn sum(one: Counts, two: Counts) -> Counts {
    with_ratio(Counts {
        offered: one.offered + two.offered,
        sent: one.sent + two.sent,
        received: one.received + two.received,
        lost: one.lost + two.lost,
        loss_ratio: 0.0,
        reordered: one.reordered + two.reordered,
        duplicated: one.duplicated + two.duplicated,
        corrupted: one.corrupted + two.corrupted,
        misrouted: one.misrouted + two.misrouted,
    })
}

/// The result of a measurement.
pub(super) fn merge(field: &Field, load: &Load, raw: &Raw) -> RunResult {
    let tallies = tallies(field, raw);
    let directions: Vec<DirectionResult> = Direction::ALL
        .into_iter()
        .filter(|direction| field.flows.iter().any(|flow| flow.direction == *direction))
        .map(|direction| direction_result(field, raw, &tallies, direction))
        .collect();
    let totals = directions.iter().map(|one| one.counts).reduce(sum).unwrap_or_default();
    let mut latency = latency::histogram();
    for received in &raw.received {
        // The ranges of all these histograms are equal, so adding cannot fail.
        let _ = latency.add(&received.latency[0]);
        let _ = latency.add(&received.latency[1]);
    }
    let ended = raw.sent.iter().map(|(_, sent)| sent.ended).max().unwrap_or(raw.slots.start);
    let secs = (ended.saturating_sub(raw.slots.start) as f64 / SECOND as f64).max(1e-9);
    let received_pps = totals.received as f64 / secs;
    RunResult {
        asked_pps: load.rate,
        secs,
        sent_pps: totals.sent as f64 / secs,
        received_pps,
        received_bps: received_pps * field.options.mix.mean() * 8.0,
        totals,
        stray: raw.received.iter().map(|received| received.stray).sum(),
        latency: Latency::of(&latency),
        latency_histogram: latency::encode(&latency),
        clock: match raw.clock_error {
            None => "same host".to_owned(),
            Some(error) => format!("estimated, within {:.0} us", error as f64 / 1e3),
        },
        directions,
        generator: generator(load, raw, totals, secs),
        server_cpu: raw.server_secs.map(|(pid, secs)| ServerCpu {
            pid,
            secs,
            secs_per_million: (totals.received > 0).then(|| secs * 1e6 / totals.received as f64),
        }),
        slots: slots(raw),
        flows_total: field.flows.len(),
        flows: flows(field, raw, &tallies),
    }
}

fn tallies(field: &Field, raw: &Raw) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); field.flows.len()];
    for (egress, sent) in &raw.sent {
        let turns = egress.len() as u64;
        for (at, (flow, sent_of_flow)) in egress.iter().zip(&sent.by_flow).enumerate() {
            let tally = &mut tallies[flow.flow as usize];
            // Flows take turns, so number k is of flow k mod turns.
            tally.offered = (sent.offered + turns - 1 - at as u64) / turns;
            tally.sent = u64::from(*sent_of_flow);
        }
    }
    for received in &raw.received {
        for (tally, flow) in tallies.iter_mut().zip(&received.flows) {
            if let Some(flow) = flow {
                tally.arrivals += flow.arrivals();
            }
        }
    }
    tallies
}

fn direction_result(
    field: &Field,
    raw: &Raw,
    tallies: &[Tally],
    direction: Direction,
) -> DirectionResult {
    let own = field.flows.iter().zip(tallies).filter(|(flow, _)| flow.direction == direction);
    let mut counts = own.map(|(_, tally)| tally.counts()).reduce(sum).unwrap_or_default();
    let at = direction as usize;
    let mut latency = latency::histogram();
    for received in &raw.received {
        // What arrived but cannot be attributed is not lost: it is corrupted, or misrouted.
        counts.corrupted += received.unreadable[at];
        counts.misrouted += received.misrouted[at];
        let found = received.unreadable[at] + received.misrouted[at];
        counts.lost = counts.lost.saturating_sub(found);
        let _ = latency.add(&received.latency[at]);
    }
    DirectionResult {
        direction,
        counts: with_ratio(counts),
        latency: Latency::of(&latency),
        latency_histogram: latency::encode(&latency),
    }
}

fn generator(load: &Load, raw: &Raw, totals: Counts, secs: f64) -> Generator {
    let mut lateness = latency::histogram();
    for (_, sent) in &raw.sent {
        let _ = lateness.add(&sent.lateness);
    }
    let blocked: u64 = raw.sent.iter().map(|(_, sent)| sent.blocked).sum();
    let short = !kept_up(load.rate, totals.sent + blocked, totals.offered, secs);
    let shortfall = load.rate.filter(|_| short).map(|asked| {
        let (asked, generated) = (count(asked as u64), count((totals.sent as f64 / secs) as u64));
        let undelivered = totals.undelivered_ratio();
        let verdict = match undelivered <= RELAY_WELL {
            true => "the relay was not the limit".to_owned(),
            false => format!("and yet {} of that was not delivered", percent(undelivered)),
        };
        format!("asked {asked}, this machine generated {generated}: {verdict}")
    });
    let flooded = (raw.dropped_here > 0).then(|| {
        format!(
            "{} datagrams came back and were dropped by this machine's own full sockets: \
             that loss is not the relay's",
            count(raw.dropped_here)
        )
    });
    let shortfall = [shortfall, flooded].into_iter().flatten().collect::<Vec<_>>().join("; ");
    Generator {
        shortfall: (!shortfall.is_empty()).then_some(shortfall),
        lateness: Latency::of(&lateness),
        blocked,
        refused: raw.sent.iter().map(|(_, sent)| sent.refused).sum(),
        refusal: raw.sent.iter().find_map(|(_, sent)| sent.refusal.clone()),
        dropped_here: raw.dropped_here,
        cpu_secs: raw.own_secs,
        devices: raw.devices.clone(),
    }
}

fn slots(raw: &Raw) -> Vec<Slot> {
    let secs = raw.slots.len as f64 / SECOND as f64;
    let slot = |at: usize| {
        let mut latency: Histogram<u32> = small_histogram(2);
        for received in &raw.received {
            let _ = latency.add(&received.latency_by_slot[at]);
        }
        Slot {
            at_secs: at as f64 * secs,
            secs,
            sent: raw.sent.iter().map(|(_, sent)| sent.by_slot[at]).sum(),
            received: raw.received.iter().map(|received| received.by_slot[at]).sum(),
            latency: Latency::of(&latency),
        }
    };
    (0..raw.slots.count).map(slot).collect()
}

fn flows(field: &Field, raw: &Raw, tallies: &[Tally]) -> Vec<FlowResult> {
    let mut listed: Vec<usize> = (0..field.flows.len()).collect();
    if listed.len() > FLOWS_LISTED {
        let undelivered = |at: &usize| tallies[*at].sent.abs_diff(tallies[*at].arrivals.received);
        listed.sort_by_key(|at| std::cmp::Reverse(undelivered(at)));
        listed.truncate(FLOWS_WORST);
        listed.sort_unstable();
    }
    let result = |at: usize| {
        let flow = &field.flows[at];
        let seen = raw.received.iter().find_map(|received| received.flows[at].as_deref());
        FlowResult {
            flow: at as u32,
            direction: flow.direction,
            allocation: flow.allocation,
            channel: channel_number(flow.channel).number(),
            counts: tallies[at].counts(),
            latency: seen.and_then(|seen| Latency::of(seen.latency.as_ref()?)),
        }
    };
    listed.into_iter().map(result).collect()
}
