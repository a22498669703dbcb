//! Which hop leads to each destination in use.
//!
//! A path is a destination as seen from one of this host's addresses, because the kernel may route
//! by source. Thousands of paths share a hop. When the kernel's routes change, the paths that the
//! change can concern are doubted and looked up again, a bounded number at a time.

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::hops::NO_HOP;
use super::netlink::facts::Prefix;

/// A destination, from one of this host's addresses. Ordered by destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Path {
    pub(crate) to: IpAddr,
    pub(crate) from: IpAddr,
}

impl Path {
    /// IPv4-mapped addresses are IPv4's.
    pub(crate) fn between(from: IpAddr, to: IpAddr) -> Path {
        Path { to: to.to_canonical(), from: from.to_canonical() }
    }
}

/// What leads over which path, each as often as it has paths.
pub(super) struct ByPath<T> {
    all: BTreeSet<(Path, T)>,
    /// None is less.
    least: T,
}

impl<T: Copy + Ord + Hash> ByPath<T> {
    pub(super) fn new(least: T) -> ByPath<T> {
        ByPath { all: BTreeSet::new(), least }
    }

    pub(super) fn insert(&mut self, path: Path, one: T) {
        self.all.insert((path, one));
    }

    pub(super) fn remove(&mut self, path: Path, one: T) {
        self.all.remove(&(path, one));
    }

    /// All that lead over one of `paths`.
    pub(super) fn over(&self, paths: &HashSet<Path>) -> HashSet<T> {
        let over = |path: &Path| {
            let path = *path;
            self.all.range((path, self.least)..).take_while(move |(at, _)| *at == path)
        };
        paths.iter().flat_map(over).map(|(_, one)| *one).collect()
    }
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// Index of the hop, or [`NO_HOP`].
    pub(crate) hop: u16,
    /// There is no hop for want of room, or of an answer: worth another try later.
    pub(crate) starved: bool,
}

#[derive(Default)]
struct State {
    uses: u32,
    way: Way,
    doubted: bool,
}

/// How many paths there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// In use.
    pub(crate) all: usize,
    /// Of these, the ones that lead nowhere.
    pub(crate) nowhere: usize,
    /// Of these, the ones that are starved.
    pub(crate) starved: usize,
}

/// Every path in use.
#[derive(Default)]
pub(crate) struct Paths {
    all: BTreeMap<Path, State>,
    doubted: VecDeque<Path>,
    nowhere: usize,
    starved: usize,
}

impl Paths {
    /// One more use. False when the path is new, and has to be [set](Paths::set).
    pub(crate) fn hold(&mut self, path: Path) -> bool {
        let state = self.all.entry(path).or_default();
        state.uses += 1;
        let known = state.uses > 1;
        self.nowhere += usize::from(!known);
        known
    }

    /// One use less. The hop that is given up with the last one.
    pub(crate) fn release(&mut self, path: Path) -> Option<u16> {
        let state = self.all.get_mut(&path)?;
        state.uses -= 1;
        if state.uses > 0 {
            return None;
        }
        let way = self.all.remove(&path)?.way;
        self.nowhere -= usize::from(way.hop == NO_HOP);
        self.starved -= usize::from(way.starved);
        Some(way.hop)
    }

    /// Where the path leads: [`NO_HOP`] for one not in use.
    pub(crate) fn hop(&self, path: Path) -> u16 {
        self.all.get(&path).map_or(NO_HOP, |state| state.way.hop)
    }

    /// Sets where a path leads, and returns the hop it led to before.
    pub(crate) fn set(&mut self, path: Path, way: Way) -> Option<u16> {
        let state = self.all.get_mut(&path)?;
        let before = std::mem::replace(&mut state.way, way);
        self.nowhere += usize::from(way.hop == NO_HOP);
        self.nowhere -= usize::from(before.hop == NO_HOP);
        self.starved += usize::from(way.starved);
        self.starved -= usize::from(before.starved);
        Some(before.hop)
    }

    /// Those in use.
    pub(crate) fn all(&self) -> impl Iterator<Item = Path> {
        self.all.keys().copied()
    }

    /// True while the path is in use.
    pub(crate) fn is_held(&self, path: Path) -> bool {
        self.all.contains_key(&path)
    }

    /// Doubts a path in use.
    pub(crate) fn doubt(&mut self, path: Path) {
        self.doubt_range(Some(path..=path), |_, _| true);
    }

    /// Doubts every path.
    pub(crate) fn doubt_all(&mut self) {
        self.doubt_range(None, |_, _| true);
    }

    /// Doubts the paths to destinations inside `prefix`.
    pub(crate) fn doubt_prefix(&mut self, prefix: Prefix) {
        self.doubt_range(Some(range(prefix)), |_, _| true);
    }

    /// Doubts the paths from or to `address`.
    pub(crate) fn doubt_address(&mut self, address: IpAddr) {
        self.doubt_range(None, |path, _| path.from == address || path.to == address);
    }

    /// Doubts the paths over `hops`, and those that lead nowhere.
    pub(crate) fn doubt_over(&mut self, hops: &HashSet<u16>) {
        self.doubt_range(None, |_, State { way, .. }| way.hop == NO_HOP || hops.contains(&way.hop));
    }

    /// Doubts the paths that deserve another try.
    pub(crate) fn doubt_starved(&mut self) {
        self.doubt_range(None, |_, state| state.way.starved);
    }

