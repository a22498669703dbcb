//! What the keeper tells of its queues: for the log, and for the metrics.

/// What happened to a worker's queues, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A worker has queues.
    Open {
        /// Its number.
        worker: usize,
        /// The queues, as `eth0/0`.
        queues: String,
        /// True when none of them copies.
        zero_copy: bool,
    },
    /// It has none of these, or no more: sockets carry their traffic.
    Lost {
        /// Its number.
        worker: usize,
        /// Why, with interface and queue.
        why: String,
        /// When it is tried again, in words.
        next: String,
    },
    /// They are closed, and opened anew in a moment: sockets carry its traffic meanwhile.
    Anew {
        /// Its number.
        worker: usize,
        /// Why, with interface and queue.
        why: String,
    },
    /// It has queues, but not all that it should: sockets carry the others' traffic.
    Part {
        /// Its number.
        worker: usize,
        /// Which were refused, and why.
        why: String,
        /// When they are tried again, in words.
        next: String,
    },
    /// An interface has none by choice.
    Unsuited {
        /// Its name.
        interface: String,
        /// Why.
        why: String,
    },
}

/// Counts, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeeperStats {
    /// Times that a worker was given queues.
    pub opened: u64,
    /// Times that queues were lost to a fault or a change.
    pub lost: u64,
    /// Times that a queue could not be opened.
    pub refused: u64,
    /// Queues that the workers should have now.
    pub wanted: usize,
}
