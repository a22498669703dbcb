//! Why a request failed, in one line.

use std::fmt;
use std::net::SocketAddr;

use turn::attribute::Code;
use turn::client::Failure;

use super::Kind;
use crate::server::Transport;

/// The cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The server's error response.
    Refused(Code),
    /// No answer, however often it was asked.
    Silence,
    /// Nobody listens there.
    Unreachable(String),
    /// The server closed the connection.
    Closed,
    /// Answers that are not signed with our key.
    Integrity,
    /// Anything else.
    Other(String),
}

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlError {
    /// What was asked for.
    pub kind: Kind,
    /// For which allocation, counted from 0.
    pub session: usize,
    /// The server.
    pub server: SocketAddr,
    /// How it was asked.
    pub transport: Transport,
    /// The cause.
    pub why: Why,
}

impl ControlError {
    /// The STUN error code, if the server gave one.
    pub fn code(&self) -> Option<u16> {
        match self.why {
            Why::Refused(code) => Some(code.value()),
            _ => None,
        }
    }
}

impl ControlError {
    /// Whether the server says that our address has an allocation already: it remembers whoever
    /// had this port before.
    pub fn is_port_taken(&self) -> bool {
        self.kind == Kind::Allocate && self.why == Why::Refused(Code::ALLOCATION_MISMATCH)
    }
}

impl From<Failure> for Why {
    fn from(failure: Failure) -> Why {
        match failure {
            Failure::Error { code, .. } => Why::Refused(code),
            Failure::Timeout => Why::Silence,
            Failure::Integrity => Why::Integrity,
            Failure::Response(what) => Why::Other(what.to_owned()),
            Failure::Malformed(malformed) => Why::Other(format!("a malformed answer: {malformed}")),
            Failure::Algorithms => {
                Why::Other("the server offers no password algorithm that we know".to_owned())
            }
            Failure::Build(error) => Why::Other(format!("the request cannot be written: {error}")),
        }
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, session, server, transport, why } = self;
        let number = session + 1;
        match why {
            Why::Refused(code) => {
                write!(f, "the server {server} refused {kind} of allocation {number}: {code}")?;
                f.write_str(advice(*code))
            }
            Why::Silence => {
                write!(f, "the server {server} does not answer over {transport} ")?;
                write!(f, "({kind} of allocation {number})")
            }
            Why::Unreachable(error) => {
                write!(f, "the server {server} cannot be reached over {transport}: {error}")
            }
            Why::Closed => {
                write!(f, "the server {server} closed a {transport} connection ({kind})")
            }
            Why::Integrity => {
                write!(f, "the answers of {server} to {kind} of allocation {number} ")?;
                f.write_str("are not signed with this password")
            }
            Why::Other(text) => write!(f, "{kind} of allocation {number} at {server}: {text}"),
        }
    }
}

impl std::error::Error for ControlError {}

/// What to do about it.
fn advice(code: Code) -> &'static str {
    match code {
        Code::UNAUTHENTICATED => " (wrong user or password)",
        Code::FORBIDDEN => " (the server's policy does not allow this peer)",
        Code::ALLOCATION_QUOTA_REACHED => " (the user's quota is smaller than --allocations)",
        Code::INSUFFICIENT_CAPACITY => " (the server has reached one of its limits)",
        Code::PEER_ADDRESS_FAMILY_MISMATCH => " (the peer is of the other address family)",
        _ => "",
    }
}
