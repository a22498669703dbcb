//! What the host's IPsec policies are about: the stack's alone.
//!
//! ```text
//!   policy ── (own prefix, far prefix) ──> by far prefix ──> is this path one of them?
//!        yes: no next hop, for both directions of its channels, so sockets carry them
//!        one of the relay's addresses is in an own prefix: no AF_XDP, which is in front of the stack
//! ```
//!
//! Neither the program nor AF_XDP can encrypt, or tell whether what came was encrypted on its way. What
//! they sent would go in the clear, and what they took in would be what a policy refuses. Ports,
//! priorities, and policies that make exceptions are not looked at: at worst sockets carry what need
//! not be theirs.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use super::netlink::facts::Prefix;
use super::paths::Path;

/// Policies looked at by themselves. Beyond, all is the stack's.
const POLICIES_MAX: usize = 16_384;

/// A policy that demands a transformation, or refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// This host's end.
    pub(crate) local: Prefix,
    /// The far end.
    pub(crate) remote: Prefix,
}

/// All policies in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Secured {
    /// They are about everything.
    all: bool,
    count: usize,
    /// The lengths that there are of far prefixes.
    lengths: BTreeSet<u8>,
    by_remote: HashMap<Prefix, Vec<Prefix>>,
}

impl Secured {
    /// One more.
    pub(crate) fn add(&mut self, policy: Policy) {
        self.count += 1;
        if self.count > POLICIES_MAX {
            self.all = true;
            return;
        }
        let remote = policy.remote.masked();
        self.lengths.insert(remote.len);
        let locals = self.by_remote.entry(remote).or_default();
        if !locals.contains(&policy.local.masked()) {
            locals.push(policy.local.masked());
        }
    }

    /// Everything is the stack's.
    pub(crate) fn add_all(&mut self) {
        self.count += 1;
        self.all = true;
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether what takes this path, or comes back by it, is the stack's.
    pub(crate) fn concern(&self, path: Path) -> bool {
        let own = |local: &Prefix| path.from.is_unspecified() || local.contains(path.from);
        let of_length = |len: &u8| {
            let remote = Prefix { address: path.to, len: *len }.masked();
            self.by_remote.get(&remote).is_some_and(|locals| locals.iter().any(own))
        };
        self.all || self.lengths.iter().any(of_length)
    }

    /// Whether anything that comes to `own`, an address of this host, is the stack's.
    pub(crate) fn concern_own(&self, own: IpAddr) -> bool {
        self.all || self.by_remote.values().flatten().any(|local| local.contains(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        let (address, len) = text.split_once('/').unwrap();
        Prefix { address: address.parse().unwrap(), len: len.parse().unwrap() }
    }

    fn path(from: &str, to: &str) -> Path {
        Path::between(from.parse().unwrap(), to.parse().unwrap())
    }

    #[test]
    fn a_policy_is_about_paths_between_its_prefixes() {
        let mut secured = Secured::default();
        secured.add(Policy { local: prefix("192.0.2.0/25"), remote: prefix("0.0.0.0/0") });
        secured
            .add(Policy { local: prefix("2001:db8::/32"), remote: prefix("2001:db8:ffff::1/33") });
        for (from, to, concerned) in [
            ("192.0.2.1", "198.51.100.1", true),
            ("192.0.2.127", "0.0.0.1", true),
            ("192.0.2.128", "198.51.100.1", false),
            ("0.0.0.0", "198.51.100.1", true),
            ("2001:db8::1", "2001:db8:8000::9", true),
            ("2001:db8::1", "2001:db8:7fff::9", false),
            ("2001:db9::1", "2001:db8:8000::9", false),
        ] {
            assert_eq!(secured.concern(path(from, to)), concerned, "{from} to {to}");
        }
        assert!(secured.concern_own("192.0.2.5".parse().unwrap()));
        assert!(!secured.concern_own("192.0.2.200".parse().unwrap()));
        assert!(!Secured::default().concern(path("192.0.2.1", "198.51.100.1")));
    }

    #[test]
    fn too_many_policies_are_about_everything() {
        let mut secured = Secured::default();
        let policy = Policy { local: prefix("192.0.2.1/32"), remote: prefix("198.51.100.1/32") };
        (0..POLICIES_MAX).for_each(|_| secured.add(policy));
        assert!(!secured.concern(path("203.0.113.1", "203.0.113.2")));
        secured.add(policy);
        assert!(secured.concern(path("203.0.113.1", "203.0.113.2")));
    }
}
