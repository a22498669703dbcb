//! TCP connections between a relayed transport address and peers (RFC 6062).
//!
//! ```text
//!  Connect ──> connecting ──Connected──> waiting ──ConnectionBind──> spliced ──> gone
//!                  │ 30 s: 447              ^ │ 30 s: closed
//!                  v                        │ v
//!               forgotten      Accepted ────┘ forgotten
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use crate::integrity::{Hash, Key};
use crate::message::TransactionId;
use crate::outbox::{Client, Origin, PeerConnection};

/// How long a connection to a peer may take to be made (RFC 6062 section 5.2: at least 30 s).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a peer's connection waits for its ConnectionBind (RFC 6062 sections 5.2 and 5.3: 30 s).
pub const BIND_TIMEOUT: Duration = Duration::from_secs(30);

/// One connection of an allocation.
#[derive(Debug)]
pub(crate) struct Connection {
    /// As the driver knows it.
    pub(crate) id: PeerConnection,
    /// CONNECTION-ID: as the client knows it, once it does.
    pub(crate) public: u32,
    pub(crate) peer: SocketAddr,
    pub(crate) state: State,
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum State {
    /// Being made; the request is answered when it stands.
    Connecting { until: Duration, request: Box<ConnectRequest> },
    /// Established, until its ConnectionBind.
    Waiting { until: Duration },
    /// One with the client's data connection.
    Spliced { client: Client, origin: Origin },
}

/// A Connect request that is not answered yet.
#[derive(Debug)]
pub(crate) struct ConnectRequest {
    pub(crate) client: Client,
    pub(crate) origin: Origin,
    pub(crate) transaction: TransactionId,
    pub(crate) key: Key,
    pub(crate) hash: Hash,
}

impl Connection {
    /// When it ends by itself.
    pub(crate) fn until(&self) -> Option<Duration> {
        match self.state {
            State::Connecting { until, .. } | State::Waiting { until } => Some(until),
            State::Spliced { .. } => None,
        }
    }
}
