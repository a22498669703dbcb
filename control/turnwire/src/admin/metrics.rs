//! `/metrics`: what an operator looks for first, in Prometheus' text format.

use std::sync::Arc;
use std::time::Duration;

use dataplane::frames::KeeperStats;
use dataplane::kernel::KernelSnapshot;
use dataplane::stats::{Snapshot as Plane, WorkerSnapshot};
use turn::{Request, Stats};
use wire::{Direction, Reason};

use super::process::Process;
use super::prometheus::Page;
use crate::driver::{Counts, PeerCounts, ReloadCounts};

mod by_worker;
mod frames;
mod sessions;

pub use by_worker::BATCH_SIZES;

/// What stays the same while the process runs.
#[derive(Debug, Clone, Default)]
pub struct About {
    /// The tier that was chosen.
    pub tier: &'static str,
    /// Interfaces with the kernel program, each with its mode.
    pub interfaces: Vec<(String, String)>,
    /// The core of each worker; `None` where it is not pinned.
    pub cores: Vec<Option<usize>>,
    /// Allocations that there may be.
    pub allocations_max: usize,
    /// Channels that there may be.
    pub channels_max: usize,
    /// Relay ports of all relay addresses together.
    pub relay_ports: usize,
}

/// Everything the control thread knows, at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// What stays the same.
    pub about: Arc<About>,
    /// Since the start.
    pub uptime: Duration,
    /// The protocol's counters.
    pub control: Stats,
    /// The workers' counters.
    pub plane: Plane,
    /// The kernel program's counters, where it is attached.
    pub kernel: Option<KernelSnapshot>,
    /// AF_XDP, where workers are to have it.
    pub keeper: Option<KeeperStats>,
    /// What the outbox counted.
    pub counts: Counts,
    /// Relay ports that are open.
    pub open_ports: usize,
    /// TCP sockets towards peers.
    pub peers: PeerCounts,
    /// How reloads went.
    pub reloads: ReloadCounts,
    /// No new allocations are made.
    pub draining: bool,
    /// Workers that were pinned, and whether they may run elsewhere now.
    pub strayed: Vec<(usize, bool)>,
}

impl Snapshot {
    /// The workers of one tier, `socket` or `session`, each with its number.
    fn workers(&self, tier: &str) -> impl Iterator<Item = (usize, &WorkerSnapshot)> {
        let session = tier == "session";
        let is_session = |number: usize| self.plane.sessions.iter().any(|one| one.worker == number);
        let all = self.plane.workers.iter().enumerate();
        all.filter(move |(number, _)| is_session(*number) == session)
    }
}

/// The page.
pub fn render(snapshot: &Snapshot, process: &Process) -> String {
    let mut page = Page::default();
    forwarded(&mut page, snapshot);
    refused(&mut page, snapshot);
    per_core(&mut page, snapshot);
    gauges(&mut page, snapshot);
    protocol(&mut page, &snapshot.control);
    workers(&mut page, snapshot);
    by_worker::by_worker(&mut page, snapshot);
    by_worker::control(&mut page, snapshot);
    sessions::sessions(&mut page, snapshot);
    sessions::peers(&mut page, snapshot);
    kernel(&mut page, snapshot);
    frames::frames(&mut page, snapshot);
    by_worker::kernel_refusals(&mut page, snapshot);
    operation(&mut page, snapshot);
    about(&mut page, snapshot);
    resources(&mut page, process);
    by_worker::processors(&mut page, process);
    page.into_text()
}

/// The tiers that forward, and the control thread, which relays what no tier takes.
fn forwarded(page: &mut Page, snapshot: &Snapshot) {
    let mut rows = Vec::new();
    for direction in Direction::ALL {
        for tier in ["socket", "session"] {
            let workers = snapshot.workers(tier).map(|(_, worker)| worker);
            let traffic = workers.map(|worker| worker.forwarded[direction as usize]);
            let (packets, bytes) = traffic
                .fold((0, 0), |(packets, bytes), one| (packets + one.packets, bytes + one.bytes));
            rows.push((tier, direction, packets, bytes));
        }
        let (packets, bytes) = snapshot.kernel.as_ref().map_or((0, 0), |kernel| {
            let traffic = kernel.forwarded(direction);
            (traffic.packets, traffic.bytes)
        });
        rows.push(("xdp", direction, packets, bytes));
        let frames = snapshot.plane.workers.iter().map(|one| one.frames.forwarded);
        let (packets, bytes) = frames.fold((0, 0), |(packets, bytes), one| {
            let one = one[direction as usize];
            (packets + one.packets, bytes + one.bytes)
        });
        rows.push(("af_xdp", direction, packets, bytes));
        let control = match direction {
            Direction::ToPeer => snapshot.control.carried.to_peer,
            Direction::ToClient => snapshot.control.carried.to_client,
        };
        rows.push(("control", direction, control.packets, control.bytes));
    }
    let help = "Datagrams relayed, by the tier that did it: xdp is the kernel program, af_xdp \
                the workers by whole frames, socket the \
                workers, session the threads of TCP, TLS and DTLS clients, control the control \
                thread.";
    let mut family = page.counter("turnwire_forwarded_packets_total", help);
    for (tier, direction, packets, _) in &rows {
        family.sample(&[("tier", tier), ("direction", direction.name())], packets);
    }
    let mut family = page
        .counter("turnwire_forwarded_bytes_total", "Bytes of application data relayed, by tier.");
    for (tier, direction, _, bytes) in &rows {
        family.sample(&[("tier", tier), ("direction", direction.name())], bytes);
    }
}

