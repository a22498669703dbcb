//! What a local UDP port is for: one word per port, in an array of 65,536.
//!
//! ```text
//! bit 0        a listening port
//! bit 1 + i    relay address i has an allocation on this port
//! ```
//!
//! The word only sorts traffic cheaply: which address a datagram is for is settled by the route's
//! key, which holds the whole five-tuple.

/// Bit 0: clients send to this port.
pub const LISTENER: u64 = 1;

/// At most this many relayed addresses, both families together.
pub const RELAY_ADDRESSES_MAX: usize = 63;

/// The word of one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortUse(pub u64);

impl PortUse {
    /// The bit of relay address `index`, below [`RELAY_ADDRESSES_MAX`].
    pub const fn relay(index: usize) -> u64 {
        assert!(index < RELAY_ADDRESSES_MAX);
        2 << index
    }

    /// Nothing of ours.
    #[inline(always)]
    pub fn is_free(self) -> bool {
        self.0 == 0
    }

    /// A port that clients send to.
    #[inline(always)]
    pub fn is_listener(self) -> bool {
        self.0 & LISTENER != 0
    }
}
