//! The kernel tier: the XDP program, loaded, attached, and kept in step with the control thread.
//!
//! ```text
//!   control thread ──add_route, open_port──> Kernel ──stores──> maps <──reads── program, in the
//!         ▲                                    │                                driver, per packet
//!         └── event_fd ── news of links, routes, neighbours ──> hops
//! ```
//!
//! The maps are a cache of what the control thread knows: without this tier everything works the
//! same, only slower. The program forwards what it has a live route and a usable hop for, and
//! passes all else to the sockets untouched.
//!
//! Publishing costs no system call but, for an address that is new, the questions of where it is.
//! Everything that is attached or mapped is tied to a descriptor of this process: when it ends, in
//! any way, nothing is left.

mod attach;
mod capabilities;
mod clock;
mod error;
mod hops;
mod links;
mod maps;
mod narrowed;
mod netlink;
mod network;
mod paths;
mod permissions;
mod presence;
mod program;
mod punting;
mod routes;
mod shared;
mod snapshot;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use wire::{LISTENER, PortUse, RELAY_ADDRESSES_MAX};

use crate::route::{Route, TableFull};
use crate::stats::RouteCounters;
use clock::Clock;
use netlink::facts::LinkKind;
use network::{Network, Settled};
use program::Program;
use punting::Punting;
use routes::Routes;
use shared::SharedClock;
use tags::Untagging;

pub use attach::{AttachedInterface, XdpMode};
pub use error::AttachError;
pub use network::NetworkStats;
pub use permissions::MovedPermission;
pub(crate) use shared::{FrameTables, FrameView, Looked};
pub use snapshot::{CpuSnapshot, KernelSnapshot};
pub use wire::Punt;

/// How often the two clocks are compared.
const CLOCK_CHECK: Duration = Duration::from_secs(5);

/// What the kernel tier is to serve.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// Interfaces that carry the fast path, by name. Their VLANs are served with them.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: XdpMode,
    /// Addresses that clients send to; `0.0.0.0` and `[::]` stand for all of their family.
    pub listen: Vec<SocketAddr>,
    /// The relayed addresses; at most [`RELAY_ADDRESSES_MAX`].
    pub relay_ips: Vec<IpAddr>,
    /// Channels that can be published at a time.
    pub routes_max: usize,
    /// What goes to workers by AF_XDP, where they have sockets.
    pub punt: Punt,
}

/// What a round of [`Kernel::on_event`] or [`Kernel::tick`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// There is more to do: call [`Kernel::on_event`] again soon, without waiting for the
    /// descriptor.
    pub more: bool,
    /// Routes that were written again because the way to their destination changed.
    pub routes_moved: usize,
    /// Permissions whose hops changed: for the workers.
    pub permissions: Vec<MovedPermission>,
    /// Interfaces that came back and were attached to again.
    pub attached: Vec<AttachedInterface>,
    /// Interfaces that are gone, or refused the program when they came back, and why.
    pub lost: Vec<(String, String)>,
}

/// One configured interface.
struct Port {
    name: String,
    /// While attached: the interface's index, and what keeps the program there.
    link: Option<(u32, OwnedFd)>,
    /// The number of the program that the link keeps there; `None` where the kernel does not tell.
    program: Option<u32>,
    /// Somebody took the program off: it is tried again until it is back.
    taken: bool,
    /// The index that was last tried in vain.
    refused: Option<u32>,
    /// Interfaces that leave VLAN tags in frames for us. Given back once the program is off.
    untagging: Vec<Untagging>,
}

impl Port {
    /// Takes the program off, and gives back what was changed for it.
    fn detach(&mut self) {
        self.link = None;
        self.untagging.clear();
    }

    /// Says what was changed for the program.
    fn describe(&self, attached: &mut AttachedInterface) {
        if self.untagging.iter().any(Untagging::was_on) {
            attached.why += "; rx-vlan-offload is off meanwhile, so that VLANs are told apart";
        }
    }
}

/// The kernel tier. Dropping it detaches the program.
pub struct Kernel {
    // Dropped first: detached before anything that the program reads is gone.
    interfaces: Vec<Port>,
    program: Program,
    network: Network,
    routes: Routes,
    permissions: permissions::Permissions,
    clock: Clock,
    /// As configured.
    asked: XdpMode,
    /// As attached, everywhere.
    mode: XdpMode,
    relay_ips: Vec<IpAddr>,
    listen: Vec<SocketAddr>,
    punt: Punt,
    /// The clock as workers read it.
    shared_clock: Arc<SharedClock>,
    places_refused: usize,
    ports_open: usize,
    checked: Duration,
    routes_moved: u64,
    clock_corrections: u64,
    vlans_refused: u64,
}

