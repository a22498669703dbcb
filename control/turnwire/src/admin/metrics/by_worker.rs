//! What each worker and each session thread does, and the processors' time of every thread: what
//! `turnwire top` shows. The sums are beside them under names of their own.

use dataplane::stats::{RingFill, WorkerSnapshot};
use wire::{Direction, Reason};

use super::{Page, Process, Snapshot};

/// Names of the classes in which batches are counted.
pub const BATCH_SIZES: [&str; dataplane::stats::BATCH_CLASSES] =
    ["1", "2-3", "4-7", "8-15", "16-31", "32-63", "64+"];

/// A worker with its label.
type Numbered<'a> = (String, &'a WorkerSnapshot);

/// The families whose label `worker` is a number, session threads after the workers.
pub(super) fn by_worker(page: &mut Page, snapshot: &Snapshot) {
    let workers: Vec<Numbered<'_>> = snapshot
        .plane
        .workers
        .iter()
        .enumerate()
        .map(|(number, worker)| (number.to_string(), worker))
        .collect();
    info(page, snapshot);
    traffic(page, &workers);
    refusals(page, &workers);
    rounds(page, &workers);
    rings(page, &workers);
}

/// Joins the number with all that a worker is.
fn info(page: &mut Page, snapshot: &Snapshot) {
    let help = "Workers of the tier socket and threads of the tier session, each with its core, \
                which is empty where it is not pinned, and its thread.";
    let mut family = page.gauge("turnwire_worker_info", help);
    let all = ["socket", "session"].into_iter();
    let all = all.flat_map(|tier| snapshot.workers(tier).enumerate().map(move |one| (tier, one)));
    for (tier, (index, (number, _))) in all {
        let core = snapshot.about.cores.get(number).copied().flatten();
        let core = core.map(|core| core.to_string()).unwrap_or_default();
        let letter = if tier == "socket" { 'w' } else { 's' };
        let thread = format!("turnwire-{letter}{index}");
        let number = number.to_string();
        family.sample(
            &[("worker", &number), ("tier", tier), ("core", &core), ("thread", &thread)],
            1,
        );
    }
    let help = "Workers that were pinned to a core: 1 where somebody let them run elsewhere since.";
    let mut family = page.gauge("turnwire_worker_strayed", help);
    for (number, strayed) in &snapshot.strayed {
        family.sample(&[("worker", &number.to_string())], u8::from(*strayed));
    }
}

