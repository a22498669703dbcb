//! Clients over TCP, TLS and DTLS.

mod counters;
mod ending;
mod identity;

pub(crate) use counters::SessionCounters;
pub use counters::SessionSnapshot;
pub use ending::Ending;
pub use identity::{Identity, IdentityError};
