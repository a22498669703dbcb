//! Generators that go past the sockets: XDP in the kernel, and AF_XDP.
//!
//! ```text
//!  allocations, channels, refreshes        sockets, as ever
//!                                             │ STUN
//!  generator ──redirect or AF_XDP──> interface ═══════════ relay
//!  sink <──XDP─────────────────────> interface │
//!     everything else is passed on to the sockets
//! ```
//!
//! The sockets of clients and peers keep their ports; datagrams for these ports that carry our
//! stamp end in the sink, which counts them. The crate `traffic` has the programs.

mod device;
mod result;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use traffic::{Flow as Way, Leg, Offer, Order, Path, Place, Scheme, Seen, Traffic};

use crate::lab::Load;
use crate::latency;
use crate::link::Link;
use crate::options::{Generator, Options};
use crate::plan::{Direction, Flow, channel_number};
use crate::traffic::{Shared, Slots};
use device::Device;

/// What a generator past the sockets is made for.
pub(crate) struct Site<'a> {
    pub(crate) options: &'a Options,
    /// Clients, then peers.
    pub(crate) links: &'a [std::sync::Arc<Link>],
    /// Every flow.
    pub(crate) flows: &'a [Flow],
    /// The relayed address of each allocation.
    pub(crate) relayed: Vec<std::net::SocketAddr>,
}

/// A generator past the sockets, with its sink.
pub(crate) struct Xdp {
    traffic: Traffic,
    devices: Vec<Device>,
    /// For AF_XDP.
    senders: Mutex<Vec<traffic::xsk::Sender>>,
    ways: Vec<Way>,
    kind: Generator,
    place: Place,
    /// What the sink had seen when the run began.
    before: Mutex<Seen>,
    /// Nanoseconds that the last look at the latencies knew, by direction.
    looked: Mutex<Vec<Vec<(u64, u64)>>>,
    /// Where the run was asked to end, and at which rate.
    total: AtomicU64,
}

/// What can be refused before the server is asked anything.
///
/// # Errors
/// A missing interface or capability, by its name.
pub(crate) fn preflight(options: &Options) -> Result<()> {
    if options.generator != Generator::Socket {
        device::capabilities(options.generator)?;
        device::named(&options.interfaces)?;
    }
    Ok(())
}

impl Xdp {
    /// Loads the programs, and attaches the sink.
    ///
    /// # Errors
    /// In words for whoever started this: an interface, a capability, a route, a neighbour.
    pub(crate) fn open(site: &Site<'_>) -> Result<Xdp> {
        let options = site.options;
        let kind = options.generator;
        let mut devices = device::named(&options.interfaces)?;
        let (paths, ways) = paths(site, &devices)?;
        let payloads = options.mix.pattern();
        let longest = options.mix.longest();
        ensure!(
            longest <= traffic::abi::PAYLOAD_MAX,
            "--generator {kind}: a frame carries payloads of at most {} bytes, not {longest}",
            traffic::abi::PAYLOAD_MAX
        );
        ensure!(
            ways.len() <= traffic::abi::FLOWS,
            "--generator {kind} has at most {} flows, not {}",
            traffic::abi::FLOWS,
            ways.len()
        );
        device::fit(&devices, &paths, longest)?;
        let scheme = Scheme { paths, flows: ways.len(), payloads, tracked: true, arms: [0; 2] };
        let mut traffic = Traffic::open(&scheme).context("the kernel refuses XDP programs")?;
        for (number, way) in ways.iter().enumerate() {
            traffic.set_flow(number, way);
        }
        for device in &mut devices {
            device.attach(&mut traffic)?;
        }
        let senders = match kind {
            Generator::AfXdp { queue } => devices
                .iter_mut()
                .map(|device| device.open(queue, options.spin))
                .collect::<Result<_>>()?,
            Generator::Kernel | Generator::Socket => Vec::new(),
        };
        Ok(Xdp {
            traffic,
            devices,
            senders: Mutex::new(senders),
            ways,
            kind,
            place: Place { core: options.cores.first().copied(), rank: None },
            before: Mutex::default(),
            looked: Mutex::new(vec![Vec::new(); 2]),
            total: AtomicU64::new(0),
        })
    }

