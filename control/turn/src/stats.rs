//! What the server did and refused, as plain counters.
//!
//! Every datagram that is not relayed or answered with success adds to exactly one [`Reason`]. The
//! reason's name is the metric's label and the log's field.

use std::ops::{Index, IndexMut};

use crate::attribute::Code;
use crate::message::Method;

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident = $text:literal $(, $code:ident)?;)*) => {
        /// Why a datagram was refused. With a code, a request was answered with that error; without
        /// one, nothing was sent.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[$doc])+ $name,)*
        }

        impl Reason {
            /// All of them, in order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// The name in metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }

            /// The STUN error that answers a request; `None` for silence.
            pub const fn code(self) -> Option<Code> {
                match self { $(Reason::$name => reasons!(@code $($code)?),)* }
            }
        }
    };
    (@code $code:ident) => { Some(Code::$code) };
    (@code) => { None };
}

reasons! {
    // Datagrams that are never answered.
    /// Neither STUN nor ChannelData.
    NotStun = "not_stun";
    /// STUN that is malformed: lengths, attributes past the end.
    Malformed = "malformed";
    /// A FINGERPRINT that is not that of the message.
    BadFingerprint = "bad_fingerprint";
    /// A response: we ask nobody anything.
    Response = "response";
    /// A request or indication of a method that is not ours, or not with that class.
    UnknownMethod = "unknown_method";
    /// Source port 0.
    SourcePort = "source_port";
    /// A source address that is no unicast address.
    SourceAddress = "source_address";
    /// The source is one of our own relayed or listening addresses.
    SourceOwn = "source_own";
    /// An error answer, but the source has had its share.
    BudgetSource = "budget_source";
    /// An error answer, but the source's network has had its share.
    BudgetPrefix = "budget_prefix";
    /// An error answer, but all strangers together have had theirs.
    BudgetTotal = "budget_total";
    /// An error answer would be larger than it may.
    AnswerTooLarge = "answer_too_large";

    // Data that is not relayed.
    /// A Binding indication: a keepalive, which asks for nothing.
    Keepalive = "keepalive";
    /// Data or an indication from a five-tuple without an allocation.
    DataNoAllocation = "data_no_allocation";
    /// An indication with unknown comprehension-required attributes.
    DataUnknownAttribute = "data_unknown_attribute";
    /// A Send indication without XOR-PEER-ADDRESS or DATA, or with a malformed one.
    DataIncomplete = "data_incomplete";
    /// A Send indication to an address of a family that the allocation has not.
    DataFamily = "data_family";
    /// To or from a peer without a permission.
    DataNoPermission = "data_no_permission";
    /// To or from a peer that the policy forbids.
    DataForbidden = "data_forbidden";
    /// ChannelData that is cut short, too long, or of a channel number outside 0x4000 to 0x4FFF.
    ChannelMalformed = "channel_malformed";
    /// ChannelData of a channel that is not bound.
    ChannelNotBound = "channel_not_bound";
    /// A Send indication to an allocation that relays TCP.
    DataTcpAllocation = "data_tcp_allocation";
    /// A message on a connection that was spliced with a peer's.
    DataConnection = "data_connection";
    /// News of a TCP connection to a peer that is not known (any more).
    ConnectionUnknown = "connection_unknown";
    /// A peer connected to a relayed address that nobody has, by TCP.
    AcceptedNoAllocation = "accepted_no_allocation";
    /// A peer connected without a permission.
    AcceptedNoPermission = "accepted_no_permission";
    /// A peer connected that the policy forbids.
    AcceptedForbidden = "accepted_forbidden";
    /// A peer connected, but there are as many connections as there may be.
    AcceptedFull = "accepted_full";
    /// A datagram to a relayed address that nobody has (any more).
    PeerNoAllocation = "peer_no_allocation";
    /// A peer's datagram that is too large to be wrapped.
    PeerTooLarge = "peer_too_large";
    /// Data for a client whose connection has ended, and who may come back with its ticket.
    ClientAbsent = "client_absent";
    /// An ICMP error of a kind that clients are not told.
    IcmpKind = "icmp_kind";
    /// More ICMP errors than a client is told.
    IcmpLimited = "icmp_limited";

    // Requests that are not authenticated.
    /// No MESSAGE-INTEGRITY: the usual first request.
    NoIntegrity = "no_integrity", UNAUTHENTICATED;
    /// MESSAGE-INTEGRITY, but no USERNAME, REALM or NONCE.
    MissingCredential = "missing_credential", BAD_REQUEST;
    /// An attribute of the credential that breaks its format.
    MalformedCredential = "malformed_credential", BAD_REQUEST;
    /// PASSWORD-ALGORITHM or PASSWORD-ALGORITHMS is not what was offered: a bid-down, perhaps.
    PasswordAlgorithm = "password_algorithm", BAD_REQUEST;
    /// Unknown or expired user, wrong password, wrong realm, or a message that was changed.
    Unauthenticated = "unauthenticated", UNAUTHENTICATED;
    /// A nonce that is too old, another client's, or not ours.
    StaleNonce = "stale_nonce", STALE_NONCE;

    // Requests that are refused.
    /// Comprehension-required attributes that are unknown.
    UnknownAttribute = "unknown_attribute", UNKNOWN_ATTRIBUTE;
    /// A known attribute that breaks its format.
    MalformedAttribute = "malformed_attribute", BAD_REQUEST;
    /// An attribute that the method needs is missing.
    MissingAttribute = "missing_attribute", BAD_REQUEST;
    /// Attributes that exclude each other.
    ConflictingAttributes = "conflicting_attributes", BAD_REQUEST;
    /// No allocation for this five-tuple.
    NoAllocation = "no_allocation", ALLOCATION_MISMATCH;
    /// The five-tuple has an allocation already.
    AllocationExists = "allocation_exists", ALLOCATION_MISMATCH;
    /// The allocation is another user's.
    WrongUser = "wrong_user", WRONG_CREDENTIALS;
    /// MOBILITY-TICKET, but allocations do not move here.
    MobilityForbidden = "mobility_forbidden", MOBILITY_FORBIDDEN;
    /// A MOBILITY-TICKET that is not ours, or was used, or is of no use from there.
    BadTicket = "bad_ticket", BAD_REQUEST;
    /// A relayed transport other than UDP.
    UnsupportedTransport = "unsupported_transport", UNSUPPORTED_TRANSPORT;
    /// No relayed addresses of that family here.
    FamilyUnsupported = "family_unsupported", ADDRESS_FAMILY_NOT_SUPPORTED;
    /// The allocation has no relayed address of that family.
    FamilyMismatch = "family_mismatch", PEER_ADDRESS_FAMILY_MISMATCH;
    /// An IPv4-mapped IPv6 address as peer.
    PeerMapped = "peer_mapped", PEER_ADDRESS_FAMILY_MISMATCH;
    /// A peer that the policy forbids.
    PeerForbidden = "peer_forbidden", FORBIDDEN;
    /// A request for TCP relaying that did not come by TCP or TLS, or on a connection that has an
    /// allocation.
    NotAStream = "not_a_stream", BAD_REQUEST;
    /// ChannelBind on an allocation that relays TCP.
    TcpAllocation = "tcp_allocation", FORBIDDEN;
    /// Connect on an allocation that relays UDP.
    UdpAllocation = "udp_allocation", FORBIDDEN;
    /// ConnectionBind with a CONNECTION-ID that nothing waits for.
    NoConnection = "no_connection", BAD_REQUEST;
    /// The allocation has a connection to this peer, or is making one.
    ConnectionExists = "connection_exists", CONNECTION_ALREADY_EXISTS;
    /// A connection to a peer could not be made in time.
    ConnectionFailed = "connection_failed", CONNECTION_FAILED;
    /// The allocation has as many connections to peers as one may.
    AllocationConnectionsFull = "allocation_connections_full", ALLOCATION_QUOTA_REACHED;
    /// The server has as many connections to peers as it may.
    ConnectionsFull = "connections_full", INSUFFICIENT_CAPACITY;
    /// The channel number, or the peer, is bound otherwise, or was until a short time ago.
    ChannelConflict = "channel_conflict", BAD_REQUEST;
    /// The user holds as many allocations as one may.
    UserQuota = "user_quota", ALLOCATION_QUOTA_REACHED;
    /// The client's network holds as many allocations as one may.
    PrefixQuota = "prefix_quota", ALLOCATION_QUOTA_REACHED;
    /// Sent to another server.
    Redirected = "redirected", TRY_ALTERNATE;
    /// The server makes no new allocations, as it will end.
    Draining = "draining", INSUFFICIENT_CAPACITY;
    /// The server holds as many allocations as it may.
    AllocationsFull = "allocations_full", INSUFFICIENT_CAPACITY;
    /// No relay port is free, or none with the properties asked for.
    PortsExhausted = "ports_exhausted", INSUFFICIENT_CAPACITY;
    /// The host has no descriptors, no memory, or no room in a table for another port.
    PortRefused = "port_refused", INSUFFICIENT_CAPACITY;
    /// A relay port could not move with its client, and its fellow not back: both stand as they are.
    PortLost = "port_lost", INSUFFICIENT_CAPACITY;
    /// The token is unknown, used, or has expired.
    BadReservation = "bad_reservation", INSUFFICIENT_CAPACITY;
    /// The server holds as many reserved ports as it may.
    ReservationsFull = "reservations_full", INSUFFICIENT_CAPACITY;
    /// The allocation has as many permissions as one may.
    PermissionsFull = "permissions_full", INSUFFICIENT_CAPACITY;
    /// The allocation has as many channels as one may.
    AllocationChannelsFull = "allocation_channels_full", INSUFFICIENT_CAPACITY;
    /// The server has as many channels as it may.
    ChannelsFull = "channels_full", INSUFFICIENT_CAPACITY;
    /// A route table is full.
    RoutesFull = "routes_full", INSUFFICIENT_CAPACITY;
}

