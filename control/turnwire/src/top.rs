//! `turnwire top`: what a running relay does, as rates, out of its admin server's `/metrics`.
//!
//! ```text
//!   fetch --> scrape --> rates (two scrapes) --> frame --> text, or JSON
//!     ^                                                      |
//!     '---- an interval of waiting, for signals too <--------'
//! ```
//!
//! Two scrapes and one frame are kept, whatever the relay tells and however long it runs.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::clock;
use crate::sys::{self, monotonic};
use frame::{Frame, SCHEMA};
use rates::Interval;
use scrape::Scrape;
use text::{COLUMNS_MIN, Part, Room};
use wait::{Wait, Woken};

pub mod fetch;
pub mod frame;
pub mod rates;
pub mod scrape;
pub mod text;
mod wait;

/// Readings in a row that may fail, once one has succeeded: the relay may be starting anew.
const FAILURES_MAX: u32 = 10;

/// The flags of `turnwire top`.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// The relay's admin server
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9641")]
    pub admin: String,
    /// Seconds from one frame to the next
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = interval)]
    pub interval: Duration,
    /// Print one frame after one interval
    #[arg(long)]
    pub once: bool,
    /// Show these parts alone, which a small window holds: holds, tiers, control, workers, batches,
    /// af-xdp, cores
    #[arg(
        long,
        value_enum,
        value_name = "PART[,PART...]",
        value_delimiter = ',',
        hide_possible_values = true,
        conflicts_with = "json"
    )]
    pub only: Vec<Part>,
    /// Print each frame as one line of JSON: see below
    #[arg(long)]
    pub json: bool,
}

/// What `--help` says below the flags.
pub const HELP: &str = "\
Columns:
  TIER      datagrams relayed by the kernel program, the workers by whole frames (af_xdp, where
            it is on), the workers' sockets, the session threads (TCP, TLS and DTLS clients), the
            control thread (odd indications). What xdp refuses goes to the others, what they
            refuse is dropped.
  WAIT%     the thread could run, but something else had its core
  ctl/s     datagrams handed to the control thread
  GRO, GSO  datagrams in one message of the kernel, in and out
  CORE      0!: somebody lets it run on other cores than this one, which it was pinned to
  w0+       clients come to this worker by lanes: it, or another, was behind
  BATCH%    batches received, by their size
  >ctl, >w  the rings to the control thread and to the worker in percent, now and at most
  lost/s    datagrams lost in full receive buffers
  AF_XDP    queues, and those of them without copies (zc); frames forwarded, handed on as
            datagrams, refused, of these for a full ring to send by; frames that the kernel lost
            (a full ring, or none free to receive into); wakeups; frames that queues have to
            receive into and to send, and free ones
  FRAMES%   batches of frames, by their size; times that the kernel had nothing to receive into;
            frames that the worker holds, and those set aside after the loss of a queue
  XDP CORE  the kernel program by core: forwarded; refused (passed on, or handed to workers); handed
            to workers by AF_XDP, with --xdp-forward workers what has a route as well

JSON, one object a line:
  schema (1), unix, interval_secs, restarted, version, tier, uptime_secs, draining,
  process {cpu, resident_bytes, open_fds, max_fds, threads},
  holdings {allocations, allocations_max, channels, channels_max, permissions, relay_ports_open,
    relay_ports, routes, xdp_routes},
  tiers [{tier, to_peer, to_client, refused_per_sec}],  refused [{tier, reason, per_sec}],
  control {cpu, events_per_sec, turns_per_sec, requests_per_sec, successes_per_sec,
    errors [{code, per_sec}], ring_dropped_per_sec},
  sessions {transports [{transport, open, begun_per_sec, handshakes_per_sec,
    handshakes_failed_per_sec}], messages_in_per_sec, messages_out_per_sec,
    ended [{reason, per_sec}], queue_dropped_per_sec},
  workers [{worker, thread, tier, core, strayed, cpu, waiting, to_peer, to_client, in_per_sec,
    out_per_sec, to_control_per_sec, refused_per_sec, refused [{reason, per_sec}], wakeups_per_sec,
    batches_per_sec, batch_mean, batches [{size, share}], gathered_in, gathered_out,
    ring_to_control, ring_to_worker, socket_overflows_per_sec, spread, relay_ports,
    frames}],
  cores [{core, to_peer_per_sec, to_client_per_sec, refused_per_sec, punted_per_sec}],
  threads [{thread, cpu, waiting}]
  where to_peer and to_client are {packets_per_sec, bytes_per_sec}, ring_* are {waiting_bytes,
  peak_bytes, size_bytes}, frames (null without AF_XDP) is {queues, zero_copy, free,
  held, receiving, sending, set_aside, batches_per_sec, batch_mean, batches [{size, share}],
  forwarded_per_sec, datagrams_per_sec, refused_per_sec, tx_full_per_sec,
  rx_ring_full_per_sec, rx_dropped_per_sec, fill_ring_empty_per_sec, wakeups_per_sec},
  and a cpu of 1 is a whole core. A reading that failed, after one that did not,
  is {schema, unix, error}.

