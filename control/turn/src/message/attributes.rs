//! The walk over a message's attributes, and the places that matter in it.

use super::{ATTRIBUTES_MAX, HEADER_LEN, ParseError};
use crate::attribute::AttributeType;

/// One attribute: its type and its value without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The type.
    pub kind: AttributeType,
    /// The value, without padding.
    pub value: &'a [u8],
}

/// The attributes of a message that [`super::Message::parse`] has accepted.
#[derive(Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Over what follows the header in `message`.
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message.get(HEADER_LEN..).unwrap_or_default() }
    }

    /// Over `attributes`, which has no header in front.
    pub(super) const fn new_at(attributes: &'a [u8]) -> Self {
        Self { rest: attributes }
    }

    /// The next attribute; `Err` when it reaches past the end.
    #[inline]
    fn step(&mut self) -> Option<Result<Attribute<'a>, ()>> {
        let (&[kind_high, kind_low, len_high, len_low], rest) = match self.rest.split_first_chunk()
        {
            Some(split) => split,
            None if self.rest.is_empty() => return None,
            None => return Some(Err(())),
        };
        let len = usize::from(u16::from_be_bytes([len_high, len_low]));
        let Some(value) = rest.get(..len) else { return Some(Err(())) };
        self.rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        let kind = AttributeType(u16::from_be_bytes([kind_high, kind_low]));
        Some(Ok(Attribute { kind, value }))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        // `parse` has walked the message without an error.
        self.step()?.ok()
    }
}

/// Where the attributes lie that end what counts. An offset of 0 is "not there": byte 0 is the
/// header's. Offsets fit: the length field has 16 bits, and the header adds 20.
#[derive(Clone, Copy, Default)]
pub(super) struct Offsets {
    sha1: u32,
    sha256: u32,
    fingerprint: u32,
    end: u32,
}

impl Offsets {
    /// Walks all of `message`, whose length has been checked.
    pub(super) fn find(message: &[u8]) -> Result<Offsets, ParseError> {
        let len = message.len();
        let mut found = Offsets { end: len as u32, ..Offsets::default() };
        let mut walk = Attributes::new(message);
        let mut offset = HEADER_LEN;
        for count in 0.. {
            let attribute = match walk.step() {
                None => break,
                Some(Err(())) => return Err(ParseError::Overrun(offset)),
                Some(Ok(_)) if count == ATTRIBUTES_MAX => {
                    return Err(ParseError::TooManyAttributes);
                }
                Some(Ok(attribute)) => attribute,
            };
            found.note(attribute.kind, offset as u32)?;
            offset = len - walk.rest.len();
        }
        Ok(found)
    }

    fn note(&mut self, kind: AttributeType, offset: u32) -> Result<(), ParseError> {
        if self.fingerprint != 0 {
            return Err(ParseError::FingerprintPlace);
        }
        match kind {
            // Behind MESSAGE-INTEGRITY-SHA256 it is ignored: were it to count, whoever appends
            // it could make the attributes in between count, which the SHA-256 does not cover.
            AttributeType::MESSAGE_INTEGRITY if self.sha1 == 0 && self.sha256 == 0 => {
                self.sha1 = offset;
            }
            AttributeType::MESSAGE_INTEGRITY_SHA256 if self.sha256 == 0 => self.sha256 = offset,
            AttributeType::FINGERPRINT => self.fingerprint = offset,
            _ => return Ok(()),
        }
        self.end = self.end.min(offset);
        Ok(())
    }

    /// Where the attributes that count end.
    pub(super) const fn end(&self) -> usize {
        self.end as usize
    }

    pub(super) const fn sha1(&self) -> Option<usize> {
        Self::place(self.sha1)
    }

    pub(super) const fn sha256(&self) -> Option<usize> {
        Self::place(self.sha256)
    }

    pub(super) const fn fingerprint(&self) -> Option<usize> {
        Self::place(self.fingerprint)
    }

    const fn place(offset: u32) -> Option<usize> {
        if offset == 0 { None } else { Some(offset as usize) }
    }
}
