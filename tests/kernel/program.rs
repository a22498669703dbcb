//! The kernel program loaded for test runs: attached to nothing, its maps mapped into the test.
#![allow(unsafe_code, reason = "maps the program's maps into the test's memory")]

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, XskMap};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use wire::table::{Entry, Geometry, HASH_WORDS, Memory, Writer};
use wire::{Counters, HOPS_MAX, HopCell, Place, Punt};

use crate::world::{INGRESS, Outcome, Relay, World};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../ebpf/object/relay.o");

/// Where [`Counters::punted`] is among its words.
pub(crate) const PUNTED: usize = Counters::WORDS - wire::Reason::COUNT - 1;

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// The loaded program. What it maps stays mapped until the test process ends.
pub(crate) struct Program {
    ebpf: Ebpf,
    memory: Memory<'static>,
    writer: Writer,
    ports: &'static [AtomicU64],
    hops: &'static [HopCell],
    links: Array<MapData, u64>,
    vlans: HashMap<MapData, u64, u64>,
    socket: Option<OwnedFd>,
}

impl Program {
    /// Loads the program with the tables of `world`.
    pub(crate) fn load(world: &World) -> Result<Self> {
        Self::load_punting(world, Punt::Off)
    }

    /// The same, with what goes to AF_XDP.
    pub(crate) fn load_punting(world: &World, punt: Punt) -> Result<Self> {
        let buckets = Geometry::buckets_for(1024);
        let secret =
            std::array::from_fn(|at| 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(at as u64 + 3));
        let geometry: &Geometry = Box::leak(Box::new(Geometry { secret, buckets: buckets.into() }));
        let words: [u64; HASH_WORDS + 1] = zerocopy::transmute!(*geometry);
        let mut ebpf = EbpfLoader::new()
            .override_global("GEOMETRY", &words[..], true)
            .override_global("PUNT", &(punt as u64), true)
            .map_max_entries("INDEX", buckets)
            .map_max_entries("ENTRIES", 1024)
            .map_max_entries("LINKS", 16)
            .map_max_entries("SLOTS", 16)
            .load(OBJECT)
            .context("this test loads BPF programs: it needs root")?;
        let relay: &mut Xdp = ebpf.program_mut("relay").context("relay")?.try_into()?;
        relay.load().context("the verifier refused the program")?;
        let memory = Memory {
            geometry,
            index: mapped(&ebpf, "INDEX", buckets as usize)?,
            entries: mapped::<Entry>(&ebpf, "ENTRIES", 1024)?,
            moves: Box::leak(Box::default()),
        };
        let mut program = Self {
            writer: Writer::new(memory),
            memory,
            ports: mapped(&ebpf, "PORTS", 1 << 16)?,
            hops: mapped(&ebpf, "HOPS", HOPS_MAX)?,
            links: ebpf.take_map("LINKS").context("LINKS")?.try_into()?,
            vlans: ebpf.take_map("VLANS").context("VLANS")?.try_into()?,
            socket: None,
            ebpf,
        };
        program.fill(world)?;
        Ok(program)
    }

    fn fill(&mut self, world: &World) -> Result<()> {
        for (port, word) in world.ports() {
            self.ports[usize::from(port)].store(word, Relaxed);
        }
        for (index, hop) in world.hops.iter().enumerate() {
            hop.iter().for_each(|hop| self.hops[index].store(hop));
        }
        for (key, route) in world.routes() {
            self.writer.insert(self.memory, &key, &route)?;
        }
        self.links.set(INGRESS, world.link_word(), 0)?;
        for vlan in &world.vlans {
            let key = u64::from(INGRESS) << 32 | u64::from(*vlan);
            self.vlans.insert(key, world.link_word(), 0)?;
        }
        Ok(())
    }

    /// Tells it that these places are ours, and gives it a socket for the queue of test runs.
    pub(crate) fn take_frames(&mut self, places: &[(Place, u64)], socket: OwnedFd) -> Result<()> {
        let mut map: HashMap<_, [u64; 3], u64> =
            self.ebpf.take_map("PLACES").context("PLACES")?.try_into()?;
        for (place, word) in places {
            map.insert(place.0, word, 0)?;
        }
        let mut slots: Array<_, u32> = self.ebpf.take_map("SLOTS").context("SLOTS")?.try_into()?;
        slots.set(INGRESS, 1 + 64, 0)?;
        let mut sockets = XskMap::try_from(self.ebpf.take_map("SOCKETS").context("SOCKETS")?)?;
        sockets.set(64, socket.as_raw_fd(), 0)?;
        // in the map only for as long as it is open
        self.socket = Some(socket);
        Ok(())
    }

    /// Closes that socket, as a worker does whose queues are asked for.
    pub(crate) fn lose_socket(&mut self) {
        self.socket = None;
    }

    fn counters(&self) -> Result<[u64; Counters::WORDS]> {
        let map: PerCpuArray<_, [u64; Counters::WORDS]> =
            self.ebpf.map("COUNTERS").context("COUNTERS")?.try_into()?;
        let mut sum = [0; Counters::WORDS];
        for cpu in map.get(&0, 0)?.iter() {
            sum.iter_mut().zip(cpu).for_each(|(sum, word)| *sum += word);
        }
        Ok(sum)
    }

    /// Runs the program on `frame`: the action and the frame afterwards.
    fn test_run(&mut self, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
        let program: &mut Xdp = self.ebpf.program_mut("relay").context("relay")?.try_into()?;
        let mut out = vec![0; 4096];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let result = program.test_run(options)?;
        out.truncate(result.data_size_out as usize);
        Ok((result.return_value, out))
    }
}

impl Relay for Program {
    fn run(&mut self, frame: &[u8]) -> Outcome {
        let before = self.counters().expect("the counters can be read");
        let (action, frame) = self.test_run(frame).expect("a test run of this frame");
        let after = self.counters().expect("the counters can be read");
        let counted: [u64; Counters::WORDS] = std::array::from_fn(|at| after[at] - before[at]);
        let forwarded = match action {
            XDP_TX => Some(INGRESS),
            XDP_REDIRECT if counted[PUNTED] != 0 => None,
            XDP_REDIRECT => Some(World::OTHER_INTERFACE),
            XDP_PASS | XDP_DROP => None,
            _ => panic!("the program gave action {action}"),
        };
        Outcome { forwarded, frame, counted }
    }

    fn route_counts(&self, key: &wire::Key) -> Option<(u64, u64)> {
        self.memory.entry_of(key).map(Entry::counted)
    }
}

fn mapped<T>(ebpf: &Ebpf, name: &str, len: usize) -> Result<&'static [T]> {
    let Some(Map::Array(map)) = ebpf.map(name) else { anyhow::bail!("{name} is no array") };
    let (bytes, access) = (len * size_of::<T>(), libc::PROT_READ | libc::PROT_WRITE);
    let fd = map.fd().as_fd().as_raw_fd();
    // SAFETY: a fresh mapping of the whole map, never unmapped; T is made of atomic words.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), bytes, access, libc::MAP_SHARED, fd, 0);
        anyhow::ensure!(start != libc::MAP_FAILED, "{name}: {}", std::io::Error::last_os_error());
        Ok(std::slice::from_raw_parts(start.cast(), len))
    }
}

/// An AF_XDP socket, bound to nothing: enough to be in a map.
pub(crate) fn xdp_socket() -> Result<OwnedFd> {
    // SAFETY: no pointers; the descriptor is new, and nobody else's.
    unsafe {
        let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        anyhow::ensure!(fd >= 0, "AF_XDP: {}", std::io::Error::last_os_error());
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