A relay that is gone may come back: only after ten readings in a row that failed does this end, with
exit status 1.";

/// # Errors
/// It is not from a tenth of a second to an hour.
fn interval(text: &str) -> Result<Duration, String> {
    let secs: Option<f64> = text.parse().ok().filter(|secs| (0.1..=3600.0).contains(secs));
    secs.map(Duration::from_secs_f64).ok_or_else(|| "seconds from 0.1 to 3600".to_owned())
}

/// Shows frames until it is told to end, or one of them with `--once`.
///
/// # Errors
/// The admin server does not answer or is not Turnwire's; or what is shown cannot be written.
pub fn run(args: &TopArgs) -> anyhow::Result<()> {
    let before = fetch::scrape(&args.admin)?;
    let mut wait = Wait::new().context("cannot wait for signals")?;
    let mut screen = Screen::new(args);
    match watch(args, before, &mut wait, &mut screen) {
        // whoever reads has seen enough
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn watch(
    args: &TopArgs,
    mut before: Scrape,
    wait: &mut Wait,
    screen: &mut Screen,
) -> anyhow::Result<()> {
    let mut next = monotonic() + args.interval;
    let (mut shown, mut failures) = (None, 0);
    loop {
        match wait.until(next)? {
            Woken::End => return Ok(()),
            Woken::Resized => {
                if let Some(shown) = &shown {
                    screen.show(shown)?;
                }
                continue;
            }
            Woken::Time => {}
        }
        // what was missed is not made up for
        next = (next + args.interval).max(monotonic());
        let shot = match fetch::scrape(&args.admin) {
            Ok(now) => {
                failures = 0;
                let frame = Frame::new(&Interval::new(&before, &now), clock::unix());
                before = now;
                Shot::Frame(Box::new(frame))
            }
            Err(error) => {
                failures += 1;
                if args.once || failures == FAILURES_MAX {
                    return Err(error);
                }
                Shot::Failed(format!("{error:#}"))
            }
        };
        screen.show(&shot)?;
        if args.once {
            return Ok(());
        }
        shown = Some(shot);
    }
}

/// What one interval gave.
enum Shot {
    Frame(Box<Frame>),
    Failed(String),
}

/// Standard output: a terminal that is drawn anew for each frame and given back at the end, or
/// lines one after the other.
struct Screen {
    json: bool,
    only: Vec<Part>,
    /// Frames replace each other.
    redraw: bool,
}

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

impl Screen {
    fn new(args: &TopArgs) -> Screen {
        let redraw = !args.once && !args.json && io::stdout().is_terminal();
        if redraw {
            // the first frame tells whether it can be written
            let _ = write!(io::stdout(), "{ENTER}\x1b[Hthe first frame comes after an interval");
            let _ = io::stdout().flush();
        }
        Screen { json: args.json, only: args.only.clone(), redraw }
    }

    fn show(&self, shot: &Shot) -> anyhow::Result<()> {
        let text = match shot {
            Shot::Frame(frame) if self.json => serde_json::to_string(frame)? + "\n",
            Shot::Failed(error) if self.json => {
                let unix = rates::rounded(clock::unix().as_secs_f64());
                let error = serde_json::json!({ "schema": SCHEMA, "unix": unix, "error": error });
                format!("{error}\n")
            }
            Shot::Frame(frame) => self.text(&text::lines(frame, self.room(), &self.only)),
            Shot::Failed(error) => self.text(&[format!("no frame: {error}")]),
        };
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(())
    }

    /// The terminal's size, read anew for each frame.
    fn room(&self) -> Room {
        let size = sys::terminal_size(io::stdout().as_fd());
        let columns = size.map_or(COLUMNS_MIN, |(columns, _)| columns.max(1));
        let lines = size.filter(|_| self.redraw).map(|(_, lines)| lines.max(2) - 1);
        Room { columns, lines }
    }

    fn text(&self, lines: &[String]) -> String {
        if self.redraw {
            // over the old frame, line by line, so that nothing flickers
            let lines: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K\r\n")).collect();
            format!("\x1b[H{}\x1b[J", lines.concat())
        } else {
            lines.join("\n") + "\n\n"
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.redraw {
            // there is nobody to tell when the terminal is gone
            let _ = write!(io::stdout(), "{LEAVE}");
            let _ = io::stdout().flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_from_a_tenth_of_a_second_to_an_hour() {
        assert_eq!(interval("0.1"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("3600"), Ok(Duration::from_secs(3600)));
        for wrong in ["0", "0.05", "-1", "NaN", "inf", "3601", "two", ""] {
            assert_eq!(interval(wrong), Err("seconds from 0.1 to 3600".to_owned()), "{wrong}");
        }
    }
}
