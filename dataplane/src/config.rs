//! What a data plane is started with, and why it may not start.

use crate::link::Offload;
use crate::link::socket::BufferSizes;
use crate::session::{Identity, IdentityError};
use ipnet::IpNet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
    /// Entries in the workers' table for Send and Data indications, one for each relayed address of
    /// a UDP client and one for each of its permissions; at most 4,194,304. Address space of 136
    /// bytes each, resident only as far as they were ever used.
    pub permits_max: usize,
    /// Relay ports open at once, at most 524,288.
    pub ports_max: usize,
    /// Datagrams of 444 bytes (512 with their envelope) that each ring between a worker and the
    /// control thread holds; fewer longer ones, more shorter ones. At least 256 of them.
    pub ring_len: usize,
    /// Clients over TCP, TLS and DTLS.
    pub sessions: Sessions,
}

/// Where TCP, TLS and DTLS clients are listened for, and what they are allowed. With no address at
/// all there are no session threads.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    /// Addresses for TCP. One that is also in `tls_listen` takes both: the first byte tells.
    pub tcp_listen: Vec<SocketAddr>,
    /// Addresses for TLS over TCP. They need an identity.
    pub tls_listen: Vec<SocketAddr>,
    /// Addresses for DTLS over UDP. They need an identity with an ECDSA key. One that is also in
    /// [`Config::listen`] takes both: the first byte tells (RFC 7983).
    pub dtls_listen: Vec<SocketAddr>,
    /// Certificate and key for TLS and DTLS.
    pub identity: Option<Arc<Identity>>,
    /// Load balancers that speak PROXY protocol version 2 on TCP connections: from these sources it
    /// is required, from others it is refused as any other message that is not STUN.
    pub proxy_sources: Vec<IpNet>,
    /// Everything that is bounded.
    pub limits: SessionLimits,
    /// How long things may take.
    pub timers: SessionTimers,
}

/// What the session threads hold at most.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// TCP connections (TLS among them) on all threads together.
    pub connections: usize,
    /// TCP connections on one thread.
    pub connections_per_thread: usize,
    /// TCP connections and DTLS associations from one source on one thread: an IPv4 address, or the
    /// /64 of an IPv6 address. Load balancers count as the clients that they name.
    pub connections_per_source: usize,
    /// DTLS associations on one thread.
    pub associations_per_thread: usize,
    /// DTLS handshakes that have not ended on one thread; the oldest makes room for one more.
    pub half_open_per_thread: usize,
    /// DTLS handshakes that have not ended from one source on one thread.
    pub half_open_per_source: usize,
    /// Bytes that wait to be sent to one client; what is over is dropped.
    pub queue_bytes: usize,
    /// Messages that wait to be sent to one client; what is over is dropped.
    pub queue_frames: usize,
    /// Channels of one client.
    pub channels_per_client: usize,
}

impl Default for SessionLimits {
    /// A queue holds the burst of a key frame, and little enough that a slow client loses old
    /// datagrams rather than be seconds behind.
    fn default() -> Self {
        Self {
            connections: 100_000,
            connections_per_thread: 50_000,
            connections_per_source: 20_000,
            associations_per_thread: 50_000,
            half_open_per_thread: 2_000,
            half_open_per_source: 200,
            queue_bytes: 256 << 10,
            queue_frames: 1024,
            channels_per_client: 1024,
        }
    }
}

/// How long the clients of session threads may take for what.
#[derive(Clone, Copy, Debug)]
pub struct SessionTimers {
    /// For the PROXY header and the TLS or DTLS handshake, from the connection's start.
    pub handshake: Duration,
    /// For the first message, from then on.
    pub first_message: Duration,
    /// For a message that has begun to be whole.
    pub message: Duration,
    /// Without a message from a client that has no allocation.
    pub idle: Duration,
    /// Without a message from a client that has or had an allocation: longer than any lifetime,
    /// within which it must refresh.
    pub idle_allocated: Duration,
    /// While something waits to be sent and the client takes none of it.
    pub write_stall: Duration,
    /// Without a byte either way between two spliced connections.
    pub splice_idle: Duration,
}

