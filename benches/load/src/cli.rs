//! The command line, and what it means.

mod meaning;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::mix::Mix;
use crate::options::Mode;
use crate::server::{Transport, Uri};

const SECRETS_HELP: &str = "\
Secrets:
  Flags appear in process lists. TURNWIRE_LOAD_PASSWORD and TURNWIRE_LOAD_AUTH_SECRET do not.

Exit status:
  0 when it was measured as asked, also when Ctrl-C ended it early; 1 when something failed. What
  was measured until then is written all the same.";

/// Measures TURN relays: datagrams a second, loss and latency, over the public protocol.
#[derive(Debug, Parser)]
#[command(name = "turnwire-load", version, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send at one rate for some time
    #[command(after_help = SECRETS_HELP)]
    Run(Box<RunArgs>),
    /// Find the highest rate with no more than so much loss
    #[command(after_help = SECRETS_HELP)]
    Search(Box<SearchArgs>),
    /// Allocate, bind, refresh and delete again and again
    #[command(after_help = SECRETS_HELP)]
    Churn(Box<ChurnArgs>),
    /// Be the peer of runs on other hosts: count, check, and send when asked to
    Sink(SinkArgs),
    /// Put results side by side
    Compare(CompareArgs),
}

/// The flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// Datagrams a second, both directions together, or max
    #[arg(long, value_name = "PPS|max", default_value = "10000")]
    pub(crate) rate: Rate,
    /// How long to send
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = secs)]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The flags of `search`.
#[derive(Debug, Args)]
pub struct SearchArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    /// How much of what is sent may be undelivered, as ratios; one search for each
    #[arg(long, value_name = "LIST", default_value = "0.001,0", value_delimiter = ',',
          value_parser = ratio)]
    pub(crate) loss: Vec<f64>,
    /// The rate to begin with
    #[arg(long, value_name = "PPS", default_value = "10000")]
    pub(crate) from: Rate,
    /// The highest rate to try
    #[arg(long, value_name = "PPS", default_value = "10000000")]
    pub(crate) up_to: Rate,
    /// Length of a trial
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = secs)]
    pub(crate) trial: Duration,
    /// How near to come, as a ratio
    #[arg(long, value_name = "RATIO", default_value = "0.03", value_parser = ratio)]
    pub(crate) precision: f64,
    /// How often the rate that was found must hold again
    #[arg(long, value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) confirm: u32,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The flags of `churn`.
#[derive(Debug, Args)]
pub struct ChurnArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Lives begun a second, or max: as many as --in-flight lets through
    #[arg(long, value_name = "N|max", default_value = "max")]
    pub(crate) rate: Rate,
    /// Channels bound in each life (in mode send: permissions installed)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) channels_per_allocation: usize,
    /// Refreshes in each life
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub(crate) refreshes: u16,
    /// Channels, or permissions alone
    #[arg(long, value_enum, default_value_t = Mode::Channel)]
    pub(crate) mode: Mode,
    /// Address of the peers that channels are bound to; nothing is sent there [default: ours]
    #[arg(long, value_name = "ADDR")]
    pub(crate) peer_ip: Option<IpAddr>,
    /// For how long lives are begun
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = secs)]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// The flags of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Results in JSON, the one to compare with first; those of one label are merged
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Write the comparison as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// The flags of `sink`.
#[derive(Debug, Args)]
pub struct SinkArgs {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT", default_value = "0.0.0.0:3490")]
    pub(crate) listen: SocketAddr,
    /// Ports: that one and those above it, one for each channel of an allocation
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) ports: u16,
    /// Most datagrams a second that a run may ask for
    #[arg(long, value_name = "PPS", default_value = "1000000")]
    pub(crate) rate_max: Rate,
    /// No progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// The server, and who we are.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The server: turn:HOST[:PORT][?transport=udp|tcp], turns:HOST[:PORT] or HOST[:PORT]
    #[arg(long, value_name = "URI")]
    pub(crate) server: Uri,
    /// User
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The user's password
    #[arg(long, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// The server's REST secret, from which time-limited credentials are made
    #[arg(long, value_name = "SECRET")]
    pub(crate) auth_secret: Option<String>,
    /// How to talk to the server [default: as the URI says, else udp]
    #[arg(long, value_enum)]
    pub(crate) transport: Option<Transport>,
    /// Certificates to believe, in PEM [default: the system's]
    #[arg(long, value_name = "FILE", conflicts_with = "tls_insecure")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    pub(crate) tls_insecure: bool,
    /// Address of this host that clients use [default: the kernel's choice]
    #[arg(long, value_name = "ADDR")]
    pub(crate) local_ip: Option<IpAddr>,
    /// Allocations with requests under way at once
    #[arg(long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) in_flight: u16,
    /// The server's process, for its CPU time [default: the one that listens there, if it is here]
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
}