    /// Makes ready for a run; nothing is sent yet.
    ///
    /// # Errors
    /// It is too long, or the kernel refuses to tell what the sink has seen.
    pub(crate) fn prepare(&self, tag: u8, load: &Load, slots: Slots) -> Result<()> {
        let offer = load.rate.map_or(Offer::Most, Offer::Rate);
        let order =
            Order { offer, time: load.duration, start: Some(slots.start), tag, slot: slots.len };
        self.traffic.prepare(&order)?;
        *lock(&self.before) = self.traffic.seen()?;
        lock(&self.looked).iter_mut().for_each(Vec::clear);
        let total = load.rate.map_or(0.0, |rate| (rate * load.duration.as_secs_f64()).ceil());
        self.total.store(total as u64, Ordering::Relaxed);
        self.devices.iter().try_for_each(Device::begin)
    }

    /// Sends the prepared run, on this thread, until it is over or `stop`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn send(&self, stop: &AtomicBool) -> Result<()> {
        match self.kind {
            Generator::AfXdp { .. } => {
                self.traffic.transmit(&self.ways, &mut lock(&self.senders), self.place, stop)
            }
            Generator::Kernel | Generator::Socket => self.traffic.generate(self.place, stop),
        }
        .with_context(|| format!("--generator {}", self.kind))
    }

    /// Tells the threads' common counts how it stands.
    pub(crate) fn tell(&self, shared: &Shared) {
        shared.sent.store(self.traffic.sent().packets.iter().sum(), Ordering::Relaxed);
        if let Ok(seen) = self.traffic.seen() {
            let seen = minus(seen, *lock(&self.before));
            let all = [seen.right, seen.damaged, seen.unreadable, seen.misrouted];
            shared.received.store(all.into_iter().flatten().sum(), Ordering::Relaxed);
        }
    }

    /// Adds the latencies since the last call to what the threads share.
    pub(crate) fn tell_latency(&self, shared: &Shared) {
        let mut looked = lock(&self.looked);
        let mut recent: Histogram<u64> = latency::histogram();
        for (old, to_client) in looked.iter_mut().zip([false, true]) {
            let new = self.traffic.latency(to_client);
            for (nanoseconds, count) in &new {
                let before = old.iter().find(|(at, _)| at == nanoseconds).map_or(0, |one| one.1);
                recent.saturating_record_n((*nanoseconds).max(1), count.saturating_sub(before));
            }
            *old = new;
        }
        // The ranges are equal, so adding cannot fail.
        let _ = lock(&shared.recent).add(&recent);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn minus(now: Seen, before: Seen) -> Seen {
    let both = |now: [u64; 2], before: [u64; 2]| [now[0] - before[0], now[1] - before[1]];
    Seen {
        right: both(now.right, before.right),
        damaged: both(now.damaged, before.damaged),
        unreadable: both(now.unreadable, before.unreadable),
        misrouted: both(now.misrouted, before.misrouted),
        stray: now.stray - before.stray,
        repeated: now.repeated - before.repeated,
        other: now.other - before.other,
    }
}

/// How every flow leaves and arrives, and the distinct paths by which they leave.
fn paths(site: &Site<'_>, devices: &[Device]) -> Result<(Vec<Path>, Vec<Way>)> {
    let (server, clients) = (site.options.server, site.options.shape.allocations);
    let locals = site.links.iter().map(|link| link.local()).collect::<Result<Vec<_>, _>>()?;
    let mut paths: Vec<Path> = Vec::new();
    let mut ways = Vec::with_capacity(site.flows.len());
    for flow in site.flows {
        let Flow { direction, from, to, allocation, channel } = *flow;
        let (near, far) = (locals[from], locals[to]);
        let relayed = site.relayed[allocation];
        let number = Some(channel_number(channel).number());
        let out = if from < clients { (server, number) } else { (relayed, None) };
        let arrive = if to < clients { (server, number) } else { (relayed, None) };
        let (src, dst) = (near.ip(), out.0.ip());
        let known = paths.iter().position(|path| path.src == src && path.dst == dst);
        let path = match known {
            Some(path) => path,
            None if paths.len() == traffic::abi::PATHS => bail!(
                "the server gives relayed addresses at more than {} IPs",
                traffic::abi::PATHS - 1
            ),
            None => {
                paths.push(device::path(devices, src, dst)?);
                paths.len() - 1
            }
        };
        ways.push(Way {
            path,
            out: Leg { src: near.port(), dst: out.0.port(), wrapper: out.1.into() },
            arrive: Leg { src: arrive.0.port(), dst: far.port(), wrapper: arrive.1.into() },
            to_client: direction == Direction::ToClient,
        });
    }
    Ok((paths, ways))
}
