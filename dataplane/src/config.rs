//! What a data plane is started with, and why it may not start.

use crate::link::socket::BufferSizes;
use std::io;
use std::net::SocketAddr;

/// How many workers, where they listen, and the size of everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// One worker each, pinned to this core; when empty, one unpinned worker for every core.
    pub cores: Vec<usize>,
    /// Addresses that clients send to; `0.0.0.0` and `[::]` stand for all of their family. Port 0
    /// lets the kernel choose.
    pub listen: Vec<SocketAddr>,
    /// Channels in the route table.
    pub routes_max: usize,
    /// Relay ports open at once, at most 524,288.
    pub ports_max: usize,
    /// Datagrams of 444 bytes (512 with their envelope) that each ring between a worker and the
    /// control thread holds; fewer longer ones, more shorter ones. At least 256 of them.
    pub ring_len: usize,
}

/// What rarely has to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Socket buffers of each listener.
    pub listener: BufferSizes,
    /// Socket buffers of each relay port.
    pub relay: BufferSizes,
    /// Datagrams that one system call moves, 1 to 64.
    pub batch_len: usize,
    /// Longest payload that is received whole, bytes; longer ones are refused as truncated.
    pub datagram_max: usize,
}

impl Default for Tuning {
    /// 4 MiB for a listener, which all clients share; 512 KiB for a relay port, which takes the
    /// burst of a key frame while its worker is busy elsewhere, and is little enough that floods on
    /// many ports do not fill the host; whole batches; any datagram there can be.
    fn default() -> Self {
        let sizes = |bytes| BufferSizes { receive: bytes, send: bytes };
        Self {
            listener: sizes(4 << 20),
            relay: sizes(512 << 10),
            batch_len: crate::batch::BATCH_MAX,
            datagram_max: crate::batch::DATAGRAM_MAX,
        }
    }
}

/// Why a data plane did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is nothing to listen on.
    #[error("no listening address is given")]
    NoListener,
    /// More workers than can be told apart.
    #[error("{0} workers are too many: at most 65,535")]
    TooManyWorkers(usize),
    /// A listener could not be bound.
    #[error("cannot listen on UDP address {}, port {}: {source}", address.ip(), address.port())]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A worker's poller or thread could not be made.
    #[error("cannot start worker {worker}: {source}")]
    Worker {
        /// Its index.
        worker: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// Why a relay port did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenPortError {
    /// The address is taken: try another port.
    #[error("the relay address is in use")]
    InUse,
    /// No descriptors, memory or slots are left; what is open stays open.
    #[error("no further relay port can be opened: descriptors, memory or slots are used up")]
    Exhausted,
    /// Anything else, such as an address that is not this host's.
    #[error("cannot open the relay port: {0}")]
    Io(#[from] io::Error),
}

impl OpenPortError {
    /// What an error of making, binding or registering a relay socket means.
    pub(crate) fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse,
            // ENOSPC: the user's limit of polled descriptors
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::ENOSPC) => {
                Self::Exhausted
            }
            _ => Self::Io(error),
        }
    }
}