impl Default for SessionTimers {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            first_message: Duration::from_secs(10),
            message: Duration::from_secs(20),
            idle: Duration::from_secs(120),
            idle_allocated: Duration::from_secs(3900),
            write_stall: Duration::from_secs(30),
            splice_idle: Duration::from_secs(600),
        }
    }
}

/// Most lanes of all workers and addresses together: with many workers each has few clients anyway.
const LANES_MAX: usize = 1024;

/// The share of a process's descriptors that lanes may take: relay ports need the others.
const LANES_SHARE: usize = 8;

/// Descriptors that lanes take at most, see [`Tuning::lanes`], in a process that may have so many.
pub fn lanes_max(descriptors: usize) -> usize {
    LANES_MAX.min(descriptors / LANES_SHARE)
}

/// What rarely has to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Tuning {
    /// Socket buffers of each listener.
    pub listener: BufferSizes,
    /// Further sockets of each worker on each listening address, over which the kernel spreads clients
    /// while a worker is behind. Fewer where all workers' would be more than [`lanes_max`]; none where
    /// one cannot be bound.
    pub lanes: usize,
    /// Socket buffers of each of them.
    pub lane: BufferSizes,
    /// Socket buffers of each relay port.
    pub relay: BufferSizes,
    /// Datagrams that one system call moves, 1 to 64.
    pub batch_len: usize,
    /// Longest payload that is received whole, bytes; longer ones are refused as truncated.
    pub datagram_max: usize,
    /// What the kernel is asked to do for many datagrams at once. It merges what it receives only
    /// where `datagram_max` is as long as any datagram.
    pub offload: Offload,
    /// Whether workers forward Send and Data indications; else all go by the control thread.
    pub indications: bool,
    /// How long a worker that would sleep polls its devices first (SO_BUSY_POLL), in whole
    /// microseconds; zero for not at all.
    pub busy_poll: Duration,
}

impl Default for Tuning {
    /// 4 MiB for a listener, which all clients share; 128 lanes of 1 MiB, so that a batch takes
    /// all that a few clients have sent; 2 MiB for a relay port, which takes what comes while its worker
    /// is busy elsewhere: some 900 frames of a page each, as drivers account for them. (One flow of such
    /// frames to a client went up to 101,000 a second without loss with 512 KiB, and to 916,000 with
    /// 2 MiB.) Floods on many ports end at the kernel's `udp_mem`. Whole batches; any datagram there can be.
    fn default() -> Self {
        let sizes = |bytes| BufferSizes { receive: bytes, send: bytes };
        Self {
            listener: sizes(4 << 20),
            lanes: 128,
            lane: sizes(1 << 20),
            relay: sizes(2 << 20),
            batch_len: crate::batch::BATCH_MAX,
            datagram_max: crate::batch::DATAGRAM_MAX,
            offload: Offload { receive: true, send: true },
            indications: true,
            busy_poll: Duration::ZERO,
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
    #[error("cannot listen by UDP on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A TCP listener could not be bound.
    #[error("cannot listen by TCP on {address}: {source}")]
    ListenTcp {
        /// The address asked for.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An address for TLS or DTLS, and nothing to show to its clients.
    #[error("{0} needs a certificate and a key")]
    NoIdentity(SocketAddr),
    /// The identity cannot be used for DTLS.
    #[error("{0}")]
    Identity(#[from] IdentityError),
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

/// Why a relay port did not open, or did not move.
#[derive(Debug, thiserror::Error)]
pub enum OpenPortError {
    /// The address is taken: try another port.
    #[error("the relay address is in use")]
    InUse,
    /// No descriptors, memory or slots are left; what is open stays open.
    #[error("no further relay port can be opened: descriptors, memory or slots are used up")]
    Exhausted,
    /// Of a move only: too many commands wait for one of the two owners. Nothing changed.
    #[error("a worker is behind with its commands")]
    Behind,
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