impl Kernel {
    /// Loads the program and attaches it to every configured interface, or to none.
    ///
    /// Works in the calling thread's network namespace, then and later. Blocks for about a tenth
    /// of a second. Needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON.
    ///
    /// # Errors
    ///
    /// What stands in the way, and what to do about it. Nothing is left behind.
    pub fn attach(config: &KernelConfig) -> Result<(Kernel, Vec<AttachedInterface>), AttachError> {
        if !cfg!(target_arch = "x86_64") {
            return Err(AttachError::Machine(std::env::consts::ARCH));
        }
        if config.interfaces.is_empty() {
            return Err(AttachError::NoneGiven);
        }
        let given = config.relay_ips.len();
        if given > RELAY_ADDRESSES_MAX {
            return Err(AttachError::TooManyRelayAddresses { given, most: RELAY_ADDRESSES_MAX });
        }
        let asking = |error: netlink::Refusal| AttachError::System {
            doing: "asking the kernel for its interfaces",
            error: error.into(),
        };
        let links = Network::survey().map_err(asking)?;
        for name in &config.interfaces {
            attach::suitable(&links, name, config.mode)?;
        }
        let missing = capabilities::missing();
        if !missing.is_empty() {
            return Err(AttachError::Capabilities { missing });
        }
        let (program, tables) = Program::load(config.routes_max, links.index_max(), config.punt)?;
        let network = Network::open(tables.hops).map_err(asking)?;
        let clock = program.clock()?;
        let (jiffy, ahead) = clock.relation();
        let shared_clock = SharedClock::new(jiffy, ahead);
        let routes = Routes::new(tables.geometry, tables.index, tables.entries, config.routes_max);
        let names: BTreeSet<&String> = config.interfaces.iter().collect();
        let port = |name: &&String| Port {
            name: (*name).clone(),
            link: None,
            program: None,
            taken: false,
            refused: None,
            untagging: Vec::new(),
        };
        let mut kernel = Kernel {
            interfaces: names.iter().map(port).collect(),
            program,
            network,
            routes,
            permissions: Default::default(),
            clock,
            asked: config.mode,
            mode: config.mode,
            relay_ips: config.relay_ips.iter().map(IpAddr::to_canonical).collect(),
            listen: config.listen.clone(),
            punt: config.punt,
            shared_clock,
            places_refused: 0,
            ports_open: 0,
            checked: Duration::ZERO,
            routes_moved: 0,
            clock_corrections: 0,
            vlans_refused: 0,
        };
        for listener in &config.listen {
            kernel.program.ports()[usize::from(listener.port())].fetch_or(LISTENER, Relaxed);
        }
        let attached = kernel.attach_all()?;
        Ok((kernel, attached))
    }

    /// Publishes a channel, both ways, or replaces it. Takes effect at once.
    ///
    /// A destination that the program cannot reach is no error: sockets carry its traffic until it
    /// can.
    ///
    /// # Errors
    ///
    /// The table is full. Nothing changed.
    pub fn add_route(&mut self, route: &Route) -> Result<(), TableFull> {
        self.routes.add(route, &mut self.network, &self.clock)
    }

    /// Withdraws a channel, both ways; says what the program has forwarded for it. Takes effect at
    /// once.
    pub fn remove_route(&mut self, route: &Route) -> RouteCounters {
        self.routes.remove(route, &mut self.network)
    }

    /// From now on datagrams to `relay` are ours.
    pub fn open_port(&mut self, relay: SocketAddr) {
        if let Some(bit) = self.relay_bit(relay) {
            let before = self.program.ports()[usize::from(relay.port())].fetch_or(bit, Relaxed);
            self.ports_open += usize::from(before & bit == 0);
        }
    }

    /// From now on datagrams to `relay` are the kernel's.
    pub fn close_port(&mut self, relay: SocketAddr) {
        if let Some(bit) = self.relay_bit(relay) {
            let before = self.program.ports()[usize::from(relay.port())].fetch_and(!bit, Relaxed);
            self.ports_open -= usize::from(before & bit != 0);
        }
    }

