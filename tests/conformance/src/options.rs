//! What a run is told.

use std::net::IpAddr;
use std::time::Duration;

use dial::Dialer;
use ipnet::IpNet;

/// A user of the server.
#[derive(Clone, Debug)]
pub struct Login {
    /// Prepared already (RFC 8265).
    pub user: String,
    /// Prepared already (RFC 8265).
    pub password: String,
}

/// Everything that a check may depend on.
#[derive(Clone, Debug)]
pub struct Options {
    /// How to reach the server.
    pub dialer: Dialer,
    /// Who we are.
    pub login: Login,
    /// Somebody else, for 441.
    pub other: Option<Login>,
    /// Where our peers are.
    pub peer_ip: IpAddr,
    /// Ranges that this server allows as peers beyond the policy `public`.
    pub allowed: Vec<IpNet>,
    /// Allocations that the user may hold at once, if the server was told so.
    pub quota: Option<usize>,
    /// Run what takes minutes, too.
    pub slow: bool,
    /// Of everything that is sampled.
    pub seed: u64,
    /// How long after the next answer something unwanted may still arrive.
    pub grace: Duration,
}
