//! The checks, group by group.

mod allocate;
mod amplification;
mod appended;
mod auth;
mod binding;
mod channel;
pub(crate) mod discovery;
mod flips;
mod framing;
mod integrity;
mod loops;
mod mobility;
mod nonce;
mod permission;
mod policy;
mod refresh;
mod relaying;
mod reserve;
mod secure;
mod streams;
mod tcp_relay;

use crate::check::{Check, Verdict, fail};
use crate::codec::{Answer, Hash};

/// Every check, in the order of reports.
pub fn all() -> Vec<Check> {
    [
        binding::CHECKS,
        framing::CHECKS,
        auth::CHECKS,
        nonce::CHECKS,
        integrity::CHECKS,
        appended::CHECKS,
        flips::CHECKS,
        allocate::CHECKS,
        reserve::CHECKS,
        refresh::CHECKS,
        permission::CHECKS,
        policy::CHECKS,
        channel::CHECKS,
        relaying::CHECKS,
        streams::CHECKS,
        secure::CHECKS,
        amplification::CHECKS,
        loops::CHECKS,
        tcp_relay::CHECKS,
        mobility::CHECKS,
        discovery::CHECKS,
    ]
    .concat()
}

/// An attribute type that nobody has registered and that must be understood.
const UNKNOWN: u16 = 0x7f01;
/// An attribute type that nobody has registered and that may be ignored.
const UNKNOWN_OPTIONAL: u16 = 0xff01;

/// Wants an error response with one of these codes.
fn code(answer: &Answer, codes: &[u16]) -> Verdict {
    match answer.code() {
        Some(code) if codes.contains(&code) && !answer.is_success() => Ok(()),
        _ => {
            let codes: Vec<String> = codes.iter().map(u16::to_string).collect();
            Err(fail(format!("error {}", codes.join(" or ")), answer.summary()))
        }
    }
}

/// Wants a success response.
fn success(answer: &Answer) -> Verdict {
    if answer.is_success() { Ok(()) } else { Err(fail("success", answer.summary())) }
}

/// Wants a right integrity of this kind.
fn signed(answer: &Answer, hash: Hash, key: &[u8]) -> Verdict {
    let name = match hash {
        Hash::Sha1 => "MESSAGE-INTEGRITY",
        Hash::Sha256 => "MESSAGE-INTEGRITY-SHA256",
    };
    answer.verify(hash, key).map_err(|came| fail(format!("a right {name}"), came))
}
