//! Headers as they lie in a frame: every field is bytes in network order, so any offset will do.

use zerocopy::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// EtherType of a VLAN tag (IEEE 802.1Q).
pub const VLAN: u16 = 0x8100;
/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of IPv6.
pub const IPV6: u16 = 0x86dd;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;

macro_rules! header {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind),* }
        impl $name {
            /// Bytes of this header.
            pub const SIZE: usize = size_of::<Self>();
        }
    };
}

header!(
    /// Ethernet II.
    Ethernet {
        /// Destination MAC address.
        dst: [u8; 6],
        /// Source MAC address.
        src: [u8; 6],
        /// EtherType.
        kind: U16,
    }
);
header!(
    /// What follows the EtherType [`VLAN`].
    Vlan {
        /// Priority, drop eligibility, and in the low 12 bits the VLAN identifier.
        tag: U16,
        /// EtherType of what follows.
        kind: U16,
    }
);
header!(
    /// IPv4 without options (RFC 791).
    Ipv4 {
        /// 0x45: version 4, five words.
        version_ihl: u8,
        /// DSCP and ECN.
        class: u8,
        /// Header and payload, bytes.
        size: U16,
        /// Identification.
        id: U16,
        /// Flags and fragment offset.
        fragment: U16,
        /// Time to live.
        ttl: u8,
        /// Protocol of the payload.
        protocol: u8,
        /// Of this header.
        checksum: U16,
        /// Source address.
        src: [u8; 4],
        /// Destination address.
        dst: [u8; 4],
    }
);
header!(
    /// IPv6 (RFC 8200).
    Ipv6 {
        /// Version (4 bits), traffic class (8), flow label (20).
        version_class_flow: U32,
        /// Payload, bytes.
        size: U16,
        /// Next header.
        next: u8,
        /// Hop limit.
        hops: u8,
        /// Source address.
        src: [u8; 16],
        /// Destination address.
        dst: [u8; 16],
    }
);
header!(
    /// UDP (RFC 768).
    Udp {
        /// Source port.
        src: U16,
        /// Destination port.
        dst: U16,
        /// Header and payload, bytes.
        size: U16,
        /// Zero: none (IPv4 only).
        checksum: U16,
    }
);
header!(
    /// ChannelData header (RFC 8656 section 12.4).
    ChannelData {
        /// 0x4000 to 0x4FFF.
        channel: U16,
        /// Application data, bytes; padding not counted.
        size: U16,
    }
);

impl ChannelData {
    /// True for the numbers of RFC 8656 section 12, 0x4000 to 0x4FFF.
    #[inline(always)]
    pub fn is_channel(number: u16) -> bool {
        number >> 12 == 4
    }
}