fn refused(page: &mut Page, snapshot: &Snapshot) {
    let help = "Datagrams a tier did not forward, by reason. What xdp refuses goes to the workers \
                or the kernel's own stack; what the workers refuse is dropped.";
    let mut family = page.counter("turnwire_refused_packets_total", help);
    for &reason in Reason::ALL {
        for tier in ["socket", "session"] {
            let workers = snapshot.workers(tier);
            let mut refused: u64 = workers.map(|(_, worker)| worker.refused(reason)).sum();
            if tier == "socket" {
                refused += snapshot.plane.refused_control[reason as usize];
            }
            family.sample(&[("tier", tier), ("reason", reason.name())], refused);
        }
        if let Some(kernel) = &snapshot.kernel {
            let labels = [("tier", "xdp"), ("reason", reason.name())];
            family.sample(&labels, kernel.refused(reason));
        }
        if snapshot.keeper.is_some() {
            let refused = snapshot.plane.workers.iter().map(|one| one.frames.refused(reason));
            let labels = [("tier", "af_xdp"), ("reason", reason.name())];
            family.sample(&labels, refused.sum::<u64>());
        }
    }
    for (reason, count) in snapshot.control.refused.iter() {
        family.sample(&[("tier", "control"), ("reason", reason.name())], count);
    }
}

fn per_core(page: &mut Page, snapshot: &Snapshot) {
    let help = "Datagrams relayed, by tier and core; the core of a worker that is not pinned is w \
                with its number.";
    let mut family = page.counter("turnwire_core_forwarded_packets_total", help);
    let all = ["socket", "session"].into_iter();
    let all = all.flat_map(|tier| snapshot.workers(tier).map(move |one| (tier, one)));
    for (tier, (index, worker)) in all {
        let core = match snapshot.about.cores.get(index) {
            Some(Some(core)) => core.to_string(),
            _ => format!("w{index}"),
        };
        for direction in Direction::ALL {
            let packets = worker.forwarded[direction as usize].packets;
            let direction = direction.name();
            family.sample(&[("tier", tier), ("core", &core), ("direction", direction)], packets);
        }
    }
    for (cpu, counters) in snapshot.kernel.iter().flat_map(|kernel| kernel.cpus.iter().enumerate())
    {
        let core = cpu.to_string();
        for direction in Direction::ALL {
            let packets = counters.forwarded[direction as usize].packets;
            let direction = direction.name();
            family.sample(&[("tier", "xdp"), ("core", &core), ("direction", direction)], packets);
        }
    }
}

fn gauges(page: &mut Page, snapshot: &Snapshot) {
    let (control, about) = (&snapshot.control, &snapshot.about);
    page.gauge("turnwire_allocations", "Allocations now.").value(control.allocations);
    page.gauge("turnwire_allocations_max", "Allocations that there may be.")
        .value(about.allocations_max);
    page.gauge("turnwire_channels", "Channels now, those that cool included.")
        .value(control.channels);
    page.gauge("turnwire_channels_max", "Channels that there may be.").value(about.channels_max);
    page.gauge("turnwire_permissions", "Permissions now.").value(control.permissions);
    page.gauge("turnwire_reserved_ports", "Relay ports held for a RESERVATION-TOKEN now.")
        .value(control.reservations);
    page.gauge("turnwire_relay_ports_open", "Relay ports that are open now.")
        .value(snapshot.open_ports);
    page.gauge("turnwire_relay_ports", "Relay ports that there are.").value(about.relay_ports);
    page.gauge("turnwire_routes", "Channels in the workers' route table now.")
        .value(snapshot.plane.routes);
    let help = "Relayed addresses and permissions that the workers know, for indications.";
    page.gauge("turnwire_permits", help).value(snapshot.plane.permits);
    page.gauge("turnwire_route_table_bytes", "Address space of the workers' route table.")
        .value(snapshot.plane.table_size);
}

