//! The relay's tables for timing, and a frame to start with.
//!
//! What leaves in one direction is what the other takes in: the "peer" is at `192.0.2.20` and
//! talks to `192.0.2.2`; each frame that the program makes of a client's is one from the peer to
//! a relayed address, and is made a client's frame again by the next repetition.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use traffic::packet;
use wire::table::{Bucket, Entry, Geometry, HASH_WORDS, Memory, Writer};
use wire::{Endpoint, Family, Hop, HopCell, Key, LISTENER, PortUse, Route, Tuple, mac_word};

use crate::sys;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/object/measure.o");

/// Loopback, which is where a test run's frames come from.
const INGRESS: u32 = 1;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// As in `measure.rs`.
const FIRST_PORT: u16 = 1024;
const LISTENER_PORT: u16 = 1000;
const PEER_PORT: u16 = 41_000;
const CHANNEL: u16 = 0x4000;

/// The timing programs with `flows` flows in their tables.
pub(crate) struct Tables {
    ebpf: Ebpf,
    frame: Vec<u8>,
}

/// What one call of a program gave.
pub(crate) struct Timing {
    /// The last repetition's action.
    pub(crate) action: u32,
    /// Bytes of the frame afterwards.
    pub(crate) size: usize,
    /// For each repetition, in the mean.
    pub(crate) nanoseconds: f64,
}

impl Tables {
    /// Loads the programs (of `object`, or the committed ones) and fills the tables with `flows`
    /// channels between a client and a peer of these families; `payload` is the size of the
    /// frame's application data.
    pub(crate) fn load(
        object: Option<&[u8]>,
        flows: u16,
        (client, peer): (Family, Family),
        payload: usize,
    ) -> Result<Self> {
        let geometry = geometry(2 * u32::from(flows));
        let buckets = geometry.buckets as u32;
        let words: [u64; HASH_WORDS + 1] = zerocopy::transmute!(geometry);
        let ends = Ends::new(client, peer);
        let keys = [ends.client_key(0), ends.peer_key(0)].map(|key| *key.words());
        let keys: [u64; 10] = zerocopy::transmute!(keys);
        let mut ebpf = EbpfLoader::new()
            .override_global("GEOMETRY", &words[..], true)
            .override_global("FLOWS", &u64::from(flows), true)
            .override_global("KEYS", &keys[..], true)
            .map_max_entries("INDEX", buckets)
            .map_max_entries("ENTRIES", 2 * u32::from(flows))
            .map_max_entries("LINKS", 16)
            .map_max_entries("HASH", 4 * u32::from(flows))
            .load(object.unwrap_or(OBJECT))?;
        for (name, program) in ebpf.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("the verifier refused `{name}`"))?;
        }
        let links = ebpf.map_mut("LINKS").context("LINKS")?;
        Array::<_, u64>::try_from(links)?.set(INGRESS, mac_word(MAC), 0)?;
        let mut hash = HashMap::try_from(ebpf.take_map("HASH").context("HASH")?)?;
        fill(&ebpf, &mut hash, &geometry, &ends, flows)?;
        Ok(Self { ebpf, frame: ends.frame(payload) })
    }

    /// Bytes of the frame that every run starts with.
    pub(crate) fn frame_size(&self) -> usize {
        self.frame.len()
    }

    /// Runs a program `repeat` times.
    pub(crate) fn run(&mut self, name: &str, repeat: u32) -> Result<Timing> {
        let program: &mut Xdp = self.ebpf.program_mut(name).context("no program")?.try_into()?;
        let mut out = [0; 4096];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&self.frame);
        options.data_out = Some(&mut out);
        options.repeat = repeat;
        let result = program.test_run(options)?;
        Ok(Timing {
            action: result.return_value,
            size: result.data_size_out as usize,
            nanoseconds: result.duration.as_nanos() as f64,
        })
    }
}

fn geometry(routes_max: u32) -> Geometry {
    let secret = std::array::from_fn(|at| {
        0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(at as u64 + 77).rotate_left(at as u32 * 5)
    });
    Geometry { secret, buckets: Geometry::buckets_for(routes_max).into() }
}

