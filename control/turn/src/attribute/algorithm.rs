//! PASSWORD-ALGORITHM and PASSWORD-ALGORITHMS (RFC 8489 sections 14.11, 14.12 and 18.5).
//!
//! ```text
//! +-------------------------------+-------------------------------+
//! |          Algorithm            |       Parameters Length       |   once, or as a list
//! +-------------------------------+-------------------------------+
//! |              Parameters, padded to 4 bytes                    |
//! +---------------------------------------------------------------+
//! ```
//!
//! Both registered algorithms have no parameters. An unknown entry in the list is kept and
//! skipped over: a client takes the first entry that it supports.

use super::Fault;

/// How a password becomes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PasswordAlgorithm {
    /// 0x0001: key = MD5(username ":" realm ":" password), 16 bytes.
    Md5,
    /// 0x0002: key = SHA-256(username ":" realm ":" password), 32 bytes.
    Sha256,
}

impl PasswordAlgorithm {
    /// The registered number.
    pub const fn number(self) -> u16 {
        match self {
            PasswordAlgorithm::Md5 => 1,
            PasswordAlgorithm::Sha256 => 2,
        }
    }

    /// The algorithm with this number, if this crate supports it.
    pub const fn from_number(number: u16) -> Option<PasswordAlgorithm> {
        match number {
            1 => Some(PasswordAlgorithm::Md5),
            2 => Some(PasswordAlgorithm::Sha256),
            _ => None,
        }
    }

    /// The value of a PASSWORD-ALGORITHM attribute, and one entry of PASSWORD-ALGORITHMS.
    pub(crate) const fn encode(self) -> [u8; 4] {
        let [high, low] = self.number().to_be_bytes();
        [high, low, 0, 0]
    }

    /// Reads the value of PASSWORD-ALGORITHM. `None` is an algorithm that this crate does not
    /// support, or a supported one with parameters, which none of them has.
    pub(crate) fn decode(value: &[u8]) -> Result<Option<PasswordAlgorithm>, Fault> {
        let (entry, rest) = split_entry(value)?;
        if rest.is_empty() { Ok(entry.algorithm()) } else { Err(Fault::Length(value.len())) }
    }
}

/// The value of a PASSWORD-ALGORITHMS attribute, checked to be well formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PasswordAlgorithms<'a> {
    value: &'a [u8],
}

impl<'a> PasswordAlgorithms<'a> {
    pub(crate) fn decode(value: &'a [u8]) -> Result<Self, Fault> {
        if value.is_empty() {
            return Err(Fault::Length(0));
        }
        let mut rest = value;
        while !rest.is_empty() {
            rest = split_entry(rest)?.1;
        }
        Ok(Self { value })
    }

    /// The bytes as they came: a client echoes exactly these.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.value
    }

    /// The entries in the server's order of preference; `None` for one that this crate does not
    /// support.
    pub fn iter(&self) -> impl Iterator<Item = Option<PasswordAlgorithm>> + use<'a> {
        let mut rest = self.value;
        std::iter::from_fn(move || {
            // `decode` has walked the list: an error here can only be its end.
            let (entry, tail) = split_entry(rest).ok()?;
            rest = tail;
            Some(entry.algorithm())
        })
    }

    /// The first entry that this crate supports (RFC 8489 section 9.2.5).
    pub fn first_supported(&self) -> Option<PasswordAlgorithm> {
        self.iter().flatten().next()
    }

    /// Whether this is, byte for byte, the list that a server offering `offered` sends
    /// (RFC 8489 section 9.2.4).
    pub fn is_echo_of(&self, offered: &[PasswordAlgorithm]) -> bool {
        self.value.len() == 4 * offered.len()
            && self.value.chunks_exact(4).zip(offered).all(|(entry, own)| entry == own.encode())
    }
}

struct Entry<'a> {
    number: u16,
    parameters: &'a [u8],
}

impl Entry<'_> {
    fn algorithm(&self) -> Option<PasswordAlgorithm> {
        PasswordAlgorithm::from_number(self.number).filter(|_| self.parameters.is_empty())
    }
}

/// The first entry of `list` and what follows it. The padding of the last entry may be missing:
/// some senders count it as the attribute's own.
fn split_entry(list: &[u8]) -> Result<(Entry<'_>, &[u8]), Fault> {
    let Some((&[number_high, number_low, len_high, len_low], rest)) = list.split_first_chunk::<4>()
    else {
        return Err(Fault::Length(list.len()));
    };
    let len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let parameters = rest.get(..len).ok_or(Fault::Parameters)?;
    let rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    Ok((Entry { number: u16::from_be_bytes([number_high, number_low]), parameters }, rest))
}
