//! What a measurement is to be like, once everything written has been understood.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dial::Trust;
use serde::{Deserialize, Serialize};

use crate::mix::Mix;
use crate::plan::Shape;
use crate::server::{Login, Transport};

/// How clients wrap data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// ChannelData.
    Channel,
    /// Send and Data indications.
    Send,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Channel => "channel",
            Mode::Send => "send",
        })
    }
}

/// What makes the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    /// Sockets, both ways.
    Socket,
    /// An XDP program that sends, and one that receives.
    Kernel,
    /// AF_XDP sockets at this queue that send, and an XDP program that receives.
    AfXdp {
        /// Of each interface.
        queue: u32,
    },
}

impl fmt::Display for Generator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Generator::Socket => "socket",
            Generator::Kernel => "kernel",
            Generator::AfXdp { .. } => "af-xdp",
        })
    }
}

/// What is at the other end of the relayed addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerSide {
    /// Sockets of this process, at this address; `None`: the one that the server is reached from.
    Own(Option<IpAddr>),
    /// A `turnwire-load sink`.
    Sink(Vec<SocketAddr>),
    /// Relayed addresses of the same server.
    Relay,
}

impl PeerSide {
    /// As results say it.
    pub const fn name(&self) -> &'static str {
        match self {
            PeerSide::Own(_) => "own",
            PeerSide::Sink(_) => "sink",
            PeerSide::Relay => "relay",
        }
    }
}

/// What a measurement is to be like.
#[derive(Clone)]
pub struct Options {
    /// The server as it was written, for people.
    pub uri: String,
    /// Its address.
    pub server: SocketAddr,
    /// How it is talked to.
    pub transport: Transport,
    /// What TLS believes; there if and only if the transport is TLS.
    pub tls: Option<Arc<Trust>>,
    /// Who we are.
    pub login: Login,
    /// What makes the datagrams.
    pub generator: Generator,
    /// The interfaces of a generator that has no sockets.
    pub interfaces: Vec<String>,
    /// How many allocations, channels, directions.
    pub shape: Shape,
    /// How clients wrap data.
    pub mode: Mode,
    /// Payload lengths.
    pub mix: Mix,
    /// The other end.
    pub peer: PeerSide,
    /// The clients' own address; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
    /// Sessions with requests under way at once.
    pub in_flight: usize,
    /// Threads that send.
    pub senders: usize,
    /// Threads that receive.
    pub receivers: usize,
    /// Cores for the senders, then the receivers; empty: wherever.
    pub cores: Vec<usize>,
    /// Wait for what is due by spinning.
    pub spin: bool,
    /// Use UDP_SEGMENT and UDP_GRO.
    pub offload: bool,
    /// How long to wait for what is still under way after the last datagram.
    pub drain: Duration,
    /// The server's process; `None`: look for it.
    pub server_pid: Option<u32>,
}
