//! The compiled program, loaded into the kernel: its maps in our memory, its clock, its counters.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use aya::programs::{ProgramError, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use wire::table::{Bucket, ENTRIES_MAX, Entry, Geometry, HASH_WORDS};
use wire::{Counters, HOPS_MAX, HopCell, Punt};

use super::clock::{Clock, Reading, as_ours, jiffy_nanoseconds};
use super::error::AttachError;
use super::links::Ingress;
use super::maps::{Mapping, memory_bytes};
use super::punting::Punting;
use super::shared::{FrameTables, SharedClock};
use crate::link::socket::monotonic;

/// Built by scripts/build-ebpf and committed, so that nobody else needs its toolchain.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/relay.o");

/// Ports of UDP.
const PORTS: usize = 1 << 16;
/// Interface indexes that the table of interfaces reaches to, at least: new ones count upwards.
const LINK_INDEXES_MIN: u32 = 4096;

/// Where a program's counters stand, one CPU after the other.
pub(crate) type CpuWords = [u64; Counters::WORDS];

/// The program in the kernel. Nothing is pinned: it is gone when this is dropped and nothing is
/// attached any more.
pub(crate) struct Program {
    ebpf: Ebpf,
    ports: Mapping<AtomicU64>,
    links: Mapping<AtomicU64>,
    vlans: HashMap<MapData, u64, u64>,
    counters: PerCpuArray<MapData, CpuWords>,
    clock: Array<MapData, [u64; 2]>,
    punting: Punting,
    geometry: Geometry,
    entries: usize,
    ingress: Ingress,
    memory_bytes: u64,
}

/// Memory that is written by others.
pub(crate) struct Tables {
    pub(crate) geometry: Geometry,
    pub(crate) index: Mapping<Bucket>,
    pub(crate) entries: Mapping<Entry>,
    pub(crate) hops: Mapping<HopCell>,
}

impl Program {
    /// Loads the program with a table for `routes_max` channels; interfaces up to `index_max` exist.
    /// `punt`: what goes to AF_XDP.
    pub(crate) fn load(
        routes_max: usize,
        index_max: u32,
        punt: Punt,
    ) -> Result<(Program, Tables), AttachError> {
        let entries = entries(routes_max);
        let geometry = geometry(entries)?;
        let buckets = geometry.buckets as u32;
        let indexes = index_max.saturating_add(1).saturating_mul(2).max(LINK_INDEXES_MIN);
        let words: [u64; HASH_WORDS + 1] = zerocopy_words(&geometry);
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global("GEOMETRY", &words, true)
            .override_global("PUNT", &(punt as u64), true)
            .map_max_entries("INDEX", buckets)
            .map_max_entries("ENTRIES", entries)
            .map_max_entries("LINKS", indexes)
            .map_max_entries("SLOTS", indexes)
            .load(OBJECT)
            .map_err(refused)?;
        for name in ["relay", "clock"] {
            load(xdp(&mut ebpf, name)?)?;
        }
        let memory_bytes = ebpf.maps().filter_map(|(_, map)| fd(map)).map(memory_bytes).sum();
        let tables = Tables {
            geometry,
            index: mapping(&ebpf, "INDEX", buckets as usize)?,
            entries: mapping(&ebpf, "ENTRIES", entries as usize)?,
            hops: mapping(&ebpf, "HOPS", HOPS_MAX)?,
        };
        let program = Program {
            ports: mapping(&ebpf, "PORTS", PORTS)?,
            links: mapping(&ebpf, "LINKS", indexes as usize)?,
            vlans: take(&mut ebpf, "VLANS")?.try_into().map_err(broken)?,
            counters: take(&mut ebpf, "COUNTERS")?.try_into().map_err(broken)?,
            clock: take(&mut ebpf, "CLOCK")?.try_into().map_err(broken)?,
            punting: Punting::new(
                take(&mut ebpf, "PLACES")?.try_into().map_err(broken)?,
                XskMap::try_from(take(&mut ebpf, "SOCKETS")?).map_err(broken)?,
                take(&mut ebpf, "SLOTS")?.try_into().map_err(broken)?,
            ),
            geometry: tables.geometry,
            entries: tables.entries.len(),
            ingress: Ingress::new(),
            memory_bytes,
            ebpf,
        };
        Ok((program, tables))
    }

