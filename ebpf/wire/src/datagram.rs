//! A received UDP datagram as `decide` sees it, whatever it came in.

use crate::Address;
use zerocopy::network_endian::U16;

/// Addresses, length, first bytes and TTL of a received UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram {
    /// Source IP address.
    pub remote: Address,
    /// Destination IP address.
    pub local: Address,
    /// Source port.
    pub remote_port: U16,
    /// Destination port.
    pub local_port: U16,
    /// Payload, bytes.
    pub size: u16,
    /// The payload's first four bytes; zero where it is shorter.
    pub head: [u8; 4],
    /// TTL or hop limit as received.
    pub ttl: u8,
}
