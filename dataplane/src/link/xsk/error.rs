//! What can go wrong with a queue, each with the interface and the queue that it is about.

use std::io;

/// Why there is no queue, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No interface of that name in this network namespace.
    #[error("there is no interface {interface}")]
    NoInterface {
        /// Its name.
        interface: String,
    },
    /// The interface has fewer queues.
    #[error("interface {interface} has no queue {queue}: it has {queues}, numbered from 0")]
    NoQueue {
        /// Its name.
        interface: String,
        /// The queue that was asked for.
        queue: u32,
        /// How many it has.
        queues: u32,
    },
    /// CAP_NET_RAW is missing.
    #[error("an AF_XDP socket needs CAP_NET_RAW: grant it with setcap or AmbientCapabilities")]
    NoPrivilege,
    /// The kernel was built without AF_XDP.
    #[error("this kernel has no AF_XDP sockets")]
    NoSupport,
    /// More memory than the process may lock (RLIMIT_MEMLOCK), without CAP_IPC_LOCK.
    #[error(
        "{bytes} bytes of packet memory are more than may be locked (RLIMIT_MEMLOCK): raise it \
         (ulimit -l, LimitMEMLOCK=) or grant CAP_IPC_LOCK"
    )]
    MemoryLock {
        /// Bytes of the memory.
        bytes: usize,
    },
    /// Another socket has the queue: another program's, or one of ours that the kernel has not
    /// quite let go yet. Worth another try after a second.
    #[error("queue {queue} of interface {interface} is in use by another AF_XDP socket")]
    InUse {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The driver cannot leave frames where they lie, or the kernel has no AF_XDP for the device.
    #[error("the driver of interface {interface} cannot do {copying} on queue {queue}")]
    Unsupported {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
        /// What was asked for.
        copying: super::Copying,
    },
    /// The interface is down (ENETDOWN): the queue is as good as ever when it is up again. Frames
    /// that wait in its transmit ring go on waiting.
    #[error("interface {interface} is down")]
    Down {
        /// Its name.
        interface: String,
    },
    /// The interface is gone (ENXIO, ENODEV): drop the queue, and open one when there is another.
    #[error("interface {interface} is gone, and queue {queue} with it")]
    Gone {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// The rings of the kernel say what cannot be: more entries than there are. Drop the queue.
    #[error("the rings of queue {queue} of interface {interface} are out of order")]
    Disordered {
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
    },
    /// What was to be done failed on the way, by a mistake in this program: standard error has more.
    #[error("opening queues has failed by a mistake in this program")]
    Failed,
    /// Anything else.
    #[error("{doing}, queue {queue} of interface {interface}: {error}")]
    Os {
        /// What was being done.
        doing: &'static str,
        /// Its name.
        interface: String,
        /// The queue.
        queue: u32,
        /// The kernel's refusal.
        #[source]
        error: io::Error,
    },
    /// The packet memory could not be had.
    #[error("{bytes} bytes of packet memory: {error}")]
    Memory {
        /// Bytes of the memory.
        bytes: usize,
        /// The kernel's refusal.
        #[source]
        error: io::Error,
    },
}

impl Error {
    /// True for what passes by itself with the queue kept.
    pub fn passes(&self) -> bool {
        matches!(self, Error::Down { .. })
    }
}
