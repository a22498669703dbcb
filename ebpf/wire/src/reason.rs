//! Why a datagram was not forwarded, and the counters.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a tier did not forward a datagram. One enum for counters, metric labels and logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label in metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name),* }
            }
        }
    };
}

reasons! {
    /// Not IP with UDP, a fragment, IPv4 options, IPv6 extension headers: the kernel's.
    NotUdp = "not_udp",
    /// For another MAC address, or tagged with a VLAN that is not ours: the kernel's.
    ForeignLink = "foreign_link",
    /// Lengths that disagree, a wrong IPv4 header checksum, IPv6 without UDP checksum.
    Malformed = "malformed",
    /// For a UDP port that is not ours: the kernel's.
    NotOurs = "not_ours",
    /// A message for the control thread.
    Stun = "stun",
    /// On a listening port, but neither STUN nor ChannelData.
    NotStun = "not_stun",
    /// ChannelData whose length field disagrees with the datagram.
    BadChannelData = "bad_channel_data",
    /// Ours, but no channel is bound for it.
    NoRoute = "no_route",
    /// The channel's lifetime is over.
    Expired = "expired",
    /// TTL or hop limit would reach zero.
    LastHop = "last_hop",
    /// A UDP checksum of zero cannot cross from IPv4 to IPv6 without reading the payload.
    ZeroChecksum = "zero_checksum",
    /// The UDP checksum is yet to be made, or the datagrams are yet to be cut: the kernel's.
    UnfinishedChecksum = "unfinished_checksum",
    /// Does not fit the next hop's MTU once wrapped.
    TooBig = "too_big",
    /// The next hop's link address is not known, or its interface carries no fast path.
    NoHop = "no_hop",
    /// The driver left no room in front for longer headers.
    NoHeadroom = "no_headroom",
    /// The route was being changed at that moment.
    Busy = "busy",
    /// The frame changed under the program: dropped, never passed on.
    Torn = "torn",
    /// Longer than the receive buffer.
    Truncated = "truncated",
    /// The ring to the control thread was full.
    RingFull = "ring_full",
    /// The sending socket's buffer was full.
    SocketFull = "socket_full",
    /// The kernel refused to send.
    SendFailed = "send_failed",
    /// The relay port was closed meanwhile.
    PortClosed = "port_closed",
    /// From a source that is never answered: port 0, multicast, or ourselves.
    BadSource = "bad_source",
}

/// Which way a datagram was forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Direction {
    /// From a client to a peer.
    ToPeer,
    /// From a peer to a client.
    ToClient,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::ToPeer, Direction::ToClient];

    /// The label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::ToPeer => "to_peer",
            Direction::ToClient => "to_client",
        }
    }
}

/// The counters of one CPU in the kernel program's `COUNTERS` map.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Counters {
    /// Datagrams forwarded, by [`Direction`].
    pub packets: [u64; 2],
    /// Bytes of application data forwarded, by [`Direction`].
    pub bytes: [u64; 2],
    /// Handed to a worker by AF_XDP; those without a live route are in `refused` as well.
    pub punted: u64,
    /// Datagrams not forwarded, by [`Reason`].
    pub refused: [u64; Reason::COUNT],
}

impl Counters {
    /// Nothing counted.
    pub const ZERO: Self =
        Self { packets: [0; 2], bytes: [0; 2], punted: 0, refused: [0; Reason::COUNT] };
    /// Words of this structure.
    pub const WORDS: usize = size_of::<Self>() / 8;
}