/// The requests that are counted apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Binding.
    Binding,
    /// Allocate.
    Allocate,
    /// Refresh.
    Refresh,
    /// CreatePermission.
    CreatePermission,
    /// ChannelBind.
    ChannelBind,
    /// Connect (RFC 6062).
    Connect,
    /// ConnectionBind (RFC 6062).
    ConnectionBind,
}

impl Request {
    /// All of them, in order.
    pub const ALL: [Request; 7] = [
        Request::Binding,
        Request::Allocate,
        Request::Refresh,
        Request::CreatePermission,
        Request::ChannelBind,
        Request::Connect,
        Request::ConnectionBind,
    ];

    /// The name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Request::Binding => "binding",
            Request::Allocate => "allocate",
            Request::Refresh => "refresh",
            Request::CreatePermission => "create_permission",
            Request::ChannelBind => "channel_bind",
            Request::Connect => "connect",
            Request::ConnectionBind => "connection_bind",
        }
    }

    /// `None` for a method that takes no requests here.
    pub fn of(method: Method) -> Option<Request> {
        match method {
            Method::BINDING => Some(Request::Binding),
            Method::ALLOCATE => Some(Request::Allocate),
            Method::REFRESH => Some(Request::Refresh),
            Method::CREATE_PERMISSION => Some(Request::CreatePermission),
            Method::CHANNEL_BIND => Some(Request::ChannelBind),
            Method::CONNECT => Some(Request::Connect),
            Method::CONNECTION_BIND => Some(Request::ConnectionBind),
            _ => None,
        }
    }
}

