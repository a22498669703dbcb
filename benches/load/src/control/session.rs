//! One allocation: a TURN client, its link, and what it has been granted.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use turn::Random;
use turn::client::{Request, Retransmission, Settings, TurnClient};

use crate::link::Link;
use crate::server::{Login, Transport};

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Allocate.
    Allocate,
    /// Refresh.
    Refresh,
    /// Refresh with a lifetime of 0.
    Delete,
    /// CreatePermission.
    Permission,
    /// ChannelBind.
    Channel,
    /// Binding.
    Binding,
}

impl Kind {
    /// Of this request.
    pub fn of(request: &Request) -> Kind {
        match request {
            Request::Binding | Request::Discover(_) => Kind::Binding,
            Request::Allocate(_) => Kind::Allocate,
            Request::Refresh { lifetime_secs: Some(0), .. } => Kind::Delete,
            Request::Refresh { .. } | Request::Move { .. } => Kind::Refresh,
            Request::CreatePermission { .. } => Kind::Permission,
            Request::ChannelBind { .. }
            | Request::Connect { .. }
            | Request::ConnectionBind { .. } => Kind::Channel,
        }
    }

    /// As it is written in results.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Allocate => "allocate",
            Kind::Refresh => "refresh",
            Kind::Delete => "delete",
            Kind::Permission => "create-permission",
            Kind::Channel => "channel-bind",
            Kind::Binding => "binding",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Allocate => "Allocate",
            Kind::Refresh => "Refresh",
            Kind::Delete => "Refresh to 0",
            Kind::Permission => "CreatePermission",
            Kind::Channel => "ChannelBind",
            Kind::Binding => "Binding",
        })
    }
}

/// The operating system's randomness, for transaction ids.
struct System;

impl Random for System {
    fn fill(&mut self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the operating system gives random bytes");
    }
}

/// Given up after 5.5 s: 0, 0.5, 1.5, 3.5 s, and 2 s more.
const UDP: Retransmission =
    Retransmission { rto: Duration::from_millis(500), sends_max: 4, last_wait: 4 };
const STREAM: Retransmission =
    Retransmission { rto: Duration::from_millis(500), sends_max: 1, last_wait: 11 };

/// One allocation, or what will be one.
pub struct Session {
    pub(super) link: Arc<Link>,
    pub(super) client: TurnClient,
    pub(super) todo: VecDeque<Request>,
    /// Requests that the client has under way.
    pub(super) running: usize,
    /// When the oldest of them was started.
    pub(super) since: u64,
    pub(super) active: bool,
    /// The relayed transport address, while there is an allocation.
    pub relayed: Option<SocketAddr>,
    /// The lifetime that the server granted last.
    pub lifetime_secs: u32,
}

impl Session {
    pub(super) fn new(link: Arc<Link>, login: &Login, transport: Transport) -> Session {
        let mut settings = Settings::new(login.username.clone(), login.password.clone());
        let stream = transport != Transport::Udp;
        settings.retransmission = if stream { STREAM } else { UDP };
        settings.pad_channel_data = stream;
        // Clear words about what is wrong matter more here than who may have written them.
        settings.trust_unsigned_errors = true;
        Session {
            link,
            client: TurnClient::new(settings, Box::new(System)),
            todo: VecDeque::new(),
            running: 0,
            since: 0,
            active: false,
            relayed: None,
            lifetime_secs: 0,
        }
    }
}
