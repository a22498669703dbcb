//! Why the fast path cannot be had, and what to do about it.

use std::io;

/// Why the program could not be attached. Each message names the interface, privilege or answer,
/// and what would help. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No interface was named.
    #[error("no interface was given for the fast path; name at least one")]
    NoneGiven,
    /// There is no such interface.
    #[error("there is no interface {name:?} here; there are: {}", there_are.join(", "))]
    Missing {
        /// As configured.
        name: String,
        /// The names of those that exist.
        there_are: Vec<String>,
    },
    /// The interface is of a kind that the program cannot serve.
    #[error("{name} cannot carry the fast path: {why}")]
    Unsuitable {
        /// Interface.
        name: String,
        /// What it is, and which one to name instead.
        why: String,
    },
    /// The process may not load programs.
    #[error(
        "XDP needs the capabilities {}, which this process lacks; \
         run it as root, or grant them with setcap or AmbientCapabilities",
        missing.join(", ")
    )]
    Capabilities {
        /// The names of those that are missing.
        missing: Vec<&'static str>,
    },
    /// The kernel refuses although the capabilities are there.
    #[error(
        "the kernel refused to {doing} although the capabilities are there: {error}; a container, \
         a seccomp filter or kernel lockdown may forbid BPF"
    )]
    Forbidden {
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer.
        error: io::Error,
    },
    /// The machine's architecture.
    #[error("the kernel program is built for x86-64 only, and this is {0}")]
    Machine(&'static str),
    /// The kernel lacks what the program needs, or its verifier refuses it.
    #[error("the kernel ({release}) does not take the program; Linux 5.15 or later does: {answer}")]
    Kernel {
        /// `uname -r`.
        release: String,
        /// The kernel's answer, shortened.
        answer: String,
    },
    /// Another program is there.
    #[error(
        "another XDP program{} is attached to {name}; take it off first \
         (ip link set dev {name} xdp off), or give another interface",
        number.map(|id| format!(" (number {id})")).unwrap_or_default()
    )]
    Occupied {
        /// Interface.
        name: String,
        /// The other program's number, for `bpftool prog show id`.
        number: Option<u32>,
    },
    /// The MTU is more than the driver can give to a program.
    #[error("the MTU of {name} ({mtu}) is too large for XDP{}; lower it", said(words))]
    MtuTooLarge {
        /// Interface.
        name: String,
        /// Its MTU, in bytes.
        mtu: u32,
        /// The driver's words.
        words: Option<String>,
    },
    /// The driver has no native XDP.
    #[error("the driver of {name} has no native XDP{}; generic mode may do", said(words))]
    NoNativeMode {
        /// Interface.
        name: String,
        /// The driver's words.
        words: Option<String>,
    },
    /// The driver takes VLAN tags out of frames, and goes on doing so.
    #[error(
        "{name} takes VLAN tags out of frames, so that the program cannot tell whose they are, and \
         does not stop{}; switch rx-vlan-offload off (ethtool -K {name} rxvlan off), or give \
         another interface",
        answer.as_ref().map(|error| format!(" ({error})")).unwrap_or_default()
    )]
    TagsStripped {
        /// Interface: the one named, or a port of it.
        name: String,
        /// The driver's answer, if it gave one.
        answer: Option<io::Error>,
    },
    /// A veth with VLANs, whose tags its far end may keep out of frames.
    #[error(
        "{name} is a veth with a VLAN ({vlan}), whose tags its far end may keep out of frames, \
         where the program cannot see them; switch that off at the far end (ethtool -K FAR-END \
         txvlan off) and ask for --xdp-mode generic or native, or take the VLAN off"
    )]
    TagsUncertain {
        /// Interface.
        name: String,
        /// The sub-interface that is its VLAN.
        vlan: String,
    },
    /// The driver refuses for another reason.
    #[error("{name} refuses the program in {mode} mode: {error}{}", said(words))]
    Refused {
        /// Interface.
        name: String,
        /// Native or generic.
        mode: super::XdpMode,
        /// The kernel's answer.
        error: io::Error,
        /// The driver's words.
        words: Option<String>,
    },
    /// More relay addresses than the port table has bits for.
    #[error("{given} relay addresses are too many for the fast path; it serves at most {most}")]
    TooManyRelayAddresses {
        /// How many were given.
        given: usize,
        /// How many it serves.
        most: usize,
    },
    /// The kernel's clock makes no sense.
    #[error("the kernel's jiffies cannot be told from its clock: {0}")]
    Clock(String),
    /// Something of the operating system failed.
    #[error("while {doing}: {error}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Its answer.
        error: io::Error,
    },
}

impl AttachError {
    /// The error of a failed step.
    pub(crate) fn system(doing: &'static str) -> impl Fn(io::Error) -> AttachError {
        move |error| AttachError::System { doing, error }
    }
}

fn said(words: &Option<String>) -> String {
    words.as_ref().map(|words| format!(" (the driver says: {words})")).unwrap_or_default()
}
