//! The named limits of the server: what it holds, and what it says to strangers.

mod budget;
mod quota;

pub(crate) use budget::{Bucket, Budgets};
pub use budget::{Budget, Exhausted, Rate};
pub(crate) use quota::{Quota, prefix_of};

/// How much the server holds. Reaching a limit is a refusal with a reason, never growth.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Allocations in all; one more is refused with 508. A dual allocation counts as one.
    pub allocations: usize,
    /// Channels in all, cooling ones included; one more is refused with 508.
    pub channels: usize,
    /// Allocations, and reserved ports, that a user may hold at once; one more is refused with
    /// 486. `None`: as many as there are.
    pub allocations_per_user: Option<usize>,
    /// Allocations from one client network (IPv4 /24, IPv6 /48) at once; one more is refused
    /// with 486. `None`: as many as there are.
    pub allocations_per_prefix: Option<usize>,
    /// Permissions of one allocation, for each of its families; one more is refused with 508.
    pub permissions_per_allocation: usize,
    /// Channels of one allocation, cooling ones included, for each of its families; one more is
    /// refused with 508.
    pub channels_per_allocation: usize,
    /// Ports held for a RESERVATION-TOKEN in all; one more is refused with 508.
    pub reservations: usize,
    /// TCP connections to peers (RFC 6062) of one allocation, from the moment they are asked for;
    /// one more is refused with 486, or closed if the peer made it.
    pub connections_per_allocation: usize,
    /// TCP connections to peers in all; one more is refused with 508, or closed.
    pub connections: usize,
    /// Error answers to requests that are not authenticated.
    pub unauthenticated: Budget,
    /// Answers to Binding requests that ask for another source or port, or for padding (RFC 5780).
    pub nat_discovery: Budget,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            allocations: 65_536,
            channels: 65_536,
            allocations_per_user: None,
            allocations_per_prefix: None,
            permissions_per_allocation: 256,
            channels_per_allocation: 256,
            reservations: 1024,
            connections_per_allocation: 16,
            connections: 4096,
            unauthenticated: Budget::default(),
            nat_discovery: Budget::discovery(),
        }
    }
}
