//! A server's first 401, kept so that other sessions can answer it too.

use turn::attribute::Code;
use turn::message::{Class, Message, TransactionId};

/// FINGERPRINT's type; it covers the transaction id, so it cannot be kept.
const FINGERPRINT: [u8; 2] = [0x80, 0x28];
const FINGERPRINT_LEN: usize = 8;

/// An error response 401 without its FINGERPRINT.
#[derive(Clone)]
pub(super) struct Challenge(Vec<u8>);

impl Challenge {
    /// Keeps `bytes` if they are a 401.
    pub(super) fn of(bytes: &[u8]) -> Option<Challenge> {
        let message = Message::parse(bytes).ok()?;
        let code = message.error_code().ok()??.code;
        if message.class() != Class::Error || code != Code::UNAUTHENTICATED {
            return None;
        }
        let mut kept = bytes.to_vec();
        if let Some(cut) = kept.len().checked_sub(FINGERPRINT_LEN)
            && kept[cut..cut + 2] == FINGERPRINT
        {
            kept.truncate(cut);
            let len = (cut - 20) as u16;
            kept[2..4].copy_from_slice(&len.to_be_bytes());
        }
        Some(Challenge(kept))
    }

    /// The same, in answer to another request.
    pub(super) fn to(&self, transaction: TransactionId) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes[8..20].copy_from_slice(&transaction.0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use turn::message::{Builder, Method};

    #[test]
    fn a_challenge_answers_another_request_with_and_without_fingerprint() {
        for fingerprint in [false, true] {
            // given
            let mut bytes = Vec::new();
            let id = TransactionId([1; 12]);
            let mut builder = Builder::new(&mut bytes, Class::Error, Method::ALLOCATE, id);
            builder.error_code(Code::UNAUTHENTICATED).realm("lab.test").nonce(b"abcdef");
            if fingerprint {
                builder.fingerprint();
            }
            builder.finish().unwrap();
            // when
            let other = Challenge::of(&bytes).unwrap().to(TransactionId([2; 12]));
            // then
            let message = Message::parse(&other).unwrap();
            assert_eq!(message.transaction(), TransactionId([2; 12]));
            assert_eq!(message.realm().unwrap(), Some("lab.test"));
            assert_eq!(message.nonce().unwrap(), Some(&b"abcdef"[..]));
        }
    }
}