/// The four addresses of a flow.
struct Ends {
    client: IpAddr,
    server: IpAddr,
    relay: IpAddr,
    peer: IpAddr,
}

impl Ends {
    fn new(client: Family, peer: Family) -> Self {
        let ip = |family, last: u8| match family {
            Family::V4 => IpAddr::from([192, 0, 2, last]),
            Family::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last)]),
        };
        let (server, relay) = (ip(client, 1), ip(peer, 2));
        Self { client: ip(client, 10), server, relay, peer: ip(peer, 20) }
    }

    fn end(ip: IpAddr, port: u16) -> Endpoint {
        SocketAddr::new(ip, port).into()
    }

    fn client_key(&self, port: u16) -> Key {
        let server = Self::end(self.server, LISTENER_PORT);
        Key::new(Self::end(self.client, port), server, CHANNEL)
    }

    fn peer_key(&self, port: u16) -> Key {
        Key::new(Self::end(self.peer, PEER_PORT), Self::end(self.relay, port), 0)
    }

    /// From the client: the headers in front of ChannelData.
    fn frame(&self, payload: usize) -> Vec<u8> {
        let data = [&CHANNEL.to_be_bytes(), &(payload as u16).to_be_bytes()[..]].concat();
        let data = [data, vec![0x5a; payload]].concat();
        let src = SocketAddr::new(self.client, FIRST_PORT);
        let dst = SocketAddr::new(self.server, LISTENER_PORT);
        packet::udp(MAC, [2, 0, 0, 0, 0, 2], src, dst, &data)
    }
}

fn fill(
    ebpf: &Ebpf,
    hash: &mut HashMap<MapData, [u64; 5], [u64; 10]>,
    geometry: &Geometry,
    ends: &Ends,
    flows: u16,
) -> Result<()> {
    let buckets = geometry.buckets as usize;
    let index: &[Bucket] = mapped(ebpf, "INDEX", buckets)?;
    let entries: &[Entry] = mapped(ebpf, "ENTRIES", 2 * usize::from(flows))?;
    let ports: &[AtomicU64] = mapped(ebpf, "PORTS", 65_536)?;
    let hops: &[HopCell] = mapped(ebpf, "HOPS", wire::HOPS_MAX)?;
    hops[0].store(&Hop { dst: MAC, src: MAC, ifindex: INGRESS, mtu: 1500, vlan: 0.into() });
    ports[usize::from(LISTENER_PORT)].store(LISTENER, Relaxed);

    let moves = AtomicU64::new(0);
    let memory = Memory { geometry, index, entries, moves: &moves };
    let mut writer = Writer::new(memory);
    for number in 0..flows {
        let port = FIRST_PORT + number;
        ports[usize::from(port)].store(PortUse::relay(0), Relaxed);
        let (client, server) =
            (Ends::end(ends.client, port), Ends::end(ends.server, LISTENER_PORT));
        let (relay, peer) = (Ends::end(ends.relay, port), Ends::end(ends.peer, PEER_PORT));
        // mirrored: what goes out comes back in
        let from_client = Tuple { src: client, dst: server };
        let from_peer = Tuple { src: peer, dst: relay };
        let sides = [
            (ends.client_key(port), Route::new(from_client, from_peer, 0, u64::MAX)),
            (ends.peer_key(port), Route::new(from_peer, from_client, CHANNEL, u64::MAX)),
        ];
        for (key, route) in sides {
            writer.insert(memory, &key, &route)?;
            let route: [u64; 8] = zerocopy::transmute!(route);
            let mut value = [0; 10];
            value[2..].copy_from_slice(&route);
            hash.insert(key.words(), value, 0)?;
        }
    }
    Ok(())
}

fn mapped<T: sys::Shared>(ebpf: &Ebpf, name: &str, len: usize) -> Result<&'static [T]> {
    let Some(Map::Array(map)) = ebpf.map(name) else { anyhow::bail!("{name} is no array") };
    sys::mapped(map.fd(), len)
}
