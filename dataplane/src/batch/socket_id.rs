//! Which socket a datagram came by or leaves by, in 32 bits:
//!
//! ```text
//!   0 0 slot             a relay port of this worker
//!   0 1 number           another worker's, lent to this one
//!   1 0 index            a listener
//!   1 1 1 1 1 ... 1      a relay port, whichever worker has it
//! ```

/// Which of a worker's sockets: a listener, or a relay port's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(u32);

/// What a [`SocketId`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketKind {
    /// The listener with this index.
    Listener(usize),
    /// The relay port in this slot.
    Port(u32),
    /// Another worker's relay port, lent to this one for sending.
    Loan(u32),
    /// A relay port, whichever worker has its socket: what came by AF_XDP.
    Relayed,
}

impl SocketId {
    const LISTENER: u32 = 1 << 31;
    const LOAN: u32 = 1 << 30;

    /// See [`SocketKind::Relayed`].
    pub const RELAYED: Self = Self(u32::MAX);

    /// The listener with index `index`, in the order of configuration.
    pub fn listener(index: usize) -> Self {
        Self(Self::LISTENER | index as u32)
    }

    /// The relay port in `slot`.
    pub fn port(slot: u32) -> Self {
        debug_assert!(slot & (Self::LISTENER | Self::LOAN) == 0);
        Self(slot)
    }

    /// The relay port of another worker that is lent to this one under `number`.
    pub fn loan(number: u32) -> Self {
        Self(Self::LOAN | number)
    }

    /// As a number that keeps all of it.
    pub(crate) fn bits(self) -> u32 {
        self.0
    }

    /// What [`bits`](Self::bits) gave.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Which it is.
    pub fn kind(self) -> SocketKind {
        if self == Self::RELAYED {
            SocketKind::Relayed
        } else if self.0 & Self::LISTENER != 0 {
            SocketKind::Listener((self.0 & !Self::LISTENER) as usize)
        } else if self.0 & Self::LOAN != 0 {
            SocketKind::Loan(self.0 & !Self::LOAN)
        } else {
            SocketKind::Port(self.0)
        }
    }
}
