//! A request of any attributes.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

use turn::attribute::AttributeType;
use turn::message::{Builder, Class, Method, TransactionId};

pub(crate) const ID: TransactionId = TransactionId([7; 12]);

pub(crate) fn builder(out: &mut Vec<u8>) -> Builder<'_> {
    Builder::new(out, Class::Request, Method::ALLOCATE, ID)
}

/// A request with these raw attributes.
pub(crate) fn request(attributes: &[(AttributeType, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut builder = builder(&mut out);
    for (kind, value) in attributes {
        builder.attribute(*kind, value);
    }
    builder.finish().unwrap();
    out
}