fn traffic(page: &mut Page, workers: &[Numbered<'_>]) {
    let mut family = page
        .counter("turnwire_worker_forwarded_packets_total", "Datagrams relayed, by each worker.");
    for (number, worker) in workers {
        for direction in Direction::ALL {
            let packets = worker.forwarded[direction as usize].packets;
            family.sample(&[("worker", number), ("direction", direction.name())], packets);
        }
    }
    let help = "Bytes of application data relayed, by each worker.";
    let mut family = page.counter("turnwire_worker_forwarded_bytes_total", help);
    for (number, worker) in workers {
        for direction in Direction::ALL {
            let bytes = worker.forwarded[direction as usize].bytes;
            family.sample(&[("worker", number), ("direction", direction.name())], bytes);
        }
    }
    let help = "Datagrams of each worker: received, and sent or queued by it, its own replies and \
                those of the control thread included.";
    let mut family = page.counter("turnwire_worker_packets_total", help);
    for (number, worker) in workers {
        let forwarded: u64 = worker.forwarded.iter().map(|traffic| traffic.packets).sum();
        let sent = worker.sent_to_peers + worker.sent_to_clients;
        // one of a client for another client is in both directions, and sent once
        let out = forwarded.saturating_sub(worker.inner) + sent;
        family.sample(&[("worker", number), ("way", "in")], worker.received);
        family.sample(&[("worker", number), ("way", "out")], out);
    }
    let help = "Messages of one or several datagrams that each worker's sockets took in and out: \
                what the kernel merges (GRO) and cuts (GSO).";
    let mut family = page.counter("turnwire_worker_messages_total", help);
    for (number, worker) in workers {
        family.sample(&[("worker", number), ("way", "in")], worker.messages_received);
        family.sample(&[("worker", number), ("way", "out")], worker.messages_sent);
    }
    let help = "Datagrams that each worker handed to the control thread.";
    let mut family = page.counter("turnwire_worker_control_packets_total", help);
    for (number, worker) in workers {
        family.sample(&[("worker", number), ("from", "client")], worker.clients_to_control);
        family.sample(&[("worker", number), ("from", "peer")], worker.peers_to_control);
    }
}

fn refusals(page: &mut Page, workers: &[Numbered<'_>]) {
    let help = "Datagrams that each worker did not forward, by reason; a reason appears when it \
                has occurred there.";
    let mut family = page.counter("turnwire_worker_refused_packets_total", help);
    for (number, worker) in workers {
        for &reason in Reason::ALL {
            let refused = worker.refused(reason);
            if refused > 0 {
                family.sample(&[("worker", number), ("reason", reason.name())], refused);
            }
        }
    }
    let help = "Datagrams lost in full receive buffers of each worker's sockets.";
    let mut family = page.counter("turnwire_worker_socket_overflows_total", help);
    for (number, worker) in workers {
        family.sample(&[("worker", number)], worker.overflowed);
    }
    let help = "Times that each worker was behind, and had clients spread over lanes.";
    let mut family = page.counter("turnwire_worker_spreads_total", help);
    for (number, worker) in workers {
        family.sample(&[("worker", number)], worker.spreads);
    }
    let help = "Whether clients come to each worker by its lanes now.";
    let mut family = page.gauge("turnwire_worker_spread", help);
    for (number, worker) in workers {
        family.sample(&[("worker", number)], u64::from(worker.is_spread));
    }
}

fn rounds(page: &mut Page, workers: &[Numbered<'_>]) {
    let help = "Times that each worker slept and was woken.";
    let mut family = page.counter("turnwire_worker_wakeups_total", help);
    for (number, worker) in workers {
        family.sample(&[("worker", number)], worker.wakeups);
    }
    let help = "Batches of datagrams that each worker received, by their size.";
    let mut family = page.counter("turnwire_worker_batches_total", help);
    for (number, worker) in workers {
        for (size, count) in BATCH_SIZES.iter().zip(worker.batches) {
            family.sample(&[("worker", number), ("size", size)], count);
        }
    }
    let mut family =
        page.gauge("turnwire_worker_relay_ports", "Relay ports that each worker serves now.");
    for (number, worker) in workers {
        family.sample(&[("worker", number)], worker.ports);
    }
}

fn rings(page: &mut Page, workers: &[Numbered<'_>]) {
    let mut family = |name, help: &str, of: fn(&RingFill) -> usize| {
        let mut family = page.gauge(name, help);
        for (number, worker) in workers {
            let rings = [("to_control", worker.to_control), ("to_worker", worker.to_worker)];
            for (ring, fill) in rings {
                family.sample(&[("worker", number), ("ring", ring)], of(&fill));
            }
        }
    };
    let help = "Bytes that wait in the rings between each worker and the control thread now.";
    family("turnwire_worker_ring_waiting_bytes", help, |fill| fill.waiting);
    let help = "The most that has been seen waiting in these rings since the start.";
    family("turnwire_worker_ring_peak_bytes", help, |fill| fill.peak);
    family("turnwire_worker_ring_size_bytes", "Size of these rings.", |fill| fill.size);
}

/// What the kernel program did not forward on each core.
pub(super) fn kernel_refusals(page: &mut Page, snapshot: &Snapshot) {
    let cpus = || snapshot.kernel.iter().flat_map(|kernel| kernel.cpus.iter().enumerate());
    let help = "Frames that the kernel program handed to workers by AF_XDP, by core.";
    let mut family = page.counter("turnwire_core_punted_packets_total", help);
    for (cpu, counters) in cpus() {
        family.sample(&[("tier", "xdp"), ("core", &cpu.to_string())], counters.punted);
    }
    let help = "Frames that the kernel program passed on or handed to workers, by core and reason; a reason appears \
                when it has occurred there.";
    let mut family = page.counter("turnwire_core_refused_packets_total", help);
    for (cpu, counters) in cpus() {
        let core = cpu.to_string();
        for &reason in Reason::ALL {
            let refused = counters.refused[reason as usize];
            if refused > 0 {
                let labels = [("tier", "xdp"), ("core", &*core), ("reason", reason.name())];
                family.sample(&labels, refused);
            }
        }
    }
}

/// The control thread's own work.
pub(super) fn control(page: &mut Page, snapshot: &Snapshot) {
    let counts = &snapshot.counts;
    let help = "Datagrams and ends of connections that the control thread has dealt with.";
    page.counter("turnwire_control_events_total", help).value(counts.events);
    page.counter("turnwire_control_turns_total", "Turns of the control thread's loop.")
        .value(counts.turns);
}

/// The time of the processors, whole and by thread.
pub(super) fn processors(page: &mut Page, process: &Process) {
    if let Some(cpu) = process.cpu {
        let help = "Time of the processors that the process used, in user and system.";
        page.counter("process_cpu_seconds_total", help)
            .value(format_args!("{:.2}", cpu.as_secs_f64()));
    }
    if let Some(started) = process.started {
        let help = "When the process started, in seconds since 1970.";
        page.gauge("process_start_time_seconds", help)
            .value(format_args!("{:.2}", started.as_secs_f64()));
    }
    let help = "Time of a processor that each thread used: turnwire-w are workers, turnwire-s \
                session threads, control the control thread.";
    let mut family = page.counter("turnwire_thread_cpu_seconds_total", help);
    for (name, time) in &process.threads_times {
        let seconds = time.running.as_secs_f64();
        family.sample(&[("thread", name)], format_args!("{seconds:.6}"));
    }
    let help = "Time that each thread could have run, but its processor was taken.";
    let mut family = page.counter("turnwire_thread_waiting_seconds_total", help);
    for (name, time) in &process.threads_times {
        let seconds = time.waiting.as_secs_f64();
        family.sample(&[("thread", name)], format_args!("{seconds:.6}"));
    }
}
