//! A frame as lines of text, in 80 columns or more: what grows with the machine comes last.

use super::frame::{Batches, Core, Flow, Frame, Ring, Worker};
use crate::admin::metrics::BATCH_SIZES;
use clap::ValueEnum;
use number::{Maybe, Percent, Short, Span};

mod number;

/// Tables are not laid out for fewer columns than this: their lines are cut then.
pub const COLUMNS_MIN: usize = 80;
/// Reasons listed, at most.
const REASONS: usize = 6;

/// What a frame's lines may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Columns of a line.
    pub columns: usize,
    /// Lines; `None` for as many as there are.
    pub lines: Option<usize>,
}

/// A part of a frame, in the order in which they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// What it holds and uses.
    Holds,
    /// Tiers, and reasons of refusals.
    Tiers,
    /// The control thread and clients that are not UDP.
    Control,
    /// Workers and session threads.
    Workers,
    /// Their batches and rings.
    Batches,
    /// AF_XDP by worker.
    AfXdp,
    /// The kernel program by core.
    Cores,
}

/// The lines of these parts of a frame, of all where none is named: none longer than `room` is wide, and
/// no more than it holds.
pub fn lines(frame: &Frame, room: Room, only: &[Part]) -> Vec<String> {
    let parts = if only.is_empty() { Part::value_variants() } else { only };
    let mut lines = Vec::new();
    title(frame, &mut lines);
    for part in Part::value_variants().iter().filter(|part| parts.contains(part)) {
        match part {
            Part::Holds => holds(frame, room.columns, &mut lines),
            Part::Tiers => {
                tiers(frame, &mut lines);
                refused(frame, room.columns, &mut lines);
            }
            Part::Control => {
                control(frame, &mut lines);
                sessions(frame, &mut lines);
            }
            Part::Workers => workers(&frame.workers, &mut lines),
            Part::Batches => rounds(&frame.workers, &mut lines),
            Part::AfXdp => frames(&frame.workers, &mut lines),
            Part::Cores => cores(frame, &mut lines),
        }
    }
    let all = lines.len();
    if let Some(most) = room.lines.filter(|&most| most < all) {
        let most = most.max(1);
        lines.truncate(most - 1);
        lines.push(format!("... {} lines more: --only or --once shows them", all + 1 - most));
    }
    for line in &mut lines {
        fit(line, room.columns);
    }
    lines
}

/// Cuts what is too long, and blanks at the end.
fn fit(line: &mut String, columns: usize) {
    if let Some((cut, _)) = line.char_indices().nth(columns) {
        line.truncate(cut);
    }
    line.truncate(line.trim_end().len());
}

fn title(frame: &Frame, lines: &mut Vec<String>) {
    let draining = if frame.draining { "  DRAINING" } else { "" };
    lines.push(format!(
        "turnwire {}  tier {}  up {}  over {:.1} s{draining}",
        frame.version,
        frame.tier,
        Span(frame.uptime_secs),
        frame.interval_secs
    ));
    if frame.restarted {
        lines.push("started anew since the last frame: the rates are since then".to_owned());
    }
}

fn holds(frame: &Frame, columns: usize, lines: &mut Vec<String>) {
    let (held, process) = (&frame.holdings, &frame.process);
    let holds = [
        format!("allocations {}/{}", held.allocations, held.allocations_max),
        format!("channels {}/{}", held.channels, held.channels_max),
        format!("{} in xdp", held.xdp_routes),
        format!("permissions {}", held.permissions),
        format!("relay ports {}/{}", held.relay_ports_open, held.relay_ports),
    ];
    wrap("holds", holds.into_iter(), columns, lines);
    let uses = [
        format!("cpu {} %", Percent(process.cpu)),
        format!("memory {}B", Short(process.resident_bytes)),
        format!("threads {}", process.threads),
        format!("descriptors {}/{}", process.open_fds, process.max_fds),
    ];
    wrap("uses", uses.into_iter(), columns, lines);
}

fn tiers(frame: &Frame, lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(format!(
        "{:<9}{:>12}{:>12}{:>14}{:>12}{:>12}",
        "TIER", "to peer/s", "bit/s", "to client/s", "bit/s", "refused/s"
    ));
    for tier in &frame.tiers {
        let bits = |flow: Flow| Short(flow.bytes_per_sec * 8.0);
        lines.push(format!(
            "{:<9}{:>12}{:>12}{:>14}{:>12}{:>12}",
            tier.tier,
            Short(tier.to_peer.packets_per_sec),
            bits(tier.to_peer),
            Short(tier.to_client.packets_per_sec),
            bits(tier.to_client),
            Short(tier.refused_per_sec)
        ));
    }
}