/// What is sent.
#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Allocations
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) allocations: usize,
    /// Channels of each allocation (in mode send: peers)
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) channels_per_allocation: usize,
    /// Payload in bytes, 20 to 9000: one, a list (20,160,1160), or a list by weight (160:8,1160:2)
    #[arg(long, value_name = "BYTES|MIX", default_value = "160")]
    pub(crate) payload: Mix,
    /// Which way
    #[arg(long, value_enum, default_value_t = Way::ToPeer)]
    pub(crate) direction: Way,
    /// How clients wrap data
    #[arg(long, value_enum, default_value_t = Mode::Channel)]
    pub(crate) mode: Mode,
    /// Between relayed addresses of the server, in place of peers
    #[arg(long)]
    pub(crate) relay_to_relay: bool,
    /// A turnwire-load sink, in place of peers of our own; further channels use the ports above;
    /// repeatable
    #[arg(long, value_name = "ADDR:PORT", conflicts_with = "relay_to_relay")]
    pub(crate) peer: Vec<SocketAddr>,
    /// Address at which this process opens its own peers [default: as the clients']
    #[arg(long, value_name = "ADDR", conflicts_with_all = ["relay_to_relay", "peer"])]
    pub(crate) peer_ip: Option<IpAddr>,
    /// What makes the datagrams
    #[arg(long, value_enum, default_value_t = GeneratorKind::Socket)]
    pub(crate) generator: GeneratorKind,
    /// With --generator kernel or af-xdp: the interface by which the server, and its relayed
    /// addresses, are reached; a list if they are reached by several
    #[arg(long, value_name = "DEV", value_delimiter = ',')]
    pub(crate) interface: Vec<String>,
    /// With --generator af-xdp: the interface's transmit queue
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) queue: u32,
    /// Threads that send
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) senders: u16,
    /// Threads that receive
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) receivers: u16,
    /// Cores to pin the senders (or the generator without sockets), then the receivers to
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,
    /// Wait for what is due by spinning: more precise, and takes a core, as the generator in the
    /// kernel always does
    #[arg(long)]
    pub(crate) spin: bool,
    /// Let the kernel carry trains of datagrams (UDP_SEGMENT, UDP_GRO): on loopback and veth the
    /// relay then sees trains too, which flatters it
    #[arg(long)]
    pub(crate) offload: bool,
    /// How long to wait, at most, for what is under way at the end
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = secs)]
    pub(crate) drain: Duration,
}

/// Where the result goes.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Write the result as JSON; - is standard output, in place of the summary
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Write the result as one HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// What comparisons call this result [default: the server]
    #[arg(long, value_name = "TEXT")]
    pub(crate) label: Option<String>,
    /// No progress
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// Generators, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GeneratorKind {
    /// UDP, TCP or TLS sockets: no privilege, any transport, any interface
    Socket,
    /// An XDP program that paces itself and sends frames, and one that checks and counts them:
    /// millions a second from one core. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and a driver
    /// that takes redirected frames (ndo_xdp_xmit)
    Kernel,
    /// AF_XDP sockets that send, without copies where the driver can, and the same XDP program that
    /// checks and counts. Needs CAP_NET_RAW too
    AfXdp,
}

/// Directions, as they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// From clients to peers.
    ToPeer,
    /// From peers to clients.
    ToClient,
    /// Half each.
    Both,
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Way::ToPeer => "to-peer",
            Way::ToClient => "to-client",
            Way::Both => "both",
        }
    }
}

/// Datagrams a second, or as many as go.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub(crate) Option<f64>);

impl std::str::FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "max" {
            return Ok(Rate(None));
        }
        match text.replace([',', '_'], "").parse::<f64>() {
            Ok(rate) if (0.1..=1e9).contains(&rate) => Ok(Rate(Some(rate))),
            _ => Err("a rate is max, or between 0.1 and 1,000,000,000 a second".to_owned()),
        }
    }
}

/// A part of one.
fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..1.0).contains(&ratio) => Ok(ratio),
        _ => Err("a ratio is at least 0 and below 1: 0.001 is 0.1 %".to_owned()),
    }
}

/// Seconds, with a fraction.
pub(crate) fn secs(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(secs) if (0.01..=864_000.0).contains(&secs) => Ok(Duration::from_secs_f64(secs)),
        _ => Err("seconds are between 0.01 and 864,000".to_owned()),
    }
}

/// The command line without its secrets, for results.
pub fn redacted(words: impl IntoIterator<Item = String>) -> Vec<String> {
    const SECRETS: [&str; 2] = ["--password", "--auth-secret"];
    let mut hide = false;
    let word = |word: String| {
        if std::mem::take(&mut hide) {
            return "REDACTED".to_owned();
        }
        hide = SECRETS.contains(&word.as_str());
        match word.split_once('=') {
            Some((flag, _)) if SECRETS.contains(&flag) => format!("{flag}=REDACTED"),
            _ => word,
        }
    };
    words.into_iter().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn secrets_do_not_reach_results() {
        let words = ["x", "--password", "p", "--auth-secret=s", "--user", "u"].map(String::from);
        let expected = ["x", "--password", "REDACTED", "--auth-secret=REDACTED", "--user", "u"];
        assert_eq!(redacted(words), expected);
    }

    #[test]
    fn rates_and_times_are_refused_in_words() {
        assert_eq!("max".parse(), Ok(Rate(None)));
        assert_eq!("1_000,000".parse(), Ok(Rate(Some(1e6))));
        for text in ["0", "-1", "x", "inf", "NaN"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!(secs("0").is_err() && secs("NaN").is_err() && secs("1.5").is_ok());
    }
}
