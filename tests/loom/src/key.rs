//! Keys and routes: as many words as wire's.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Five words, as wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Key(pub [u64; 5]);

impl Key {
    pub fn words(&self) -> &[u64; 5] {
        &self.0
    }
}

/// Eight words, as wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Route(pub [u64; 8]);

impl Route {
    pub(crate) fn from_words(words: [u64; 8]) -> Self {
        Self(words)
    }
}
