//! The maps, and `wire`'s tables over them. The loader sets the sizes and the `static`s that the
//! verifier then knows as constants (`.rodata`).

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::generated::bpf_jiffies64,
    macros::map,
    maps::{Array, HashMap, PerCpuArray},
};
use core::ptr::read_volatile;
use wire::table::{Bucket, Entry, Geometry, HASH_WORDS, Table};
use wire::{Checksums, Counters, Forward, Hop, HopCell, Ingress, Network, PortUse, Reason, Tables};

/// Index of the route table. The control thread writes it through a mapping.
#[map]
static INDEX: Array<Bucket> = Array::with_max_entries(4, BPF_F_MMAPABLE);
/// Entries of the route table.
#[map]
static ENTRIES: Array<Entry> = Array::with_max_entries(16, BPF_F_MMAPABLE);
/// What each UDP port is for.
#[map]
static PORTS: Array<u64> = Array::with_max_entries(65_536, BPF_F_MMAPABLE);
/// Next hops.
#[map]
static HOPS: Array<HopCell> = Array::with_max_entries(wire::HOPS_MAX as u32, BPF_F_MMAPABLE);
/// The word of [`Checksums`] by interface index; 0 for an interface that is not ours.
#[map]
static LINKS: Array<u64> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// VLANs that are ours: interface index in the upper, identifier in the lower 32 bits; the value
/// is the word of the VLAN's own interface.
#[map]
static VLANS: HashMap<u64, u64> = HashMap::with_max_entries(256, 0);
/// What was done, per CPU.
#[map]
pub static COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);

/// Size and secret of the route table.
#[unsafe(no_mangle)]
static GEOMETRY: Geometry = Geometry { secret: [0; HASH_WORDS], buckets: 4 };

pub struct Maps;

impl Table for Maps {
    #[inline(always)]
    fn geometry(&self) -> Geometry {
        unsafe { read_volatile(&GEOMETRY) }
    }

    #[inline(always)]
    fn bucket(&self, number: u32) -> [u64; 2] {
        INDEX.get(number).map_or([0; 2], Bucket::load)
    }

    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry> {
        ENTRIES.get(number)
    }
}

impl Tables for Maps {
    #[inline(always)]
    fn port(&self, number: u16) -> PortUse {
        PortUse(PORTS.get(number as u32).copied().unwrap_or(0))
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        unsafe { bpf_jiffies64() }
    }
}

impl Network for Maps {
    #[inline(always)]
    fn hop(&self, index: u16) -> Option<Hop> {
        HOPS.get(index as u32)?.load()
    }
}

/// The interface a frame came in by.
pub struct Link(pub u32);

impl Ingress for Link {
    #[inline(always)]
    fn own(&self, mac: u64, vlan: u16) -> Option<Checksums> {
        let word = if vlan == 0 {
            LINKS.get(self.0).copied()
        } else {
            let key = (self.0 as u64) << 32 | vlan as u64;
            unsafe { VLANS.get(&key) }.copied()
        };
        Checksums::of(word?, mac)
    }
}

#[inline(always)]
pub fn forwarded(forward: &Forward) {
    forward.count();
    let Some(counters) = COUNTERS.get_ptr_mut(0) else { return };
    let bytes = forward.data as u64;
    // Each direction by name: an index that is computed would bring a bounds check and a panic.
    let ([to_peer, to_client], [bytes_to_peer, bytes_to_client]) =
        unsafe { (&mut (*counters).packets, &mut (*counters).bytes) };
    if forward.to_peer.is_some() {
        *to_peer += 1;
        *bytes_to_peer += bytes;
    }
    if forward.to_client.is_some() {
        *to_client += 1;
        *bytes_to_client += bytes;
    }
}

#[inline(always)]
pub fn refused(reason: Reason) {
    if let Some(counters) = COUNTERS.get_ptr_mut(0) {
        unsafe { (*counters).refused[reason as usize] += 1 }
    }
}
