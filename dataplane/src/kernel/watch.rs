//! What is asked of the kernel's network configuration, and its news: on a thread of its own.
//!
//! ```text
//!   control thread ── which way to 203.0.113.9? nudge 192.0.2.1 ──> Watch ──> kernel
//!      (Line)      <── ways, news, where the program is ───────────   └─ sleeps until asked or told
//! ```
//!
//! The kernel answers most such questions under one lock for all network configuration (RTNL), which a
//! host that makes and removes namespaces holds for seconds. Clients do not wait for that: the control
//! thread asks, and goes on. What it publishes meanwhile has no next hop, so sockets serve it until the
//! answer comes. It remains the only writer of the tables.
//!
//! Both ways are bounded rings. What finds no room among the questions stays doubted, and is asked once
//! there is; the watch takes neither questions nor news while its reports find no room, and news that
//! the kernel cannot keep meanwhile are made good by asking for everything. Reports come in the order in
//! which things were seen, so an answer that is out of date is followed by the news that says so.
//!
//! Ways and chores have a ring each: a way is told at once, and a chore may wait for that lock. However
//! many neighbours are to be found out, a way waits for one chore at most.

mod line;

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use rtrb::{Consumer, Producer, PushError};

use super::interfaces::{Interfaces, Standing};
use super::links::{LinkChange, Links};
use super::netlink::facts::{Link, Lookup, Neighbour, Reach};
use super::netlink::{Event, Netlink, Policies, Refusal};
use super::paths::Path;
use super::secured::Secured;
use crate::mailbox::Bell;
pub(crate) use line::Line;

/// Ways that may be asked for at a time.
const WAYS_MAX: usize = 1024;
/// Chores that may wait.
const CHORES_MAX: usize = 1024;
/// Reports that may wait.
const REPORTS_MAX: usize = 1024;
/// Ways told before a chore and the news have their turn: about a millisecond's worth.
const ROUND: usize = 64;
/// Datagrams of news read before the questions have their turn.
const NEWS_MAX: usize = 512;

/// What is to be done, and needs no answer of its own.
#[derive(Debug)]
pub(crate) enum Chore {
    /// Have the kernel find this neighbour out: that is news.
    Nudge { link: u32, next: IpAddr },
    /// Try again what failed; and see whether the program still is where it was attached.
    Look { after_program: bool },
    /// Fail, as code does that has a mistake in it.
    #[cfg(test)]
    Fail,
}

/// What it is told.
#[derive(Debug)]
pub(crate) enum Report {
    /// The way of a path. `None`: the kernel had no answer.
    Way(Path, Option<Found>),
    /// A neighbour could not be nudged.
    NotNudged,
    /// Something changed.
    News(Event),
    /// News was lost. Everything follows as soon as the kernel tells it.
    Lost,
    /// Everything, anew.
    Everything(Box<Everything>),
    /// Where the program is changed.
    Standing(Box<Standing>),
    /// The host's IPsec policies are these now.
    Secured(Box<Secured>),
}

/// A way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) lookup: Lookup,
    /// What is known of the neighbour that it leads to.
    pub(crate) reach: Reach,
}

/// The host's network as the kernel told it in one go.
#[derive(Debug)]
pub(crate) struct Everything {
    pub(crate) links: Vec<Link>,
    pub(crate) addresses: Vec<(u32, IpAddr)>,
    pub(crate) neighbours: Vec<Neighbour>,
}

/// The watch's ends of the rings.
pub(crate) struct Desk {
    ways: Consumer<Path>,
    chores: Consumer<Chore>,
    reports: Producer<Report>,
    /// Reports that found the ring full: those of one question or one datagram.
    waiting: VecDeque<Report>,
    /// Wakes the control thread.
    control: Arc<Bell>,
    /// Something was put in since it was last rung.
    pending: bool,
}

impl Desk {
    fn tell(&mut self, report: Report) {
        self.waiting.push_back(report);
        self.refill();
    }

    fn refill(&mut self) {
        while let Some(report) = self.waiting.pop_front() {
            if let Err(PushError::Full(report)) = self.reports.push(report) {
                self.waiting.push_front(report);
                return;
            }
            self.pending = true;
        }
    }

    /// True while what is found can be told.
    fn has_room(&mut self) -> bool {
        self.refill();
        self.waiting.is_empty()
    }

    fn flush(&mut self) {
        if std::mem::take(&mut self.pending) {
            self.control.ring();
        }
    }
}

/// The watching half.
pub(crate) struct Watch {
    /// Dropped first: detached before anything that the program reads is gone.
    interfaces: Option<Interfaces>,
    netlink: Netlink,
    links: Links,
    /// News was lost, and everything is yet to be told anew.
    lost: bool,
    policies: Option<Policies>,
    /// They are to be read again.
    unread: bool,
}

impl Watch {
    /// Learns the interfaces and addresses of the calling thread's network namespace, on the calling
    /// thread.
    pub(crate) fn open() -> Result<Watch, Refusal> {
        let mut netlink = Netlink::open()?;
        let mut links = Links::default();
        links.replace(netlink.links()?, netlink.addresses()?);
        Ok(Watch { interfaces: None, netlink, links, lost: false, policies: None, unread: false })
    }

    /// The interfaces.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// For attaching, before the relay serves.
    pub(crate) fn netlink(&mut self) -> (&Links, &mut Netlink) {
        (&self.links, &mut self.netlink)
    }

    /// From now on the host's IPsec policies are watched, too; those of now.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_ADMIN.
    pub(crate) fn heed_policies(&mut self) -> Result<Secured, Refusal> {
        self.policies = Policies::open()?;
        self.policies.as_mut().map_or(Ok(Secured::default()), Policies::read)
    }