    /// The same tables, for workers.
    pub(crate) fn frame_tables(&self, clock: Arc<SharedClock>) -> Result<FrameTables, AttachError> {
        let (buckets, ebpf) = (self.geometry.buckets as usize, &self.ebpf);
        Ok(FrameTables {
            geometry: self.geometry,
            index: mapping(ebpf, "INDEX", buckets)?,
            entries: mapping(ebpf, "ENTRIES", self.entries)?,
            hops: mapping(ebpf, "HOPS", HOPS_MAX)?,
            ports: mapping(ebpf, "PORTS", PORTS)?,
            clock,
        })
    }

    /// What goes to AF_XDP.
    pub(crate) fn punting(&mut self) -> &mut Punting {
        &mut self.punting
    }

    /// The program's descriptor, for attaching it.
    pub(crate) fn fd(&self) -> Result<BorrowedFd<'_>, AttachError> {
        let program: Option<&Xdp> = self.ebpf.program("relay").and_then(|one| one.try_into().ok());
        let program = program.ok_or_else(|| missing("relay"))?;
        Ok(program.fd().map_err(|error| refused(error.into()))?.as_fd())
    }

    /// The words of all UDP ports; see [`wire::PortUse`].
    pub(crate) fn ports(&self) -> &[AtomicU64] {
        &self.ports
    }

    /// Bytes that the maps cost, as the kernel counts them.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The counters, by CPU.
    pub(crate) fn counters(&self) -> io::Result<Vec<CpuWords>> {
        let words = self.counters.get(&0, 0).map_err(io::Error::other)?;
        Ok(words.iter().copied().collect())
    }

    /// Tells the program which frames are for this host. How many VLANs found no place.
    pub(crate) fn set_ingress(&mut self, ingress: Ingress) -> usize {
        let mut refused = 0;
        for key in self.ingress.keys().filter(|key| !ingress.contains_key(key)) {
            match *key {
                (index, 0) => store(&self.links, index, 0),
                (index, vlan) => {
                    let _ = self.vlans.remove(&vlan_key(index, vlan));
                }
            }
        }
        for (&(index, vlan), own) in &ingress {
            let (mac, checksums) = *own;
            let word = checksums.word(wire::mac_word(mac));
            match vlan {
                0 => store(&self.links, index, word),
                _ if self.ingress.get(&(index, vlan)) == Some(own) => {}
                _ => {
                    let stored = self.vlans.insert(vlan_key(index, vlan), word, 0);
                    refused += usize::from(stored.is_err());
                }
            }
        }
        self.ingress = ingress;
        refused
    }

    /// Interfaces from this index on are out of reach: their frames cannot be told to be ours.
    pub(crate) fn index_end(&self) -> u32 {
        u32::try_from(self.links.len()).unwrap_or(u32::MAX)
    }

    /// Relates jiffies to CLOCK_MONOTONIC.
    pub(crate) fn clock(&self) -> Result<Clock, AttachError> {
        let jiffy = jiffy_nanoseconds().map_err(AttachError::system("reading the clock"))?;
        let first = self.read_clock()?;
        let clock = Clock::new(jiffy, first);
        if clock.agrees_with_boot() {
            return Ok(clock);
        }
        // Counted otherwise since boot: so see whether it counts at that pace now.
        std::thread::sleep(std::time::Duration::from_nanos(20 * jiffy));
        let later = self.read_clock()?;
        let (jiffies, time) =
            (later.jiffies - first.jiffies, later.nanoseconds - first.nanoseconds);
        if (time / jiffy).abs_diff(jiffies) > 2 {
            let seen = format!("{jiffies} jiffies of {jiffy} ns in {time} ns");
            return Err(AttachError::Clock(seen));
        }
        Ok(clock)
    }

    /// Both clocks now.
    pub(crate) fn read_clock(&self) -> Result<Reading, AttachError> {
        let program: Option<&Xdp> = self.ebpf.program("clock").and_then(|one| one.try_into().ok());
        let program = program.ok_or_else(|| missing("clock"))?;
        // The smallest frame that the kernel accepts for a test run.
        let frame = [0u8; 64];
        let run = TestRunOptions { data_in: Some(&frame), repeat: 1, ..TestRunOptions::default() };
        let before = monotonic();
        program.test_run(run).map_err(|error| refused(error.into()))?;
        let after = monotonic();
        let [jiffies, nanoseconds] = self.clock.get(&0, 0).map_err(broken)?;
        let nanoseconds = as_ours(nanoseconds, before, after);
        Ok(Reading { jiffies, nanoseconds })
    }
}

