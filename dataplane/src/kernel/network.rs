//! From destinations to cells: asks the kernel, and keeps what it said true.
//!
//! ```text
//!  path ──lookup──> interface, neighbour ──> hop ──> cell in the program's memory
//!            ▲              ▲          ▲
//!    routes, rules,     links        neighbours            (news from the kernel)
//! ```
//!
//! Whatever cannot be settled leads to the empty hop: the packet goes to the sockets, and the
//! kernel finds its own way. So an error here costs speed and never a packet.

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use wire::HopCell;

use super::hops::{HopKey, Hops, NO_HOP};
use super::links::{LinkChange, Links};
use super::maps::Mapping;
use super::narrowed::Narrowed;
use super::netlink::facts::{Lookup, Prefix, Reach};
use super::netlink::{Event, Netlink, Refusal};
use super::paths::{Path, Paths, Way};

/// Datagrams of news read in one go, so that a flood of it leaves the control thread time for its
/// clients.
const NEWS_MAX: usize = 512;
/// Paths looked up in one go: about ten milliseconds' worth.
const LOOKUPS_MAX: usize = 1024;

/// What a round of work changed.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Paths that now lead over another hop: their routes are to be published again.
    pub(crate) moved: HashSet<Path>,
    /// Interfaces or their addresses changed.
    pub(crate) links: bool,
    /// There is more to do: come again without waiting.
    pub(crate) more: bool,
}

/// Counts, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Next hops in use.
    pub hops: usize,
    /// Of these, the ones whose link address is known and whose interface is up.
    pub hops_usable: usize,
    /// Pairs of own and far address that routes lead between.
    pub paths: usize,
    /// Of these, the ones that the program cannot send on: sockets carry their traffic.
    pub paths_without_hop: usize,
    /// Of these, the ones for which the table of hops was full.
    pub paths_starved: usize,
    /// How often news from the kernel was lost and everything was asked for again.
    pub news_lost: u64,
    /// Questions that the kernel did not answer.
    pub questions_failed: u64,
}

/// The host's network, as far as routes lead through it.
pub(crate) struct Network {
    netlink: Netlink,
    links: Links,
    hops: Hops,
    paths: Paths,
    narrowed: Narrowed,
    lost: bool,
    news_lost: u64,
    questions_failed: u64,
}

impl Network {
    /// Learns the interfaces and addresses of the calling thread's network namespace.
    pub(crate) fn open(cells: Mapping<HopCell>) -> Result<Network, Refusal> {
        let mut network = Network {
            netlink: Netlink::open()?,
            links: Links::default(),
            hops: Hops::new(cells),
            paths: Paths::default(),
            narrowed: Narrowed::open(),
            lost: false,
            news_lost: 0,
            questions_failed: 0,
        };
        network.learn_links()?;
        Ok(network)
    }

    /// The interfaces of the calling thread's network namespace.
    pub(crate) fn survey() -> Result<Links, Refusal> {
        let mut netlink = Netlink::open()?;
        let mut links = Links::default();
        links.replace(netlink.links()?, netlink.addresses()?);
        Ok(links)
    }

    /// The interfaces.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Sets through which interfaces the program can send. True when that leaves work for
    /// [`Network::on_event`].
    pub(crate) fn set_attached(&mut self, attached: BTreeSet<u32>) -> bool {
        if self.links.set_attached(attached) {
            self.hops.write_all(&self.links);
            self.paths.doubt_all();
        }
        self.paths.is_doubtful()
    }