/// Datagrams and their payload's bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub packets: u64,
    /// Bytes of application data.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, len: usize) {
        self.packets += 1;
        self.bytes += len as u64;
    }
}

/// Data by its direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BothWays {
    /// From clients to peers.
    pub to_peer: Traffic,
    /// From peers to clients.
    pub to_client: Traffic,
}

/// One counter for each reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusals([u64; Reason::ALL.len()]);

impl Refusals {
    /// Every reason and its counter.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|&reason| (reason, self[reason]))
    }

    /// Of all reasons together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<Reason> for Refusals {
    type Output = u64;

    fn index(&self, reason: Reason) -> &u64 {
        &self.0[reason as usize]
    }
}

impl IndexMut<Reason> for Refusals {
    fn index_mut(&mut self, reason: Reason) -> &mut u64 {
        &mut self.0[reason as usize]
    }
}

/// The server's counters and gauges. Traffic here is only what the control plane relayed itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Requests that were well formed, by method, in the order of [`Request::ALL`].
    pub requests: [u64; Request::ALL.len()],
    /// Success responses, by method, in the order of [`Request::ALL`].
    pub successes: [u64; Request::ALL.len()],
    /// Error responses that were sent, by code, in the order of [`Stats::CODES`].
    pub errors: [u64; Stats::CODES.len()],
    /// What was refused or dropped, by reason.
    pub refused: Refusals,
    /// Relayed: Send and Data indications, and ChannelData that no fast tier took.
    pub carried: BothWays,
    /// ICMP errors that clients were told.
    pub icmp: u64,
    /// Allocate retransmissions that were answered again.
    pub retransmissions: u64,
    /// Allocations that went to another five-tuple (RFC 8016).
    pub moves: u64,
    /// Allocations that expired (rather than being deleted by their client).
    pub expired: u64,
    /// Allocations now.
    pub allocations: usize,
    /// Relayed transport addresses now: a dual allocation has two.
    pub relayed_addresses: usize,
    /// Channels now, cooling ones included.
    pub channels: usize,
    /// Permissions now.
    pub permissions: usize,
    /// Reserved ports now.
    pub reservations: usize,
    /// TCP connections to peers now, from the moment they were asked for.
    pub connections: usize,
}

