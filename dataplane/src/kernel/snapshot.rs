//! The program's counters at one moment.

use wire::{Counters, Direction, Reason};

use super::network::NetworkStats;
use super::program::CpuWords;
use crate::stats::Traffic;

/// What the program counted on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSnapshot {
    /// Forwarded, by [`Direction`]. A datagram that stayed inside is in both.
    pub forwarded: [Traffic; 2],
    /// Handed to workers by AF_XDP; what of it had no live route is in `refused` as well.
    pub punted: u64,
    /// Not forwarded, by [`Reason`]: passed to the kernel, and so to the sockets, or punted.
    pub refused: [u64; Reason::COUNT],
}

impl CpuSnapshot {
    /// Nothing counted.
    pub const ZERO: CpuSnapshot = CpuSnapshot {
        forwarded: [Traffic { packets: 0, bytes: 0 }; 2],
        punted: 0,
        refused: [0; Reason::COUNT],
    };

    /// From the words of [`Counters`]: packets and bytes by direction, what was punted, then the
    /// reasons.
    pub(crate) fn from_words(words: &CpuWords) -> CpuSnapshot {
        const _: () = assert!(Counters::WORDS == 5 + Reason::COUNT);
        let [to_peer, to_client, bytes_to_peer, bytes_to_client, punted, refused @ ..] = words;
        CpuSnapshot {
            forwarded: [
                Traffic { packets: *to_peer, bytes: *bytes_to_peer },
                Traffic { packets: *to_client, bytes: *bytes_to_client },
            ],
            punted: *punted,
            refused: *refused,
        }
    }
}

/// The kernel tier at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelSnapshot {
    /// By CPU.
    pub cpus: Vec<CpuSnapshot>,
    /// Bytes that the program's maps cost, as the kernel counts them. They do not grow.
    pub map_bytes: u64,
    /// Channels published.
    pub routes: usize,
    /// Entries in the table: two for each channel.
    pub entries: usize,
    /// Entries that the table has room for. It is made for a load of three quarters.
    pub entries_max: usize,
    /// Relay ports open.
    pub ports: usize,
    /// Next hops and paths.
    pub network: NetworkStats,
    /// Routes written again because the way to their destination changed.
    pub routes_moved: u64,
    /// How often the kernel's jiffies and its clock had parted.
    pub clock_corrections: u64,
    /// VLANs that are ours and found no place in the program's table.
    pub vlans_refused: u64,
    /// Addresses and listeners that found no place in the table of what goes to AF_XDP.
    pub places_refused: usize,
}

impl KernelSnapshot {
    /// Forwarded in `direction` by all CPUs.
    pub fn forwarded(&self, direction: Direction) -> Traffic {
        self.cpus.iter().fold(Traffic::default(), |sum, cpu| {
            let Traffic { packets, bytes } = cpu.forwarded[direction as usize];
            Traffic { packets: sum.packets + packets, bytes: sum.bytes + bytes }
        })
    }

    /// Handed to workers by AF_XDP, by all CPUs.
    pub fn punted(&self) -> u64 {
        self.cpus.iter().map(|cpu| cpu.punted).sum()
    }

    /// Refused for `reason` by all CPUs.
    pub fn refused(&self, reason: Reason) -> u64 {
        self.cpus.iter().map(|cpu| cpu.refused[reason as usize]).sum()
    }
}