/// Two entries a channel, as far as they can be numbered.
fn entries(routes_max: usize) -> u32 {
    2 * routes_max.clamp(1, ENTRIES_MAX as usize / 2) as u32
}

/// The size of the index, and a secret of its own.
fn geometry(entries: u32) -> Result<Geometry, AttachError> {
    let mut secret = [0; HASH_WORDS];
    for word in &mut secret {
        let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()));
        *word = random.map_err(AttachError::system("drawing the route table's secret"))?;
    }
    Ok(Geometry { secret, buckets: Geometry::buckets_for(entries).into() })
}

/// `Geometry` as the words it is made of.
fn zerocopy_words(geometry: &Geometry) -> [u64; HASH_WORDS + 1] {
    std::array::from_fn(|at| geometry.secret.get(at).copied().unwrap_or(geometry.buckets))
}

fn store(words: &[AtomicU64], index: u32, word: u64) {
    if let Some(place) = words.get(index as usize) {
        place.store(word, Relaxed);
    }
}

fn vlan_key(index: u32, vlan: u16) -> u64 {
    u64::from(index) << 32 | u64::from(vlan)
}

fn xdp<'e>(ebpf: &'e mut Ebpf, name: &'static str) -> Result<&'e mut Xdp, AttachError> {
    let program = ebpf.program_mut(name).and_then(|program| program.try_into().ok());
    program.ok_or_else(|| missing(name))
}

/// Has the kernel verify and take `program`. It gives up with `EAGAIN` when a signal arrives
/// meanwhile, which says nothing about the program.
fn load(program: &mut Xdp) -> Result<(), AttachError> {
    const ATTEMPTS: usize = 20;
    let interrupted = |error: &ProgramError| match error {
        ProgramError::LoadError { io_error, .. } => io_error.raw_os_error() == Some(libc::EAGAIN),
        _ => false,
    };
    for _ in 1..ATTEMPTS {
        match program.load() {
            Err(error) if interrupted(&error) => {}
            done => return done.map_err(|error| refused(error.into())),
        }
    }
    program.load().map_err(|error| refused(error.into()))
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, AttachError> {
    ebpf.take_map(name).ok_or_else(|| missing(name))
}

fn mapping<T: super::maps::Shared>(
    ebpf: &Ebpf,
    name: &'static str,
    len: usize,
) -> Result<Mapping<T>, AttachError> {
    let map = ebpf.map(name).and_then(fd).ok_or_else(|| missing(name))?;
    Mapping::of_map(map, len).map_err(AttachError::system("mapping the program's tables"))
}

fn fd(map: &Map) -> Option<BorrowedFd<'_>> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data) => Some(data.fd().as_fd()),
        _ => None,
    }
}

fn missing(name: &str) -> AttachError {
    let error = io::Error::other(format!("the compiled object has no {name}"));
    AttachError::System { doing: "loading the kernel program", error }
}

fn broken(error: MapError) -> AttachError {
    AttachError::System { doing: "opening the program's maps", error: io::Error::other(error) }
}

/// The kernel's answer in terms of what can be done about it.
fn refused(error: EbpfError) -> AttachError {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim().to_owned();
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => match io_error {
            error if is_forbidden(&error) => {
                AttachError::Forbidden { doing: "create a BPF map", error }
            }
            error if error.raw_os_error() == Some(libc::EINVAL) => {
                AttachError::Kernel { release, answer: format!("map {name}: {error}") }
            }
            error => AttachError::System { doing: "creating the program's maps", error },
        },
        EbpfError::ProgramError(ProgramError::LoadError { io_error, .. })
            if is_forbidden(&io_error) =>
        {
            AttachError::Forbidden { doing: "load the program", error: io_error }
        }
        EbpfError::ProgramError(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().rev().filter(|line| !line.is_empty()).collect();
            let last: Vec<&str> = lines.iter().take(6).rev().copied().collect();
            AttachError::Kernel { release, answer: format!("{io_error}: {}", last.join("; ")) }
        }
        error => AttachError::System {
            doing: "loading the kernel program",
            error: io::Error::other(error),
        },
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES))
}