impl Stats {
    /// The error codes that the server can answer with.
    pub const CODES: [Code; 16] = [
        Code::TRY_ALTERNATE,
        Code::BAD_REQUEST,
        Code::UNAUTHENTICATED,
        Code::FORBIDDEN,
        Code::MOBILITY_FORBIDDEN,
        Code::UNKNOWN_ATTRIBUTE,
        Code::ALLOCATION_MISMATCH,
        Code::STALE_NONCE,
        Code::ADDRESS_FAMILY_NOT_SUPPORTED,
        Code::WRONG_CREDENTIALS,
        Code::UNSUPPORTED_TRANSPORT,
        Code::PEER_ADDRESS_FAMILY_MISMATCH,
        Code::CONNECTION_ALREADY_EXISTS,
        Code::CONNECTION_FAILED,
        Code::ALLOCATION_QUOTA_REACHED,
        Code::INSUFFICIENT_CAPACITY,
    ];

    /// Error responses sent with this code.
    pub fn errors_of(&self, code: Code) -> u64 {
        Self::CODES.iter().position(|&c| c == code).map_or(0, |at| self.errors[at])
    }

    pub(crate) fn count_error(&mut self, code: Code) {
        if let Some(at) = Self::CODES.iter().position(|&c| c == code) {
            self.errors[at] += 1;
        }
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            requests: Default::default(),
            successes: Default::default(),
            errors: Default::default(),
            refused: Refusals([0; Reason::ALL.len()]),
            carried: BothWays::default(),
            icmp: 0,
            retransmissions: 0,
            moves: 0,
            expired: 0,
            allocations: 0,
            relayed_addresses: 0,
            channels: 0,
            permissions: 0,
            reservations: 0,
            connections: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_every_code_is_counted() {
        let names: HashSet<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (at, &reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason as usize, at);
            assert!(reason.code().is_none_or(|code| Stats::CODES.contains(&code)), "{reason:?}");
        }
    }
}
