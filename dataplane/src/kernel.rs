//! The kernel tier: the XDP program, loaded, attached, and kept in step with the control thread.
//!
//! ```text
//!   control thread ──add_route, open_port──> Kernel ──stores──> maps <──reads── program, in the
//!         ▲                                    │ questions                      driver, per packet
//!         └── news of links, routes, ways <── watch: a thread that may wait for the kernel
//! ```
//!
//! The maps are a cache of what the control thread knows: without this tier everything works the
//! same, only slower. The program forwards what it has a live route and a usable hop for, and
//! passes all else to the sockets untouched.
//!
//! Publishing costs no system call, but one that wakes the watch for an address that is new. Until the
//! watch has found where it is, sockets carry its traffic.
//! Everything that is attached or mapped is tied to a descriptor of this process: when it ends, in
//! any way, nothing is left.

mod attach;
mod capabilities;
mod clock;
mod error;
mod hops;
mod interfaces;
mod links;
mod maps;
mod narrowed;
mod netlink;
mod network;
mod paths;
mod permissions;
mod program;
mod punting;
mod routes;
mod secured;
mod shared;
mod snapshot;
mod tags;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use wire::{LISTENER, PortUse, RELAY_ADDRESSES_MAX};

use crate::route::{Route, TableFull};
use crate::stats::RouteCounters;
use clock::Clock;
use interfaces::{Interfaces, Standing};
use mio::Waker;
use network::{Network, Settled};
use program::Program;
use punting::Punting;
use routes::Routes;
use shared::SharedClock;
use watch::{Line, Watch};

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
    /// Routes that were written again because the way to their destination was found, or changed.
    pub routes_moved: usize,
    /// Permissions whose hops changed: for the workers.
    pub permissions: Vec<MovedPermission>,
    /// Interfaces that came back and were attached to again.
    pub attached: Vec<AttachedInterface>,
    /// Interfaces that are gone, or refused the program when they came back, and why.
    pub lost: Vec<(String, String)>,
    /// Whether the host's IPsec policies are about this relay's addresses, where that changed.
    pub secured: Option<bool>,
}

/// The kernel tier. Dropping it detaches the program.
pub struct Kernel {
    // Dropped first: detached before anything that the program reads is gone.
    network: Network,
    program: Program,
    /// Interfaces with the program: index and name.
    attached: Vec<(u32, String)>,
    routes: Routes,
    permissions: permissions::Permissions,
    clock: Clock,
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
    /// As it was last; `None` at the start.
    secured: Option<bool>,
}

impl Kernel {
    /// Loads the program and attaches it to every configured interface, or to none.
    ///
    /// Works in the calling thread's network namespace, then and later. Blocks for about a tenth
    /// of a second, and longer while others configure the host's network; no later call does. Needs
    /// CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON. `waker` wakes the control thread when
    /// [`Kernel::on_event`] has something to do.
    ///
    /// # Errors
    ///
    /// What stands in the way, and what to do about it. Nothing is left behind.
    pub fn attach(
        config: &KernelConfig,
        waker: Arc<Waker>,
    ) -> Result<(Kernel, Vec<AttachedInterface>), AttachError> {
        let starting = AttachError::system("starting the thread that watches the network");
        Kernel::attach_with(config, |watch| Line::start(watch, waker).map_err(starting))
    }

    /// The same with a watch that works when it is looked at, without a thread.
    #[cfg(test)]
    pub(crate) fn attach_here(
        config: &KernelConfig,
    ) -> Result<(Kernel, Vec<AttachedInterface>), AttachError> {
        Kernel::attach_with(config, |watch| Ok(Line::here(watch)))
    }

