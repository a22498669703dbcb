//! Reading: strict, since what a server sends has no excuse.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{COOKIE, FINGERPRINT_XOR, Hash, Id, attribute, hmac};

/// One attribute as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Its type.
    pub kind: u16,
    /// Its value, without padding.
    pub value: Vec<u8>,
    /// Where its header starts in the message.
    pub at: usize,
    /// Whether its padding, if any, is zero.
    pub padded_with_zeros: bool,
}

/// A message from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Class and method.
    pub kind: u16,
    /// The transaction.
    pub id: Id,
    /// In order.
    pub attributes: Vec<Attribute>,
    /// All of it.
    pub raw: Vec<u8>,
}

impl Answer {
    /// Reads a STUN message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(raw: &[u8]) -> Result<Self, String> {
        if raw.len() < 20 || raw[0] >> 6 != 0 {
            return Err("no STUN message".into());
        }
        let length = usize::from(u16::from_be_bytes([raw[2], raw[3]]));
        if length % 4 != 0 || length + 20 != raw.len() {
            return Err(format!("a length of {length} in a message of {} bytes", raw.len()));
        }
        if raw[4..8] != COOKIE {
            return Err("a wrong cookie".into());
        }
        let mut attributes = Vec::new();
        let mut at = 20;
        while at < raw.len() {
            let header = raw.get(at..at + 4).ok_or("an attribute that is cut short")?;
            let kind = u16::from_be_bytes([header[0], header[1]]);
            let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let end = at + 4 + len.next_multiple_of(4);
            let padded = raw
                .get(at + 4..end)
                .ok_or_else(|| format!("attribute {kind:#06x} runs over the end"))?;
            let (value, padding) = padded.split_at(len);
            attributes.push(Attribute {
                kind,
                value: value.to_vec(),
                at,
                padded_with_zeros: padding.iter().all(|&byte| byte == 0),
            });
            at = end;
        }
        let id = raw[8..20].try_into().expect("12 bytes");
        let kind = u16::from_be_bytes([raw[0], raw[1]]);
        Ok(Self { kind, id, attributes, raw: raw.to_vec() })
    }

    /// Whether this is a success response.
    pub fn is_success(&self) -> bool {
        self.kind & 0x0110 == 0x0100
    }

    /// Whether this is a response at all.
    pub fn is_response(&self) -> bool {
        self.kind & 0x0100 != 0
    }

    /// Whether an attribute is there.
    pub fn has(&self, kind: u16) -> bool {
        self.value(kind).is_some()
    }

    /// The value of the first attribute of a type.
    pub fn value(&self, kind: u16) -> Option<&[u8]> {
        self.all(kind).next()
    }

    /// The values of all attributes of a type.
    pub fn all(&self, kind: u16) -> impl Iterator<Item = &[u8]> {
        let same = move |attribute: &&Attribute| attribute.kind == kind;
        self.attributes.iter().filter(same).map(|attribute| attribute.value.as_slice())
    }

    /// A 32-bit number.
    pub fn u32(&self, kind: u16) -> Option<u32> {
        self.value(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// The code of ERROR-CODE.
    pub fn code(&self) -> Option<u16> {
        let &[_, _, class, number, ..] = self.value(attribute::ERROR_CODE)? else { return None };
        Some(u16::from(class & 7) * 100 + u16::from(number))
    }

    /// An address that is XORed with cookie and transaction.
    pub fn xor_address(&self, kind: u16) -> Option<SocketAddr> {
        self.value(kind).and_then(|value| self.unmask(value))
    }

    /// All addresses of a type.
    pub fn xor_addresses(&self, kind: u16) -> Vec<SocketAddr> {
        self.all(kind).filter_map(|value| self.unmask(value)).collect()
    }

    fn unmask(&self, value: &[u8]) -> Option<SocketAddr> {
        let mask = [&COOKIE[..], &self.id].concat();
        let ip: Vec<u8> =
            value.get(4..)?.iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect();
        let port = u16::from_be_bytes([value[2] ^ COOKIE[0], value[3] ^ COOKIE[1]]);
        address(*value.get(1)?, &ip, port).filter(|_| value.len() == 4 + ip.len())
    }

    /// An address as it is (RESPONSE-ORIGIN, OTHER-ADDRESS).
    pub fn plain_address(&self, kind: u16) -> Option<SocketAddr> {
        let value = self.value(kind)?;
        let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]);
        address(value[1], value.get(4..)?, port)
    }

    /// Whether an integrity attribute is there and right.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, hash: Hash, key: &[u8]) -> Result<(), String> {
        let name = match hash {
            Hash::Sha1 => "MESSAGE-INTEGRITY",
            Hash::Sha256 => "MESSAGE-INTEGRITY-SHA256",
        };
        let found = self.attributes.iter().find(|attribute| attribute.kind == hash.attribute());
        let found = found.ok_or_else(|| format!("no {name}"))?;
        if found.value.len() != hash.len() {
            return Err(format!("{name} of {} bytes", found.value.len()));
        }
        let mut covered = self.raw[..found.at].to_vec();
        let length = (found.at - 20 + 4 + hash.len()) as u16;
        covered[2..4].copy_from_slice(&length.to_be_bytes());
        if hmac(hash, key, &covered) == found.value {
            Ok(())
        } else {
            Err(format!("a wrong {name}"))
        }
    }

    /// Whether FINGERPRINT, if it is there, is last and right.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify_fingerprint(&self) -> Result<(), String> {
        let Some(found) = self.attributes.iter().find(|a| a.kind == attribute::FINGERPRINT) else {
            return Ok(());
        };
        if found.at + 8 != self.raw.len() {
            return Err("a FINGERPRINT that is not last".into());
        }
        let crc = (crc32fast::hash(&self.raw[..found.at]) ^ FINGERPRINT_XOR).to_be_bytes();
        if found.value == crc { Ok(()) } else { Err("a wrong FINGERPRINT".into()) }
    }

    /// What it is, for people.
    pub fn summary(&self) -> String {
        match (self.code(), self.is_success()) {
            (Some(code), _) => format!("error {code}"),
            (None, true) => format!("success (type {:#06x})", self.kind),
            (None, false) => format!("a message of type {:#06x}", self.kind),
        }
    }
}

fn address(family: u8, ip: &[u8], port: u16) -> Option<SocketAddr> {
    let ip: IpAddr = match family {
        1 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        2 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?)),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}
