//! The twin: the same functions as in the kernel, over frames and tables in the test's memory.

use std::collections::{BTreeMap, HashMap};

use turnwire_tests::buffer::Buffer;
use wire::table::{Bucket, Entry, Geometry, Memory, Table, Writer};
use wire::{
    Checksums, Counters, Direction, Hop, Ingress, Key, Network, Place, Places, PortUse, Punt,
    Reason, Tables,
};

use crate::world::{NOW, Outcome, Relay, World};

/// Room in front of a frame, as a driver leaves it.
const HEADROOM: usize = 256;

pub(crate) struct Host {
    world: World,
    memory: Memory<'static>,
    ports: BTreeMap<u16, u64>,
    punt: Punt,
    places: HashMap<Place, u64>,
}

impl Host {
    pub(crate) fn new(world: &World) -> Self {
        let buckets = Geometry::buckets_for(1024);
        let geometry = Box::leak(Box::new(Geometry { secret: [77; 11], buckets: buckets.into() }));
        let index = (0..buckets).map(|_| Bucket::default()).collect::<Vec<_>>();
        let entries = (0..1024).map(|_| Entry::default()).collect::<Vec<_>>();
        let memory = Memory {
            geometry,
            index: index.leak(),
            entries: entries.leak(),
            moves: Box::leak(Box::default()),
        };
        let mut writer = Writer::new(memory);
        for (key, route) in world.routes() {
            writer.insert(memory, &key, &route).expect("a table with room");
        }
        let (world, ports) = (world.clone(), world.ports());
        Self { world, memory, ports, punt: Punt::Off, places: HashMap::new() }
    }

    /// The same, which hands frames to AF_XDP: every queue has a socket.
    pub(crate) fn punting(world: &World, punt: Punt, places: &[(Place, u64)]) -> Self {
        Self { punt, places: places.iter().copied().collect(), ..Self::new(world) }
    }

    /// The interface that the frame left by; none for what is left to a worker or the stack, though it
    /// has a route.
    fn forward(&self, buffer: &mut Buffer, counted: &mut Counters) -> Result<Option<u32>, Reason> {
        let plan = wire::plan(buffer, self, self)?;
        if self.punt == Punt::All {
            self.hand_over(buffer, None, counted);
            return Ok(None);
        }
        wire::rewrite(buffer, &plan)?;
        plan.forward.count();
        for direction in plan.forward.directions().into_iter().flatten() {
            counted.packets[direction as usize] += 1;
            counted.bytes[direction as usize] += u64::from(plan.forward.data);
        }
        Ok(Some(plan.hop.ifindex))
    }

    fn hand_over(&self, buffer: &Buffer, reason: Option<Reason>, counted: &mut Counters) {
        counted.punted += u64::from(wire::is_punted(buffer, self, self, self, reason));
    }
}

impl Relay for Host {
    fn run(&mut self, frame: &[u8]) -> Outcome {
        let mut buffer = Buffer::new(frame, HEADROOM);
        let mut counted = Counters::ZERO;
        let forwarded = match self.forward(&mut buffer, &mut counted) {
            Ok(interface) => interface,
            Err(reason) => {
                counted.refused[reason as usize] += 1;
                if self.punt != Punt::Off {
                    self.hand_over(&buffer, Some(reason), &mut counted);
                }
                None
            }
        };
        let [to_peer, to_client] = Direction::ALL.map(|way| way as usize);
        let words = [
            &[counted.packets[to_peer], counted.packets[to_client]][..],
            &[counted.bytes[to_peer], counted.bytes[to_client]],
            &[counted.punted],
            &counted.refused,
        ];
        let counted = words.concat().try_into().expect("all words of Counters");
        Outcome { forwarded, frame: buffer.frame().to_vec(), counted }
    }

    fn route_counts(&self, key: &Key) -> Option<(u64, u64)> {
        self.memory.entry_of(key).map(Entry::counted)
    }
}

impl Table for Host {
    fn geometry(&self) -> Geometry {
        self.memory.geometry()
    }
    fn bucket(&self, number: u32) -> [u64; 2] {
        self.memory.bucket(number)
    }
    fn entry(&self, number: u32) -> Option<&Entry> {
        self.memory.entries.get(number as usize)
    }
}

impl Tables for Host {
    fn port(&self, number: u16) -> PortUse {
        PortUse(self.ports.get(&number).copied().unwrap_or(0))
    }
    fn now(&self) -> u64 {
        NOW
    }
}

impl Network for Host {
    fn hop(&self, index: u16) -> Option<Hop> {
        *self.world.hops.get(usize::from(index))?
    }
}

impl Ingress for Host {
    fn own(&self, mac: u64, vlan: u16) -> Option<Checksums> {
        let ours = vlan == 0 || self.world.vlans.contains(&vlan);
        ours.then(|| Checksums::of(self.world.link_word(), mac)).flatten()
    }
}

impl Places for Host {
    fn place(&self, place: Place) -> u64 {
        self.places.get(&place).copied().unwrap_or(0)
    }
}