    /// The next path that is doubted.
    pub(crate) fn next_doubted(&mut self) -> Option<Path> {
        loop {
            let path = self.doubted.pop_front()?;
            if let Some(state) = self.all.get_mut(&path)
                && std::mem::take(&mut state.doubted)
            {
                return Some(path);
            }
        }
    }

    /// True while [`Paths::next_doubted`] has more.
    pub(crate) fn is_doubtful(&self) -> bool {
        !self.doubted.is_empty()
    }

    /// How many there are.
    pub(crate) fn counts(&self) -> Counts {
        Counts { all: self.all.len(), nowhere: self.nowhere, starved: self.starved }
    }

    fn doubt_range(
        &mut self,
        range: Option<RangeInclusive<Path>>,
        which: impl Fn(&Path, &State) -> bool,
    ) {
        let all = match range {
            Some(range) => self.all.range_mut(range),
            None => self.all.range_mut(..),
        };
        for (path, state) in all {
            if !state.doubted && which(path, state) {
                state.doubted = true;
                self.doubted.push_back(*path);
            }
        }
    }
}

/// All paths to the destinations inside a prefix.
fn range(prefix: Prefix) -> RangeInclusive<Path> {
    let (first, last) = prefix.ends().into_inner();
    let lowest = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let highest = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));
    Path { to: first, from: lowest }..=Path { to: last, from: highest }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(to: &str) -> Path {
        let to: IpAddr = to.parse().unwrap();
        let from = if to.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
        Path { to, from: from.parse().unwrap() }
    }

    fn doubted(paths: &mut Paths) -> Vec<String> {
        std::iter::from_fn(|| paths.next_doubted()).map(|path| path.to.to_string()).collect()
    }

    fn paths(all: &[&str]) -> Paths {
        let mut paths = Paths::default();
        all.iter().for_each(|to| assert!(!paths.hold(path(to))));
        paths
    }

    #[test]
    fn a_changed_route_casts_doubt_on_the_destinations_inside_it_only() {
        let mut paths = paths(&["10.1.0.0", "10.1.255.255", "10.2.0.1", "9.255.255.255", "::1"]);
        paths.doubt_prefix(Prefix { address: [10, 1, 2, 3].into(), len: 16 });
        assert_eq!(doubted(&mut paths), ["10.1.0.0", "10.1.255.255"]);
        paths.doubt_prefix(Prefix { address: [10, 2, 0, 1].into(), len: 32 });
        assert_eq!(doubted(&mut paths), ["10.2.0.1"]);
    }

    #[test]
    fn a_default_route_casts_doubt_on_its_whole_family() {
        let mut paths = paths(&["10.1.0.0", "2001:db8::5", "ffff::1"]);
        paths.doubt_prefix(Prefix { address: Ipv4Addr::UNSPECIFIED.into(), len: 0 });
        assert_eq!(doubted(&mut paths), ["10.1.0.0"]);
        paths.doubt_prefix(Prefix { address: Ipv6Addr::UNSPECIFIED.into(), len: 0 });
        assert_eq!(doubted(&mut paths), ["2001:db8::5", "ffff::1"]);
    }

    #[test]
    fn a_closed_interface_casts_doubt_on_what_leads_over_it_and_on_what_leads_nowhere() {
        let mut paths = paths(&["10.1.0.0", "10.2.0.0", "10.3.0.0"]);
        paths.set(path("10.1.0.0"), Way { hop: 7, starved: false });
        paths.set(path("10.2.0.0"), Way { hop: 8, starved: false });
        paths.doubt_over(&HashSet::from([7]));
        assert_eq!(doubted(&mut paths), ["10.1.0.0", "10.3.0.0"]);
    }

    #[test]
    fn a_path_is_doubted_once_and_never_after_it_is_given_up() {
        let mut paths = paths(&["10.1.0.0", "10.2.0.0"]);
        paths.doubt_all();
        paths.doubt_all();
        paths.release(path("10.1.0.0"));
        assert_eq!(doubted(&mut paths), ["10.2.0.0"]);
        assert!(!paths.is_doubtful());
    }

    #[test]
    fn a_hop_is_given_up_with_its_last_use() {
        let mut paths = paths(&["10.1.0.0"]);
        paths.set(path("10.1.0.0"), Way { hop: 7, starved: false });
        assert!(paths.hold(path("10.1.0.0")), "known already");
        assert_eq!(paths.release(path("10.1.0.0")), None);
        assert_eq!(paths.release(path("10.1.0.0")), Some(7));
        assert_eq!(paths.hop(path("10.1.0.0")), NO_HOP);
    }

    #[test]
    fn paths_are_counted_by_where_they_lead() {
        let mut paths = paths(&["10.1.0.0", "10.2.0.0", "10.3.0.0"]);
        assert_eq!(paths.counts(), Counts { all: 3, nowhere: 3, starved: 0 });
        paths.set(path("10.1.0.0"), Way { hop: 7, starved: false });
        paths.set(path("10.2.0.0"), Way { hop: NO_HOP, starved: true });
        assert_eq!(paths.counts(), Counts { all: 3, nowhere: 2, starved: 1 });
        paths.set(path("10.2.0.0"), Way { hop: 7, starved: false });
        assert_eq!(paths.counts(), Counts { all: 3, nowhere: 1, starved: 0 });
        for to in ["10.1.0.0", "10.2.0.0", "10.3.0.0"] {
            assert!(paths.release(path(to)).is_some());
        }
        assert_eq!(paths.counts(), Counts::default());
    }
}
