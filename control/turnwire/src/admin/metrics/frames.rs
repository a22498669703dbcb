//! What workers do with frames that came by AF_XDP, by worker.

use dataplane::frames::FrameSnapshot;
use dataplane::link::xsk::Census;
use wire::{Direction, Reason};

use super::{BATCH_SIZES, Page, Snapshot};

/// What a frame with a way to go is left to a socket for.
const BY_SOCKET: [Reason; 5] =
    [Reason::NoHop, Reason::TooBig, Reason::ZeroChecksum, Reason::NoHeadroom, Reason::Busy];

type Of = fn(&FrameSnapshot) -> u64;

/// The families of AF_XDP; none where it is off.
pub(super) fn frames(page: &mut Page, snapshot: &Snapshot) {
    let Some(keeper) = &snapshot.keeper else { return };
    let workers: Vec<(String, &FrameSnapshot)> = snapshot
        .workers("socket")
        .map(|(number, worker)| (number.to_string(), &worker.frames))
        .collect();
    let help = "AF_XDP queues of each worker now, by whether the kernel copies their frames.";
    let mut family = page.gauge("turnwire_af_xdp_queues", help);
    for (number, frames) in &workers {
        let copying = frames.queues - frames.zero_copy.min(frames.queues);
        family.sample(&[("worker", number), ("mode", "copy")], copying);
        family.sample(&[("worker", number), ("mode", "zero_copy")], frames.zero_copy);
    }
    let help = "AF_XDP queues that the workers should have: where it is more than \
                turnwire_af_xdp_queues in all, sockets carry the traffic of the others.";
    page.gauge("turnwire_af_xdp_queues_wanted", help).value(keeper.wanted);
    let help = "Frames of each worker's packet memory, by where they were a moment ago: free, held by \
                the worker, given to a queue to receive into or to send, set aside after the loss \
                of a queue. Of open queues always the same in all.";
    let mut family = page.gauge("turnwire_af_xdp_memory_frames", help);
    for (number, frames) in &workers {
        let Census { free, held, filled, sent, stranded } = frames.memory;
        let places = [
            ("free", free),
            ("held", held),
            ("receiving", filled),
            ("sending", sent),
            ("set_aside", stranded),
        ];
        for (place, count) in places {
            family.sample(&[("worker", number), ("place", place)], u64::from(count));
        }
    }
    let help = "Frames that came by AF_XDP, by what each worker did with them: forwarded as they \
                lay, handed on as datagrams to be forwarded or answered by sockets, or refused.";
    let mut family = page.counter("turnwire_af_xdp_frames_total", help);
    for (number, frames) in &workers {
        let refused = frames.refused.iter().flatten().sum::<u64>();
        let forwarded = frames.received.saturating_sub(frames.datagrams + refused);
        let ways = [("forwarded", forwarded), ("datagram", frames.datagrams), ("refused", refused)];
        for (way, count) in ways {
            family.sample(&[("worker", number), ("way", way)], count);
        }
    }
    let help = "Batches of frames that each worker received from its queues, by their size.";
    let mut family = page.counter("turnwire_af_xdp_batches_total", help);
    for (number, frames) in &workers {
        for (size, count) in BATCH_SIZES.iter().zip(frames.batches) {
            family.sample(&[("worker", number), ("size", size)], count);
        }
    }
    let help = "Indications among the frames that each worker forwarded, by direction.";
    let mut family = page.counter("turnwire_af_xdp_indications_total", help);
    for (number, frames) in &workers {
        for direction in Direction::ALL {
            let count = frames.indications[direction as usize];
            family.sample(&[("worker", number), ("direction", direction.name())], count);
        }
    }
    let help = "Frames of channels and permissions that left as datagrams by sockets nonetheless, \
                by reason.";
    let mut family = page.counter("turnwire_af_xdp_by_socket_total", help);
    for (number, frames) in &workers {
        for reason in Reason::ALL.iter().filter(|reason| BY_SOCKET.contains(reason)) {
            let count = frames.by_socket[*reason as usize];
            family.sample(&[("worker", number), ("reason", reason.name())], count);
        }
    }
    let counters: [(&'static str, &'static str, Of); 8] = [
        ("turnwire_af_xdp_tx_full_total", "Frames that found a full ring to send by.", |one| {
            one.tx_full
        }),
        (
            "turnwire_af_xdp_starved_total",
            "Times that there was no free frame to receive into.",
            |one| one.starved,
        ),
        ("turnwire_af_xdp_wakeups_total", "System calls to wake the kernel.", |one| one.wakeups),
        ("turnwire_af_xdp_later_total", "Of these, answered with a later.", |one| one.later),
        (
            "turnwire_af_xdp_rx_dropped_total",
            "Frames that the kernel dropped for want of a free one to receive into, or too long for it.",
            |one| one.rx_dropped,
        ),
        (
            "turnwire_af_xdp_rx_ring_full_total",
            "Frames dropped because the worker was behind.",
            |one| one.rx_ring_full,
        ),
        (
            "turnwire_af_xdp_fill_ring_empty_total",
            "Times that the kernel had nothing to receive into.",
            |one| one.fill_ring_empty,
        ),
        ("turnwire_af_xdp_invalid_total", "Wrong entries in a ring: a fault of a driver.", |one| {
            one.invalid
        }),
    ];
    for (name, help, of) in counters {
        let mut family = page.counter(name, help);
        for (number, frames) in &workers {
            family.sample(&[("worker", number)], of(frames));
        }
    }
    let help = "Changes of the workers' AF_XDP queues: opened, lost to a fault or a change of the \
                interfaces, refused by the kernel.";
    let mut family = page.counter("turnwire_af_xdp_changes_total", help);
    family.sample(&[("what", "opened")], keeper.opened);
    family.sample(&[("what", "lost")], keeper.lost);
    family.sample(&[("what", "refused")], keeper.refused);
}