    /// Readable when [`Kernel::on_event`] has something to do.
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.network.event_fd()
    }

    /// Takes in what changed in the host's network, and makes the program's tables true again.
    /// A bounded piece of work at a time: see [`Changes::more`].
    pub fn on_event(&mut self) -> Changes {
        let settled = self.network.on_event();
        self.follow(settled)
    }

    /// To be called about every second. `now` is CLOCK_MONOTONIC.
    ///
    /// Checks neighbours that only the program uses, so that a gateway that silently changed its
    /// address is noticed, the relation of the kernel's two clocks, and that the program still is where
    /// it was attached.
    pub fn tick(&mut self, now: Duration) -> Changes {
        let check = now.saturating_sub(self.checked) >= CLOCK_CHECK;
        if check {
            self.checked = now;
            if let Ok(reading) = self.program.read_clock()
                && self.clock.correct(reading)
            {
                self.clock_corrections += 1;
                self.shared_clock.set(self.clock.relation().1);
                self.routes.write_all(&self.network, &self.clock);
            }
        }
        let settled = self.network.tick();
        let mut changes = self.follow(settled);
        // rarely: the kernel answers under its lock of all network configuration, which a host that
        // makes and removes namespaces holds for seconds
        if check {
            self.look_after(&mut changes);
        }
        changes
    }

    /// All counters.
    pub fn stats(&self) -> KernelSnapshot {
        let words = self.program.counters().unwrap_or_default();
        let (entries, entries_max) = self.routes.fill();
        KernelSnapshot {
            cpus: words.iter().map(CpuSnapshot::from_words).collect(),
            map_bytes: self.program.memory_bytes(),
            routes: self.routes.len(),
            entries,
            entries_max,
            ports: self.ports_open,
            network: self.network.stats(),
            routes_moved: self.routes_moved,
            clock_corrections: self.clock_corrections,
            vlans_refused: self.vlans_refused,
            places_refused: self.places_refused,
        }
    }

    /// What the program carried of a channel; zero for one that is not published.
    pub fn route_counters(&self, route: &Route) -> RouteCounters {
        self.routes.counters(route)
    }

    fn relay_bit(&self, relay: SocketAddr) -> Option<u64> {
        let ip = relay.ip().to_canonical();
        self.relay_ips.iter().position(|one| *one == ip).map(PortUse::relay)
    }

    /// Carries on what the network found.
    fn follow(&mut self, settled: Settled) -> Changes {
        let mut changes = Changes { more: settled.more, ..Changes::default() };
        if settled.links {
            self.let_go(&mut changes);
            self.come_back(&mut changes);
            changes.more |= self.tell_links();
        }
        changes.routes_moved = self.routes.move_all(&settled.moved, &self.network, &self.clock);
        self.routes_moved += changes.routes_moved as u64;
        changes.permissions = self.permissions.moved(&settled.moved, &self.network);
        changes
    }

    /// Attaches to every interface in one and the same mode, or fails.
    ///
    /// A driver that runs the program natively hands frames straight to the other driver, which
    /// loses them when it has no native XDP. So one that has none makes all generic.
    fn attach_all(&mut self) -> Result<Vec<AttachedInterface>, AttachError> {
        let mut attached = self.attach_each()?;
        let generic = attached.iter().find(|one| one.mode == XdpMode::Generic).cloned();
        self.mode = generic.as_ref().map_or(XdpMode::Native, |_| XdpMode::Generic);
        if let Some(reason) = generic
            && attached.iter().any(|one| one.mode == XdpMode::Native)
        {
            self.interfaces.iter_mut().for_each(|port| port.link = None);
            let why =
                format!("so that frames can cross to {}, which is: {}", reason.name, reason.why);
            let first = std::mem::replace(&mut attached, self.attach_each()?);
            for (one, before) in attached.iter_mut().zip(first) {
                one.why = if before.mode == XdpMode::Generic { before.why } else { why.clone() };
            }
        }
        for (port, one) in self.interfaces.iter().zip(&mut attached) {
            port.describe(one);
        }
        self.tell_links();
        Ok(attached)
    }

    fn attach_each(&mut self) -> Result<Vec<AttachedInterface>, AttachError> {
        (0..self.interfaces.len()).map(|at| self.attach_to(at)).collect()
    }

    fn attach_to(&mut self, at: usize) -> Result<AttachedInterface, AttachError> {
        let port = &mut self.interfaces[at];
        let links = self.network.links();
        port.refused = links.named(&port.name).map(|link| link.index);
        let link = attach::suitable(links, &port.name, self.asked)?.clone();
        if !self.program.reaches(link.index) {
            let why = format!("its number, {}, is too high for the table; restart", link.index);
            return Err(AttachError::Unsuitable { name: link.name, why });
        }
        if (self.asked, self.mode) == (XdpMode::Auto, XdpMode::Native)
            && link.kind == LinkKind::Veth
        {
            let why = format!("{}; or restart, for generic mode", attach::VETH_IS_GENERIC);
            return Err(AttachError::Unsuitable { name: link.name, why });
        }
        attach::keep_tags(links, &link, &mut port.untagging)?;
        let tagged = link.kind == LinkKind::Veth && links.vlan_of(link.index).is_some();
        let netlink = self.network.netlink();
        let (fd, mut attached) = attach::attach(self.program.fd()?, &link, self.mode, netlink)?;
        if (self.asked, self.mode) == (XdpMode::Auto, XdpMode::Generic) {
            attached.why = "all interfaces run in generic mode".to_owned();
        }
        if tagged {
            attached.why += "; its VLANs need txvlan off at its far end (ethtool -K)";
        }
        port.program = attach::program_of(fd.as_fd()).ok().flatten();
        port.link = Some((link.index, fd));
        port.taken = false;
        Ok(attached)
    }

    /// Lets go of interfaces that are gone, or where VLANs cannot be told apart any more.
    fn let_go(&mut self, changes: &mut Changes) {
        let links = self.network.links();
        for port in &mut self.interfaces {
            let Some((index, _)) = port.link else { continue };
            let Some(link) = links.get(index) else {
                port.detach();
                port.refused = None;
                changes.lost.push((port.name.clone(), "the interface is gone".to_owned()));
                continue;
            };
            let kept = attach::suitable(links, &port.name, self.asked)
                .and_then(|_| attach::keep_tags(links, link, &mut port.untagging));
            // Whatever else makes it unsuitable only keeps frames away from it.
            let uncertain = |error: &AttachError| {
                use AttachError::{TagsStripped, TagsUncertain};
                matches!(error, TagsStripped { .. } | TagsUncertain { .. })
            };
            if let Some(error) = kept.err().filter(uncertain) {
                port.detach();
                changes.lost.push((port.name.clone(), error.to_string()));
            }
        }
    }

    /// Attaches to interfaces that were gone and are back: once to each.
    fn come_back(&mut self, changes: &mut Changes) {
        for at in 0..self.interfaces.len() {
            let port = &self.interfaces[at];
            let Some(link) = self.network.links().named(&port.name) else { continue };
            if port.link.is_some() || port.refused == Some(link.index) {
                continue;
            }
            match self.attach_to(at) {
                Ok(mut attached) => {
                    self.interfaces[at].describe(&mut attached);
                    changes.attached.push(attached);
                }
                Err(error) => {
                    self.interfaces[at].detach();
                    changes.lost.push((self.interfaces[at].name.clone(), error.to_string()));
                }
            }
        }
    }

    /// Tells the program and the network which interfaces are served. True when that leaves work.
    fn tell_links(&mut self) -> bool {
        let attached = self.interfaces.iter().filter_map(|port| port.link.as_ref());
        let attached: BTreeSet<u32> = attached.map(|(index, _)| *index).collect();
        let more = self.network.set_attached(attached);
        let refused = self.program.set_ingress(self.network.links().ingress());
        self.vlans_refused += refused as u64;
        if self.punt != Punt::Off {
            let addresses = self.network.links().all_addresses();
            let Kernel { program, listen, relay_ips, .. } = self;
            self.places_refused = program.punting().set_places(&addresses, listen, relay_ips);
        }
        more
    }

    /// The tables as workers read them.
    pub(crate) fn frame_tables(&self) -> Result<FrameTables, AttachError> {
        self.program.frame_tables(Arc::clone(&self.shared_clock))
    }

    /// The interfaces that the program is attached to now: their indexes and names.
    pub(crate) fn attached(&self) -> impl Iterator<Item = (u32, &str)> {
        self.interfaces.iter().filter_map(|port| Some((port.link.as_ref()?.0, port.name.as_str())))
    }

    /// True where the program forwards what it can; workers do all otherwise.
    pub(crate) fn forwards(&self) -> bool {
        self.punt != Punt::All
    }

    /// True while an interface is up.
    pub(crate) fn is_up(&self, index: u32) -> bool {
        self.network.links().get(index).is_some_and(|link| link.up)
    }

    /// What goes to AF_XDP.
    pub(crate) fn punting(&mut self) -> &mut Punting {
        self.program.punting()
    }
}