/// The most frequent reasons; what xdp refuses, others carry.
fn refused(frame: &Frame, columns: usize, lines: &mut Vec<String>) {
    let named = frame.refused.iter().take(REASONS);
    let named = named.map(|one| format!("{} {} {}/s", one.tier, one.reason, Short(one.per_sec)));
    let others = frame.refused.len().saturating_sub(REASONS);
    let more = (others > 0).then(|| format!("and {others} more"));
    wrap("refused", named.chain(more), columns, lines);
}

fn control(frame: &Frame, lines: &mut Vec<String>) {
    let control = &frame.control;
    lines.push(String::new());
    lines.push(format!(
        "CONTROL  cpu {} %  events/s {}  turns/s {}  requests/s {}  successes/s {}",
        Percent(control.cpu),
        Short(control.events_per_sec),
        Short(control.turns_per_sec),
        Short(control.requests_per_sec),
        Short(control.successes_per_sec)
    ));
    let errors: Vec<String> = control
        .errors
        .iter()
        .take(REASONS)
        .map(|error| format!("{} {}/s", error.code, Short(error.per_sec)))
        .collect();
    let errors = if errors.is_empty() { "none".to_owned() } else { errors.join(", ") };
    let full = Short(control.ring_dropped_per_sec);
    lines.push(format!("         rings full/s {full}  errors {errors}"));
}

fn sessions(frame: &Frame, lines: &mut Vec<String>) {
    let sessions = &frame.sessions;
    let each = sessions.transports.iter().map(|one| {
        format!("{} {} (+{}/s)", one.transport, Short(one.open), Short(one.begun_per_sec))
    });
    let each: Vec<String> = each.collect();
    lines.push(format!(
        "SESSIONS {}  in/s {}  out/s {}",
        each.join("  "),
        Short(sessions.messages_in_per_sec),
        Short(sessions.messages_out_per_sec)
    ));
    let sum = |of: fn(&super::frame::Transport) -> f64| -> f64 {
        sessions.transports.iter().map(of).sum()
    };
    let ended: Vec<String> = sessions
        .ended
        .iter()
        .take(3)
        .map(|one| format!("{} {}/s", one.reason, Short(one.per_sec)))
        .collect();
    let ended = if ended.is_empty() { "none".to_owned() } else { ended.join(", ") };
    lines.push(format!(
        "         handshakes/s {} ({} failed)  queue full/s {}  ended {ended}",
        Short(sum(|one| one.handshakes_per_sec)),
        Short(sum(|one| one.handshakes_failed_per_sec)),
        Short(sessions.queue_dropped_per_sec)
    ));
}

/// A worker's name in few columns.
fn name(worker: &Worker) -> &str {
    worker.thread.strip_prefix("turnwire-").unwrap_or(&worker.thread)
}

fn workers(workers: &[Worker], lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(
        "WORKER CORE CPU% WAIT% to peer/s to clnt/s   ctl/s refuse/s  wake/s   GRO   GSO"
            .to_owned(),
    );
    for worker in workers {
        let spread = if worker.spread { "+" } else { "" };
        let strayed = if worker.strayed { "!" } else { "" };
        lines.push(format!(
            "{:<6}{:>5}{:>5}{:>6}{:>10}{:>10}{:>8}{:>9}{:>8}{:>6}{:>6}",
            format!("{}{spread}", name(worker)),
            format!("{}{strayed}", worker.core.as_deref().unwrap_or("-")),
            Percent(worker.cpu),
            Percent(worker.waiting),
            Short(worker.to_peer.packets_per_sec),
            Short(worker.to_client.packets_per_sec),
            Short(worker.to_control_per_sec),
            Short(worker.refused_per_sec),
            Short(worker.wakeups_per_sec),
            Maybe(worker.gathered_in),
            Maybe(worker.gathered_out)
        ));
    }
}