    /// Keeps the program on these from now on.
    pub(crate) fn keep(&mut self, interfaces: Interfaces) {
        self.interfaces = Some(interfaces);
    }

    #[cfg(test)]
    pub(crate) fn interfaces(&self) -> &Interfaces {
        self.interfaces.as_ref().expect("they were given")
    }

    /// Readable when there is news.
    fn news_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.netlink.news_fd()].into_iter().chain(self.policies.as_ref().map(Policies::news_fd))
    }

    /// A bounded piece of work. True when there is more that need not be waited for.
    pub(crate) fn round(&mut self, desk: &mut Desk) -> bool {
        let more = self.answer(desk);
        let more = self.read_news(desk) || more;
        self.read_policies(desk);
        let goes_on = more && desk.has_room();
        desk.flush();
        goes_on
    }

    /// Ways first, which the kernel tells at once where it can, then one chore. True when there is more.
    fn answer(&mut self, desk: &mut Desk) -> bool {
        // of this round only: news of them are read after it
        let mut reaches = HashMap::new();
        for _ in 0..ROUND {
            if !desk.has_room() {
                break;
            }
            let Ok(path) = desk.ways.pop() else { break };
            let found = self.find(path, &mut reaches).ok();
            desk.tell(Report::Way(path, found));
        }
        desk.flush();
        if desk.has_room()
            && let Ok(chore) = desk.chores.pop()
        {
            self.see_to(chore, desk);
        }
        !desk.ways.is_empty() || !desk.chores.is_empty()
    }

    fn see_to(&mut self, chore: Chore, desk: &mut Desk) {
        match chore {
            Chore::Nudge { link, next } => {
                if self.netlink.solicit(link, next).is_err() {
                    desk.tell(Report::NotNudged);
                }
            }
            Chore::Look { after_program } => self.look(after_program, desk),
            #[cfg(test)]
            Chore::Fail => panic!("as a test wants it"),
        }
    }

    /// Something went wrong in the middle of something: whatever is known is asked for anew.
    fn doubt(&mut self, desk: &mut Desk) {
        if !self.lost {
            desk.tell(Report::Lost);
        }
        (self.lost, self.unread) = (true, true);
    }

    fn find(
        &mut self,
        path: Path,
        reaches: &mut HashMap<(u32, IpAddr), Reach>,
    ) -> Result<Found, Refusal> {
        let lookup = self.netlink.lookup(path.from, path.to)?;
        let Lookup::Via { link, next, .. } = lookup else {
            return Ok(Found { lookup, reach: Reach::Unknown });
        };
        let reach = match reaches.get(&(link, next)) {
            Some(reach) => *reach,
            None => self.netlink.neighbour(link, next)?,
        };
        reaches.insert((link, next), reach);
        Ok(Found { lookup, reach })
    }

    fn look(&mut self, after_program: bool, desk: &mut Desk) {
        self.tell_everything(desk);
        if after_program && let Some(interfaces) = &mut self.interfaces {
            let standing = interfaces.look_after(&self.links, &mut self.netlink);
            standing.into_iter().for_each(|now| desk.tell(Report::Standing(Box::new(now))));
        }
    }

    /// True when there may be more.
    fn read_news(&mut self, desk: &mut Desk) -> bool {
        let (mut news, mut links, mut more) = (Vec::new(), false, true);
        for _ in 0..NEWS_MAX {
            if !desk.has_room() {
                break;
            }
            if !self.netlink.read_news(&mut |event| news.push(event)) {
                more = false;
                break;
            }
            news.drain(..).for_each(|event| links |= self.take_in(event, desk));
        }
        if links {
            self.follow(desk);
        }
        self.tell_everything(desk);
        more
    }

    /// Takes one piece of news in, and tells it. True when it is about an interface.
    fn take_in(&mut self, event: Event, desk: &mut Desk) -> bool {
        match &event {
            Event::Link(link) => {
                if self.links.set(link.clone()) == LinkChange::Nothing {
                    return false;
                }
            }
            Event::LinkGone(index) => self.links.remove(*index),
            Event::Lost => {
                self.doubt(desk);
                return false;
            }
            Event::Address { .. } | Event::Neighbour(_) | Event::Routes(_) | Event::AllRoutes => {}
        }
        let links = matches!(event, Event::Link(_) | Event::LinkGone(_));
        desk.tell(Report::News(event));
        links
    }

    /// Reads the policies again that changed. Where that fails, it is tried again by and by.
    fn read_policies(&mut self, desk: &mut Desk) {
        let Some(policies) = &mut self.policies else { return };
        for _ in 0..NEWS_MAX {
            if !policies.read_news() {
                break;
            }
            self.unread = true;
        }
        if self.unread
            && desk.has_room()
            && let Ok(secured) = policies.read()
        {
            self.unread = false;
            desk.tell(Report::Secured(Box::new(secured)));
        }
    }

    fn follow(&mut self, desk: &mut Desk) {
        if let Some(interfaces) = &mut self.interfaces {
            let standing = interfaces.follow(&self.links, &mut self.netlink);
            standing.into_iter().for_each(|now| desk.tell(Report::Standing(Box::new(now))));
        }
    }

    /// Asks for everything again after lost news. Where that fails, it is tried again by and by.
    fn tell_everything(&mut self, desk: &mut Desk) {
        if !self.lost {
            return;
        }
        let netlink = &mut self.netlink;
        let (Ok(links), Ok(addresses)) = (netlink.links(), netlink.addresses()) else { return };
        let Ok(neighbours) = netlink.neighbours() else { return };
        self.lost = false;
        self.links.replace(links.clone(), addresses.clone());
        desk.tell(Report::Everything(Box::new(Everything { links, addresses, neighbours })));
        self.follow(desk);
    }
}
