//! From destinations to cells: asks the kernel, and keeps what it said true.
//!
//! ```text
//!  path ──lookup──> interface, neighbour ──> hop ──> cell in the program's memory
//!            ▲              ▲          ▲
//!    routes, rules,     links        neighbours            (news from the kernel)
//! ```
//!
//! The kernel is asked by the [`watch`](super::watch), whose answers come later: until then, and
//! whenever nothing can be settled, a path leads to the empty hop. The packet goes to the sockets, and
//! the kernel finds its own way. So an error here costs speed and never a packet.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};

use wire::HopCell;

use super::hops::{ASKS_MAX, HopKey, Hops, NO_HOP};
use super::interfaces::Standing;
use super::links::{LinkChange, Links};
use super::maps::Mapping;
use super::narrowed::Narrowed;
use super::netlink::facts::{Lookup, Prefix};
use super::netlink::{Event, Refusal};
use super::paths::{Path, Paths, Way};
use super::secured::Secured;
use super::watch::{Chore, Everything, Found, Line, Report};

/// Reports taken in one go, so that a flood of them leaves the control thread time for its clients.
const REPORTS_EACH: usize = 512;

/// What a round of work changed.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Paths that now lead over another hop: their routes are to be published again.
    pub(crate) moved: HashSet<Path>,
    /// Interfaces or their addresses changed.
    pub(crate) links: bool,
    /// Where the program is changed, in this order.
    pub(crate) standings: Vec<Standing>,
    /// The host's IPsec policies changed.
    pub(crate) secured: bool,
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
    /// The host's IPsec policies that demand something of datagrams: what they are about, sockets
    /// carry.
    pub ipsec_policies: usize,
    /// How often news from the kernel was lost and everything was asked for again.
    pub news_lost: u64,
    /// Questions that the kernel did not answer.
    pub questions_failed: u64,
    /// How often questions had to wait because too many others did.
    pub questions_delayed: u64,
}

/// The host's network, as far as routes lead through it.
pub(crate) struct Network {
    /// Dropped first: the watch detaches the program before anything that it reads is gone.
    line: Line,
    links: Links,
    hops: Hops,
    paths: Paths,
    narrowed: Narrowed,
    secured: Secured,
    news_lost: u64,
    questions_failed: u64,
    questions_delayed: u64,
    /// What is settled and yet to be told: a test's, whose watch answers at once.
    settled: Settled,
}

impl Network {
    /// From `links`, which are what the watch at the end of `line` knows.
    pub(crate) fn new(cells: Mapping<HopCell>, links: Links, line: Line) -> Network {
        Network {
            line,
            links,
            hops: Hops::new(cells),
            paths: Paths::default(),
            narrowed: Narrowed::open(),
            secured: Secured::default(),
            news_lost: 0,
            questions_failed: 0,
            questions_delayed: 0,
            settled: Settled::default(),
        }
    }

    /// The interfaces.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Sets through which interfaces the program can send.
    pub(crate) fn set_attached(&mut self, attached: BTreeSet<u32>) {
        if self.links.set_attached(attached) {
            self.hops.write_all(&self.links);
            self.paths.doubt_all();
            self.ask();
        }
    }

    /// The host's IPsec policies are these. What they are about has no hop from now on; the paths that
    /// this changes.
    pub(crate) fn secure(&mut self, secured: Secured) -> HashSet<Path> {
        let before = std::mem::replace(&mut self.secured, secured);
        let now = &self.secured;
        let changed = |path: &Path| before.concern(*path) != now.concern(*path);
        let changed: HashSet<Path> = self.paths.all().filter(changed).collect();
        for path in &changed {
            if !self.secured.concern(*path) {
                self.paths.doubt(*path);
            } else if let Some(hop) = self.paths.set(*path, Way::default()) {
                self.hops.release(hop);
            }
        }
        changed
    }

    /// Whether the stack alone may carry what takes `path`, or comes back by it.
    pub(crate) fn is_secured(&self, path: Path) -> bool {
        self.secured.concern(path)
    }

    /// Whether any of what comes to `own`, an address of this host, is for the stack alone.
    pub(crate) fn is_secured_at(&self, own: IpAddr) -> bool {
        self.secured.concern_own(own)
    }

    /// False once there is nobody any more who watches the host's network.
    pub(crate) fn is_watched(&self) -> bool {
        self.line.is_alive()
    }

