//! Next hops: link-layer addresses, shared by all routes that leave the same way.
//!
//! ```text
//! word 0   destination MAC (6 bytes) | VLAN tag (2, network order, 0 = untagged)
//! word 1   source MAC (6 bytes)      | MTU (2, host order): largest IP packet
//! word 2   egress ifindex (4)        | 1 = usable, 0 = not (4)
//! word 3   spare
//! ```
//!
//! The control thread stores each word atomically while the program reads. A hop that loses its
//! interface is first made unusable, so that no mixture of two hops is ever used; a changed MAC is
//! one word.

use crate::word::load;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::Release};
use zerocopy::network_endian::U16;

/// Most next hops that one relay can use at a time.
pub const HOPS_MAX: usize = 4096;

/// How frames reach a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Destination MAC address.
    pub dst: [u8; 6],
    /// Source MAC address: the egress interface's.
    pub src: [u8; 6],
    /// Interface to leave by.
    pub ifindex: u32,
    /// Largest IP packet, bytes.
    pub mtu: u16,
    /// VLAN identifier, 0 for untagged.
    pub vlan: U16,
}

/// A [`Hop`] in shared memory.
#[derive(Debug, Default)]
#[repr(C)]
pub struct HopCell([AtomicU64; 4]);

const _: () = assert!(size_of::<HopCell>() == 32);

const USABLE: u64 = 1 << 32;

impl HopCell {
    /// The hop, if it is usable.
    #[inline(always)]
    pub fn load(&self) -> Option<Hop> {
        let [dst, src, out, _] = &self.0;
        let out = load(out);
        if out & USABLE == 0 {
            return None;
        }
        let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) =
            (load(dst).to_ne_bytes(), load(src).to_ne_bytes());
        Some(Hop {
            dst: [a, b, c, d, e, f],
            src: [i, j, k, l, m, n],
            ifindex: out as u32,
            mtu: u16::from_ne_bytes([o, p]),
            vlan: U16::from_bytes([g, h]),
        })
    }

    /// Makes the hop unusable: routes over it go by sockets.
    pub fn clear(&self) {
        self.0[2].store(0, Relaxed);
    }

    /// Stores `hop`. If it leaves by another interface than before, [`clear`](Self::clear) it
    /// first and let a grace period pass.
    pub fn store(&self, hop: &Hop) {
        let ([a, b, c, d, e, f], [g, h]) = (hop.dst, hop.vlan.to_bytes());
        let ([i, j, k, l, m, n], [o, p]) = (hop.src, hop.mtu.to_ne_bytes());
        self.0[0].store(u64::from_ne_bytes([a, b, c, d, e, f, g, h]), Relaxed);
        self.0[1].store(u64::from_ne_bytes([i, j, k, l, m, n, o, p]), Relaxed);
        self.0[2].store(u64::from(hop.ifindex) | USABLE, Release);
    }
}