fn protocol(page: &mut Page, stats: &Stats) {
    let mut family = page.counter("turnwire_requests_total", "Well-formed requests, by method.");
    for (request, count) in Request::ALL.iter().zip(stats.requests) {
        family.sample(&[("method", request.name())], count);
    }
    let mut family =
        page.counter("turnwire_success_responses_total", "Success responses, by method.");
    for (request, count) in Request::ALL.iter().zip(stats.successes) {
        family.sample(&[("method", request.name())], count);
    }
    let help = "Error responses, by STUN code; 401 and 438 are part of every login.";
    let mut family = page.counter("turnwire_error_responses_total", help);
    for (code, count) in Stats::CODES.iter().zip(stats.errors) {
        family.sample(&[("code", &code.value().to_string())], count);
    }
    page.counter("turnwire_allocations_expired_total", "Allocations that nobody refreshed.")
        .value(stats.expired);
    page.counter("turnwire_retransmissions_total", "Allocate requests answered once more.")
        .value(stats.retransmissions);
}

fn workers(page: &mut Page, snapshot: &Snapshot) {
    let workers = &snapshot.plane.workers;
    let sum =
        |of: fn(&dataplane::stats::WorkerSnapshot) -> u64| -> u64 { workers.iter().map(of).sum() };
    page.gauge("turnwire_workers_running", "Workers that run.")
        .value(workers.iter().filter(|worker| worker.running).count());
    page.counter("turnwire_received_packets_total", "Datagrams that the workers received.")
        .value(sum(|worker| worker.received));
    let help = "Messages of one or several datagrams that the workers' sockets took in and out.";
    let mut family = page.counter("turnwire_socket_messages_total", help);
    family.sample(&[("way", "in")], sum(|worker| worker.messages_received));
    family.sample(&[("way", "out")], sum(|worker| worker.messages_sent));
    let help = "Messages that the kernel refused to cut into datagrams; those went one by one.";
    page.counter("turnwire_segmentation_refused_total", help)
        .value(sum(|worker| worker.segmentation_refused));
    let mut family =
        page.counter("turnwire_control_packets_total", "Datagrams handed to the control thread.");
    family.sample(&[("from", "client")], sum(|worker| worker.clients_to_control));
    family.sample(&[("from", "peer")], sum(|worker| worker.peers_to_control));
    let help = "Of the datagrams that workers relayed, those that came in a Send indication, and \
                those that left in a Data indication.";
    let mut family = page.counter("turnwire_socket_indications_total", help);
    for direction in Direction::ALL {
        let indications = workers.iter().map(|worker| worker.indications[direction as usize]);
        family.sample(&[("direction", direction.name())], indications.sum::<u64>());
    }
    let help = "Relayed addresses and permissions that found no place in the workers' table: the \
                control thread carries their indications.";
    page.counter("turnwire_permits_refused_total", help).value(snapshot.plane.permits_refused);
    let ring_full = Reason::RingFull as usize;
    let help = "Datagrams dropped because a ring between a worker and the control thread was full.";
    let mut family = page.counter("turnwire_ring_dropped_packets_total", help);
    let to_control: u64 = workers.iter().flat_map(|w| w.refused.map(|side| side[ring_full])).sum();
    family.sample(&[("ring", "to_control")], to_control);
    family.sample(&[("ring", "to_worker")], snapshot.plane.refused_control[ring_full]);
    page.counter("turnwire_socket_overflows_total", "Datagrams lost in full receive buffers.")
        .value(sum(|worker| worker.overflowed));
    page.counter("turnwire_icmp_errors_total", "ICMP errors that relay ports were told.")
        .value(sum(|worker| worker.icmp_errors));
    let help = "ICMP errors by whether the client was told: not when they are too many.";
    let mut family = page.counter("turnwire_icmp_errors_told_total", help);
    family.sample(&[("result", "told")], sum(|worker| worker.icmp_told));
    family.sample(&[("result", "withheld")], sum(|worker| worker.icmp_withheld));
    page.counter("turnwire_receive_errors_total", "Failures of receiving.")
        .value(sum(|worker| worker.receive_errors));
    page.counter("turnwire_wakeups_total", "Times a worker slept and was woken.")
        .value(sum(|worker| worker.wakeups));
    let mut family = page.counter(
        "turnwire_relay_port_failures_total",
        "Relay ports that could not be opened, by reason.",
    );
    family.sample(&[("reason", "in_use")], snapshot.counts.ports_in_use);
    family.sample(&[("reason", "exhausted")], snapshot.counts.ports_refused);
    page.counter("turnwire_unknown_port_total", "Effects on relay ports that were not open.")
        .value(snapshot.counts.unknown_port);
}