    /// One more route over `path`. Where it leads is asked for if it is new.
    pub(crate) fn hold(&mut self, path: Path) {
        if !self.paths.hold(path) {
            self.paths.doubt(path);
            self.ask();
            #[cfg(test)]
            self.take_in_here();
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

    /// Takes in what the watch reports and makes the tables true again.
    pub(crate) fn on_event(&mut self) -> Settled {
        #[cfg(test)]
        self.take_in_here();
        let mut settled = std::mem::take(&mut self.settled);
        self.take_in(&mut settled);
        self.ask();
        settled
    }

    /// About every second: has neighbours asked about that only the program uses, tried again what had
    /// no place or no answer, and looked again at paths that may have become narrower. `after_program`: the watch is to see to the program's place, too.
    pub(crate) fn tick(&mut self, after_program: bool) -> Settled {
        self.hops.tick(&self.links);
        if self.hops.has_room() && self.paths.counts().starved > 0 {
            self.paths.doubt_starved();
        }
        if self.narrowed.tick() {
            self.paths.doubt_prefix(Prefix { address: Ipv6Addr::UNSPECIFIED.into(), len: 0 });
        }
        if self.is_watched() && !self.line.have(Chore::Look { after_program }) {
            self.questions_delayed += 1;
        }
        self.on_event()
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
            ipsec_policies: self.secured.count(),
            news_lost: self.news_lost,
            questions_failed: self.questions_failed,
            questions_delayed: self.questions_delayed,
        }
    }

    fn take_in(&mut self, settled: &mut Settled) {
        self.line.hear();
        for _ in 0..REPORTS_EACH {
            let Some(report) = self.line.next() else { break };
            match report {
                Report::Way(path, found) => self.lead(path, found, settled),
                Report::NotNudged => self.questions_failed += 1,
                Report::News(event) => settled.links |= self.apply(event),
                Report::Lost => self.news_lost += 1,
                Report::Everything(everything) => {
                    self.replace(*everything);
                    settled.links = true;
                }
                Report::Standing(standing) => settled.standings.push(*standing),
                Report::Secured(secured) => {
                    settled.moved.extend(self.secure(*secured));
                    settled.secured = true;
                }
            }
        }
        settled.more |= !self.line.is_empty();
    }

    /// Where the watch has no thread: has it work until all is answered.
    #[cfg(test)]
    fn take_in_here(&mut self) {
        let mut settled = std::mem::take(&mut self.settled);
        while self.line.work() || !self.line.is_empty() {
            self.take_in(&mut settled);
            self.ask();
        }
        self.settled = Settled { more: false, ..settled };
    }

    /// The line to the watch.
    #[cfg(test)]
    pub(crate) fn line(&mut self) -> &mut Line {
        &mut self.line
    }

    /// Leads a path over the way that was found.
    fn lead(&mut self, path: Path, found: Option<Found>, settled: &mut Settled) {
        self.questions_failed += u64::from(found.is_none());
        if !self.paths.is_held(path) {
            return; // it was given up meanwhile
        }
        let way = match self.secured.concern(path) {
            true => Way::default(),
            false => self.way(found),
        };
        if let Some(before) = self.paths.set(path, way) {
            self.hops.release(before);
            if before != way.hop {
                settled.moved.insert(path);
            }
        }
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
            // told as Report::Lost
            Event::Lost => false,
        }
    }

    /// All that the kernel knows, after lost news.
    fn replace(&mut self, everything: Everything) {
        let Everything { links, addresses, neighbours } = everything;
        self.links.replace(links, addresses);
        let known: HashMap<_, _> =
            neighbours.into_iter().map(|one| ((one.link, one.address), one.reach)).collect();
        for (link, next) in self.hops.neighbours() {
            let reach = known.get(&(link, next)).copied().unwrap_or_default();
            self.hops.set_reach(link, next, reach, &self.links);
        }
        self.hops.write_all(&self.links);
        self.paths.doubt_all();
    }

    /// The kernel takes IPv4 routes over a closed interface out without a word.
    fn close(&mut self, link: u32) {
        let hops = self.hops.over(link);
        self.paths.doubt_over(&hops);
    }

    /// Asks the ways of paths that are doubted, and has neighbours found out that are unknown or in
    /// doubt. What finds no room waits for the next time.
    fn ask(&mut self) {
        if !self.is_watched() {
            return;
        }
        while self.line.has_room() {
            let Some(path) = self.paths.next_doubted() else { break };
            if is_plain(path.to) {
                self.line.ask(path);
            }
        }
        let full = self.paths.is_doubtful();
        self.questions_delayed += u64::from(full);
        if self.line.room() >= ASKS_MAX {
            for (link, next) in self.hops.take_questions() {
                if self.links.egress(link).is_some() {
                    self.line.have(Chore::Nudge { link, next });
                }
            }
        }
        self.line.flush();
    }

    /// The hop of a way, held once more.
    fn way(&mut self, found: Option<Found>) -> Way {
        const NOWHERE: Way = Way { hop: NO_HOP, starved: false };
        const STARVED: Way = Way { hop: NO_HOP, starved: true };
        let Some(Found { lookup, reach }) = found else { return STARVED };
        let Lookup::Via { link, next, mtu } = lookup else { return NOWHERE };
        let key = HopKey { link, next, mtu };
        // While its interface is down a hop in use is only emptied; one that is not is not made.
        if let Some(hop) = self.hops.find(&key) {
            self.hops.hold(hop);
            return Way { hop, starved: false };
        }
        if self.links.egress(key.link).is_none() {
            return NOWHERE;
        }
        let reach = self.hops.reach(key.link, key.next).unwrap_or(reach);
        self.hops.add(key, reach, &self.links).map_or(STARVED, |hop| Way { hop, starved: false })
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