    /// Readable when [`Network::on_event`] has something to do.
    pub(crate) fn event_fd(&self) -> BorrowedFd<'_> {
        self.netlink.news_fd()
    }

    /// One more route over `path`.
    pub(crate) fn hold(&mut self, path: Path) {
        if !self.paths.hold(path) {
            let way = self.find_way(path);
            self.paths.set(path, way);
            self.ask_around();
        }
    }

    /// One route less over `path`.
    pub(crate) fn release(&mut self, path: Path) {
        if let Some(hop) = self.paths.release(path) {
            self.hops.release(hop);
        }
    }

    /// The index of the hop that `path`, which is held, leads over.
    pub(crate) fn hop(&self, path: Path) -> u16 {
        self.paths.hop(path)
    }

    /// Reads the kernel's news and makes the tables true again.
    pub(crate) fn on_event(&mut self) -> Settled {
        let mut settled = Settled::default();
        let mut news = Vec::new();
        settled.more = true;
        for _ in 0..NEWS_MAX {
            if !self.netlink.read_news(&mut |event| news.push(event)) {
                settled.more = false;
                break;
            }
        }
        for event in news {
            settled.links |= self.apply(event);
        }
        self.settle(&mut settled);
        settled
    }

    /// About every second: asks about neighbours that only the program uses, tries again what had no
    /// place or no answer, and looks again at paths that may have become narrower.
    pub(crate) fn tick(&mut self) -> Settled {
        let mut settled = Settled::default();
        self.hops.tick(&self.links);
        if self.hops.has_room() && self.paths.counts().starved > 0 {
            self.paths.doubt_starved();
        }
        if self.narrowed.tick() {
            self.paths.doubt_prefix(Prefix { address: Ipv6Addr::UNSPECIFIED.into(), len: 0 });
        }
        self.settle(&mut settled);
        settled
    }

    /// Counts, for the metrics.
    pub(crate) fn stats(&self) -> NetworkStats {
        let (hops, hops_usable) = self.hops.counts();
        let paths = self.paths.counts();
        NetworkStats {
            hops,
            hops_usable,
            paths: paths.all,
            paths_without_hop: paths.nowhere,
            paths_starved: paths.starved,
            news_lost: self.news_lost,
            questions_failed: self.questions_failed,
        }
    }

    /// Asks the driver for its words; see [`Netlink::set_xdp`].
    pub(crate) fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }

    fn learn_links(&mut self) -> Result<(), Refusal> {
        let links = self.netlink.links()?;
        let addresses = self.netlink.addresses()?;
        self.links.replace(links, addresses);
        Ok(())
    }

    /// Takes one piece of news in. True when interfaces or addresses changed.
    fn apply(&mut self, event: Event) -> bool {
        match event {
            Event::Link(link) => {
                let index = link.index;
                let change = self.links.set(link);
                if change == LinkChange::Nothing {
                    return false;
                }
                self.hops.write_all(&self.links);
                match change {
                    LinkChange::Opened => self.paths.doubt_all(),
                    LinkChange::Closed => self.close(index),
                    LinkChange::Frames | LinkChange::Nothing => {}
                }
                true
            }
            Event::LinkGone(index) => {
                self.links.remove(index);
                self.hops.write_all(&self.links);
                self.close(index);
                true
            }
            Event::Address { link, address, present } => {
                self.links.set_address(link, address, present);
                self.paths.doubt_address(address);
                true
            }
            Event::Neighbour(neighbour) => {
                let (link, address) = (neighbour.link, neighbour.address);
                self.hops.set_reach(link, address, neighbour.reach, &self.links);
                false
            }
            Event::Routes(prefix) => {
                self.paths.doubt_prefix(prefix);
                false
            }
            Event::AllRoutes => {
                self.paths.doubt_all();
                false
            }
            Event::Lost => {
                self.news_lost += u64::from(!self.lost);
                self.lost = true;
                false
            }
        }
    }

    /// The kernel takes IPv4 routes over a closed interface out without a word.
    fn close(&mut self, link: u32) {
        let hops = self.hops.over(link);
        self.paths.doubt_over(&hops);
    }

    /// Asks everything again after lost news, then looks up what is doubted.
    fn settle(&mut self, settled: &mut Settled) {
        if self.lost && self.learn_links().is_ok() {
            self.lost = false;
            settled.links = true;
            for (link, next) in self.hops.neighbours() {
                let reach = self.reach(link, next);
                self.hops.set_reach(link, next, reach, &self.links);
            }
            self.hops.write_all(&self.links);
            self.paths.doubt_all();
        }
        for _ in 0..LOOKUPS_MAX {
            let Some(path) = self.paths.next_doubted() else { break };
            let way = self.find_way(path);
            if let Some(before) = self.paths.set(path, way) {
                self.hops.release(before);
                if before != way.hop {
                    settled.moved.insert(path);
                }
            }
        }
        settled.more |= self.paths.is_doubtful();
        self.ask_around();
    }

    /// Looks a path up and holds its hop.
    fn find_way(&mut self, path: Path) -> Way {
        const NOWHERE: Way = Way { hop: NO_HOP, starved: false };
        const STARVED: Way = Way { hop: NO_HOP, starved: true };
        if !is_plain(path.to) {
            return NOWHERE;
        }
        let key = match self.netlink.lookup(path.from, path.to) {
            Ok(Lookup::Via { link, next, mtu }) => HopKey { link, next, mtu },
            Ok(Lookup::Local | Lookup::Unreachable) => return NOWHERE,
            Err(_) => {
                self.questions_failed += 1;
                return STARVED;
            }
        };
        // While its interface is down a hop in use is only emptied; one that is not is not made.
        if let Some(hop) = self.hops.find(&key) {
            self.hops.hold(hop);
            return Way { hop, starved: false };
        }
        if self.links.egress(key.link).is_none() {
            return NOWHERE;
        }
        let reach = self.hops.reach(key.link, key.next);
        let reach = reach.unwrap_or_else(|| self.reach(key.link, key.next));
        self.hops.add(key, reach, &self.links).map_or(STARVED, |hop| Way { hop, starved: false })
    }

    fn reach(&mut self, link: u32, next: IpAddr) -> Reach {
        self.netlink.neighbour(link, next).unwrap_or_else(|_| {
            self.questions_failed += 1;
            Reach::Unknown
        })
    }

    /// Has the kernel find out the neighbours that are unknown or in doubt.
    fn ask_around(&mut self) {
        for (link, next) in self.hops.take_questions() {
            if self.links.egress(link).is_some() && self.netlink.solicit(link, next).is_err() {
                self.questions_failed += 1;
            }
        }
    }
}

/// A destination that one route and one neighbour lead to. A link-local address means nothing
/// without its interface, and is no peer.
fn is_plain(to: IpAddr) -> bool {
    let special = to.is_unspecified() || to.is_multicast() || to.is_loopback();
    !special && !matches!(to, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        match refusal.words {
            Some(words) => io::Error::new(refusal.error.kind(), words),
            None => refusal.error,
        }
    }
}

#[cfg(test)]
mod tests;