fn kernel(page: &mut Page, snapshot: &Snapshot) {
    let bytes = snapshot.kernel.as_ref().map_or(0, |kernel| kernel.map_bytes);
    page.gauge("turnwire_map_memory_bytes", "Memory of the kernel program's maps.").value(bytes);
    page.counter("turnwire_map_refused_total", "Channels that the kernel's table had no room for.")
        .value(snapshot.counts.kernel_refused);
    let help = "Interfaces that carry the kernel program, and how.";
    let mut family = page.gauge("turnwire_xdp_interface_info", help);
    for (interface, mode) in &snapshot.about.interfaces {
        family.sample(&[("interface", interface), ("mode", mode)], 1);
    }
    if let Some(kernel) = &snapshot.kernel {
        attached(page, kernel);
    }
}

/// What there is to say of the kernel program only while it is attached.
fn attached(page: &mut Page, kernel: &KernelSnapshot) {
    let mut gauge = |name, help, value: usize| page.gauge(name, help).value(value);
    gauge("turnwire_xdp_routes", "Channels that the kernel program knows now.", kernel.routes);
    gauge("turnwire_xdp_table_entries", "Entries in its table, two a channel.", kernel.entries);
    gauge("turnwire_xdp_table_entries_max", "Entries that its table holds.", kernel.entries_max);
    gauge("turnwire_xdp_ports", "Relay ports that the kernel program knows now.", kernel.ports);
    let network = &kernel.network;
    gauge("turnwire_xdp_hops", "Next hops in use.", network.hops);
    gauge(
        "turnwire_xdp_hops_usable",
        "Next hops whose link address is known.",
        network.hops_usable,
    );
    let help = "Pairs of addresses between which the program cannot send: sockets carry theirs.";
    gauge("turnwire_xdp_paths_without_hop", help, network.paths_without_hop);
    gauge("turnwire_xdp_paths_starved", "Of these, for want of room.", network.paths_starved);
    let help = "IPsec policies of the host that demand something of datagrams: what they are about, \
                sockets carry.";
    gauge("turnwire_xdp_ipsec_policies", help, network.ipsec_policies);
    let mut counter = |name, help, value: u64| page.counter(name, help).value(value);
    let help = "Routes written again because the way to their destination was found, or changed.";
    counter("turnwire_xdp_routes_moved_total", help, kernel.routes_moved);
    let help = "How often news of the network were lost, and everything was asked for again.";
    counter("turnwire_xdp_news_lost_total", help, network.news_lost);
    let help = "Questions about the network that the kernel did not answer.";
    counter("turnwire_xdp_questions_failed_total", help, network.questions_failed);
    let help = "How often questions about the network waited behind too many others.";
    counter("turnwire_xdp_questions_delayed_total", help, network.questions_delayed);
    let help = "How often the kernel's two clocks had parted.";
    counter("turnwire_xdp_clock_corrections_total", help, kernel.clock_corrections);
    let help = "Frames handed to workers by AF_XDP.";
    counter("turnwire_xdp_punted_packets_total", help, kernel.punted());
    let help = "VLANs that found no place in the program's table.";
    counter("turnwire_xdp_vlans_refused_total", help, kernel.vlans_refused);
}

/// What the operator asked for.
fn operation(page: &mut Page, snapshot: &Snapshot) {
    let reloads = &snapshot.reloads;
    let mut family = page.counter("turnwire_reloads_total", "Reloads, by how they ended.");
    family.sample(&[("result", "ok")], reloads.ok);
    family.sample(&[("result", "failed")], reloads.failed);
    let help = "Settings that were changed and wait for a restart, as of the last reload.";
    page.gauge("turnwire_restart_needed_settings", help).value(reloads.restart_needed);
    page.gauge("turnwire_draining", "1 while no new allocations are made.")
        .value(u8::from(snapshot.draining));
}

fn about(page: &mut Page, snapshot: &Snapshot) {
    let mut family = page.gauge("turnwire_build_info", "The program's version, and its tier.");
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("tier", snapshot.about.tier)];
    family.sample(&labels, 1);
    page.gauge("turnwire_uptime_seconds", "Time since the start.")
        .value(format_args!("{:.3}", snapshot.uptime.as_secs_f64()));
}

/// The names are those of Prometheus' own client libraries.
fn resources(page: &mut Page, process: &Process) {
    let mut gauge = |name, help, value: Option<u64>| {
        if let Some(value) = value {
            page.gauge(name, help).value(value);
        }
    };
    gauge("process_resident_memory_bytes", "Memory of the process.", process.resident_bytes);
    gauge("process_open_fds", "Open file descriptors.", process.open_fds);
    gauge("process_max_fds", "The limit of open file descriptors.", process.max_fds);
    gauge("process_threads", "Threads.", process.threads);
}

#[cfg(test)]
mod tests;