    fn attach_with(
        config: &KernelConfig,
        line: impl FnOnce(Watch) -> Result<Line, AttachError>,
    ) -> Result<(Kernel, Vec<AttachedInterface>), AttachError> {
        check(config)?;
        let asking = |error: netlink::Refusal| AttachError::System {
            doing: "asking the kernel for its interfaces",
            error: error.into(),
        };
        let mut watch = Watch::open().map_err(asking)?;
        for name in &config.interfaces {
            attach::suitable(watch.links(), name, config.mode)?;
        }
        let missing = capabilities::missing();
        if !missing.is_empty() {
            return Err(AttachError::Capabilities { missing });
        }
        let index_max = watch.links().index_max();
        let policies = watch.heed_policies().map_err(|refusal| AttachError::System {
            doing: "asking the kernel for its IPsec policies",
            error: refusal.into(),
        })?;
        let (program, tables) = Program::load(config.routes_max, index_max, config.punt)?;
        for listener in &config.listen {
            program.ports()[usize::from(listener.port())].fetch_or(LISTENER, Relaxed);
        }
        let clock = program.clock()?;
        let (jiffy, ahead) = clock.relation();
        let shared_clock = SharedClock::new(jiffy, ahead);
        let routes = Routes::new(tables.geometry, tables.index, tables.entries, config.routes_max);
        let names: BTreeSet<String> = config.interfaces.iter().cloned().collect();
        let fd = program.fd()?.try_clone_to_owned();
        let fd = fd.map_err(AttachError::system("attaching the program"))?;
        let mut interfaces =
            Interfaces::new(names.into_iter(), fd, config.mode, program.index_end());
        let (links, netlink) = watch.netlink();
        let told = interfaces.attach_all(links, netlink)?;
        let (attached, mut links) = (interfaces.attached(), links.clone());
        links.set_generic(told.iter().any(|one| one.mode == XdpMode::Generic));
        watch.keep(interfaces);
        let mut network = Network::new(tables.hops, links, line(watch)?);
        network.secure(policies);
        let mut kernel = Kernel {
            network,
            program,
            attached,
            routes,
            permissions: Default::default(),
            clock,
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
            secured: None,
        };
        kernel.tell_links();
        Ok((kernel, told))
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

    /// Takes in what the watch reports of the host's network, and makes the program's tables true
    /// again. A bounded piece of work at a time: see [`Changes::more`]. To be called whenever the
    /// control thread wakes.
    pub fn on_event(&mut self) -> Changes {
        let settled = self.network.on_event();
        self.follow(settled)
    }

    /// To be called about every second. `now` is CLOCK_MONOTONIC.
    ///
    /// Has neighbours checked that only the program uses, so that a gateway that silently changed its
    /// address is noticed, and whether the program still is where it was attached; checks the relation
    /// of the kernel's two clocks.
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
        let mut settled = self.network.tick(check);
        if !self.network.is_watched() && !self.attached.is_empty() {
            settled.standings.push(self.left_by_the_watch());
        }
        self.follow(settled)
    }

    /// Nobody follows the host's network any more, and the program went with who did: routes would lead
    /// where nobody is, so all hops are emptied.
    fn left_by_the_watch(&self) -> Standing {
        let why = "the thread that watches the network has failed: only a restart brings it back";
        let lost = |(_, name): &(u32, String)| (name.clone(), why.to_owned());
        Standing { lost: self.attached.iter().map(lost).collect(), ..Standing::default() }
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
        let links = settled.links || !settled.standings.is_empty();
        for Standing { attached, back, lost } in settled.standings {
            self.attached = attached;
            changes.attached.retain(|one| lost.iter().all(|(name, _)| *name != one.name));
            changes.lost.extend(lost);
            changes.attached.extend(back);
        }
        if links {
            self.tell_links();
        }
        if links || settled.secured || self.secured.is_none() {
            let secured = self.is_secured();
            let before = self.secured.replace(secured).unwrap_or(false);
            changes.secured = (secured != before).then_some(secured);
        }
        changes.routes_moved = self.routes.move_all(&settled.moved, &self.network, &self.clock);
        self.routes_moved += changes.routes_moved as u64;
        changes.permissions = self.permissions.moved(&settled.moved, &self.network);
        changes
    }

    /// Tells the program and the network which interfaces are served.
    fn tell_links(&mut self) {
        self.network.set_attached(self.attached.iter().map(|(index, _)| *index).collect());
        let refused = self.program.set_ingress(self.network.links().ingress());
        self.vlans_refused += refused as u64;
        if self.punt != Punt::Off {
            let addresses = self.network.links().all_addresses();
            let Kernel { program, listen, relay_ips, .. } = self;
            self.places_refused = program.punting().set_places(&addresses, listen, relay_ips);
        }
    }

    /// The tables as workers read them.
    pub(crate) fn frame_tables(&self) -> Result<FrameTables, AttachError> {
        self.program.frame_tables(Arc::clone(&self.shared_clock))
    }

    /// The interfaces that the program is attached to now: their indexes and names.
    pub(crate) fn attached(&self) -> impl Iterator<Item = (u32, &str)> {
        self.attached.iter().map(|(index, name)| (*index, name.as_str()))
    }

    /// True where the program forwards what it can; workers do all otherwise.
    pub(crate) fn forwards(&self) -> bool {
        self.punt != Punt::All
    }

    /// True while IPsec policies are about one of the relay's addresses.
    pub(crate) fn is_secured(&self) -> bool {
        let addresses = self.network.links().all_addresses();
        let own = |listener: &SocketAddr| -> Vec<IpAddr> {
            let (ip, one) = (listener.ip(), listener.ip().to_canonical());
            let of_family = |own: &&IpAddr| ip.is_ipv6() || own.is_ipv4();
            match ip.is_unspecified() {
                true => addresses.iter().filter(of_family).copied().collect(),
                false => vec![one],
            }
        };
        let mut all = self.listen.iter().flat_map(own).chain(self.relay_ips.iter().copied());
        all.any(|own| self.network.is_secured_at(own))
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

/// What is wrong before anything is asked.
fn check(config: &KernelConfig) -> Result<(), AttachError> {
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
    Ok(())
}
