//! Transport addresses, plain and XORed (RFC 8489 sections 14.1 and 14.2).
//!
//! ```text
//! +---------------+---------------+-------------------------------+
//! |       0       | Family (1, 2) |             Port              |
//! +---------------+---------------+-------------------------------+
//! |                 Address (4 or 16 bytes)                       |
//! +---------------------------------------------------------------+
//! ```
//!
//! The XORed form masks the port with the cookie's first two bytes and the address with the
//! cookie followed by the transaction id, so that a NAT that rewrites addresses in payloads
//! finds none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Fault;
use crate::message::{MAGIC_COOKIE, TransactionId};

/// An IP address family as STUN writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4, 0x01.
    V4,
    /// IPv6, 0x02.
    V6,
}

impl Family {
    /// The code point: 1 or 2.
    pub const fn code(self) -> u8 {
        match self {
            Family::V4 => 1,
            Family::V6 => 2,
        }
    }

    /// The family with this code point.
    pub const fn from_code(code: u8) -> Result<Family, Fault> {
        match code {
            1 => Ok(Family::V4),
            2 => Ok(Family::V6),
            other => Err(Fault::Family(other)),
        }
    }

    /// The family of an address.
    pub const fn of(address: &IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// The bytes that an XORed IPv6 address is masked with; the first 4 mask an IPv4 address.
fn mask(transaction: TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE);
    mask[4..].copy_from_slice(&transaction.0);
    mask
}

/// Reads a plain transport address.
///
/// # Errors
/// [`Fault::Length`] unless 8 bytes for IPv4 or 20 for IPv6, [`Fault::Family`].
pub fn decode_address(value: &[u8]) -> Result<SocketAddr, Fault> {
    decode(value, &[0; 16])
}

/// Reads an XORed transport address.
///
/// # Errors
/// As [`decode_address`].
pub fn decode_xor_address(value: &[u8], transaction: TransactionId) -> Result<SocketAddr, Fault> {
    decode(value, &mask(transaction))
}

fn decode(value: &[u8], mask: &[u8; 16]) -> Result<SocketAddr, Fault> {
    let Some((&[_, family, port_high, port_low], address)) = value.split_first_chunk::<4>() else {
        return Err(Fault::Length(value.len()));
    };
    let ip = match Family::from_code(family)? {
        Family::V4 => IpAddr::V4(Ipv4Addr::from(unmask::<4>(address, mask, value.len())?)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(unmask::<16>(address, mask, value.len())?)),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes([port_high ^ mask[0], port_low ^ mask[1]])))
}

fn unmask<const N: usize>(address: &[u8], mask: &[u8; 16], len: usize) -> Result<[u8; N], Fault> {
    let mut bytes: [u8; N] = address.try_into().map_err(|_| Fault::Length(len))?;
    bytes.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    Ok(bytes)
}

/// The value of a plain transport address, and its length.
pub(crate) fn encode_address(address: SocketAddr) -> ([u8; 20], usize) {
    encode(address, &[0; 16])
}

/// The value of an XORed transport address, and its length.
pub(crate) fn encode_xor_address(
    address: SocketAddr,
    transaction: TransactionId,
) -> ([u8; 20], usize) {
    encode(address, &mask(transaction))
}

fn encode(address: SocketAddr, mask: &[u8; 16]) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    value[1] = Family::of(&address.ip()).code();
    value[2..4].copy_from_slice(&address.port().to_be_bytes());
    value[2] ^= mask[0];
    value[3] ^= mask[1];
    let len = match address.ip() {
        IpAddr::V4(ip) => {
            value[4..8].copy_from_slice(&ip.octets());
            8
        }
        IpAddr::V6(ip) => {
            value[4..20].copy_from_slice(&ip.octets());
            20
        }
    };
    value[4..len].iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    (value, len)
}
