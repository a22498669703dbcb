//! Why a client's connection or association ended, or was never taken: each with a counter.

macro_rules! endings {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Why a connection or a DTLS association ended, or was refused. One enum for counters,
        /// metric labels and logs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Ending { $($(#[$doc])* $variant,)* }

        impl Ending {
            /// All of them, in the order of their counters.
            pub const ALL: &'static [Ending] = &[$(Ending::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The label in metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Ending::$variant => $name),* }
            }
        }
    };
}

endings! {
    /// The client closed it.
    Client = "closed_by_client",
    /// The server did.
    Server = "closed_by_server",
    /// The kernel reported an error: mostly a reset.
    Failed = "connection_failed",
    /// Bytes that are neither STUN nor ChannelData, nor TLS where TLS is offered.
    NotStun = "not_stun",
    /// A STUN length that is no multiple of 4.
    BadLength = "bad_length",
    /// A STUN message longer than any that makes sense.
    TooLong = "too_long",
    /// A malformed PROXY header, or none where it is required.
    BadProxy = "bad_proxy_header",
    /// A TLS or DTLS handshake that failed, or a record that does not decrypt.
    Tls = "tls_failed",
    /// The PROXY header and the handshake took too long.
    HandshakeTimeout = "handshake_timeout",
    /// No first message in time.
    FirstMessageTimeout = "first_message_timeout",
    /// A message that began and did not end in time.
    MessageTimeout = "message_timeout",
    /// Nothing was said for too long.
    Idle = "idle",
    /// The client takes nothing of what is sent to it.
    WriteStalled = "write_stalled",
    /// Two spliced connections have ended, both ways.
    SpliceDone = "splice_done",
    /// Nothing went through two spliced connections for too long.
    SpliceIdle = "splice_idle",
    /// Refused: this thread has as many as it may.
    ThreadFull = "thread_full",
    /// Refused: all threads together have as many as they may.
    AllFull = "all_full",
    /// Refused: this source has as many as it may.
    SourceFull = "source_full",
    /// Made room for a newer half-open DTLS association.
    Evicted = "evicted",
    /// Another connection of the same client, behind a load balancer, is there; or its next DTLS
    /// association is.
    Duplicate = "duplicate",
}