/// Batches in percent by their size; rings in percent, now and at their fullest.
fn rounds(workers: &[Worker], lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(
        "BATCH% mean    1  2-3  4-7 8-15  -31  -63  64+ >ctl  max   >w  max lost/s  ports"
            .to_owned(),
    );
    let full = |ring: &Ring, bytes: f64| {
        Percent(if ring.size_bytes > 0.0 { bytes / ring.size_bytes } else { 0.0 })
    };
    for worker in workers {
        let shares = shares(&worker.batches);
        let (control, own) = (&worker.ring_to_control, &worker.ring_to_worker);
        lines.push(format!(
            "{:<6}{:>5}{shares}{:>5}{:>5}{:>5}{:>5}{:>7}{:>7}",
            name(worker),
            Maybe(worker.batch_mean),
            full(control, control.waiting_bytes),
            full(control, control.peak_bytes),
            full(own, own.waiting_bytes),
            full(own, own.peak_bytes),
            Short(worker.socket_overflows_per_sec),
            Short(worker.relay_ports)
        ));
    }
}

/// Batches in percent, a column for each size.
fn shares(batches: &[Batches]) -> String {
    let share = |at| match batches.get(at) {
        Some(Batches { share, .. }) => format!("{:>5}", Percent(*share)),
        None => "    -".to_owned(),
    };
    (0..BATCH_SIZES.len()).map(share).collect()
}

/// AF_XDP, where it is on.
fn frames(workers: &[Worker], lines: &mut Vec<String>) {
    let with = || workers.iter().filter_map(|worker| Some((worker, worker.frames.as_ref()?)));
    if with().next().is_none() {
        return;
    }
    lines.push(String::new());
    lines.push(
        "AF_XDP   q zc   fwd/s dgram/s refuse/s txfull/s lost/s wake/s  recv  send  free"
            .to_owned(),
    );
    for (worker, frames) in with() {
        lines.push(format!(
            "{:<6}{:>4}{:>3}{:>8}{:>8}{:>9}{:>9}{:>7}{:>7}{:>6}{:>6}{:>6}",
            name(worker),
            frames.queues,
            frames.zero_copy,
            Short(frames.forwarded_per_sec),
            Short(frames.datagrams_per_sec),
            Short(frames.refused_per_sec),
            Short(frames.tx_full_per_sec),
            Short(frames.rx_ring_full_per_sec + frames.rx_dropped_per_sec),
            Short(frames.wakeups_per_sec),
            Short(frames.receiving),
            Short(frames.sending),
            Short(frames.free)
        ));
    }
    lines.push(String::new());
    lines.push(
        "FRAMES% mean    1  2-3  4-7 8-15  -31  -63  64+  batch/s empty/s  held aside".to_owned(),
    );
    for (worker, frames) in with() {
        lines.push(format!(
            "{:<7}{:>5}{}{:>9}{:>8}{:>6}{:>6}",
            name(worker),
            Maybe(frames.batch_mean),
            shares(&frames.batches),
            Short(frames.batches_per_sec),
            Short(frames.fill_ring_empty_per_sec),
            Short(frames.held),
            Short(frames.set_aside)
        ));
    }
}

/// The kernel program; cores that it does nothing on are left out.
fn cores(frame: &Frame, lines: &mut Vec<String>) {
    if frame.cores.is_empty() {
        return;
    }
    lines.push(String::new());
    lines.push(format!(
        "{:<9}{:>12}{:>14}{:>12}{:>12}",
        "XDP CORE", "to peer/s", "to client/s", "refused/s", "to AF_XDP/s"
    ));
    let is_idle = |core: &Core| {
        core.to_peer_per_sec + core.to_client_per_sec + core.refused_per_sec + core.punted_per_sec
            == 0.0
    };
    for core in frame.cores.iter().filter(|core| !is_idle(core)) {
        lines.push(format!(
            "{:<9}{:>12}{:>14}{:>12}{:>12}",
            core.core,
            Short(core.to_peer_per_sec),
            Short(core.to_client_per_sec),
            Short(core.refused_per_sec),
            Short(core.punted_per_sec)
        ));
    }
    let idle = frame.cores.iter().filter(|core| is_idle(core)).count();
    if idle > 0 {
        lines.push(format!("{idle} of {} cores idle", frame.cores.len()));
    }
}

/// Items after a title, on as many lines as they need.
fn wrap(title: &str, items: impl Iterator<Item = String>, columns: usize, lines: &mut Vec<String>) {
    let indent = 9;
    let (mut line, mut first) = (format!("{title:<indent$}"), true);
    for item in items {
        if !first && line.len() + 3 + item.len() > columns {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)) + ",");
            first = true;
        }
        if !first {
            line += ", ";
        }
        line += &item;
        first = false;
    }
    if first {
        line += "nothing";
    }
    lines.push(line);
}

#[cfg(test)]
mod tests;
