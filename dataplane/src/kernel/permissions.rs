//! The next hops of permissions, for indications that leave as frames by AF_XDP.
//!
//! ```text
//!   permission ── (relayed address, peer)     ──> path ──> hop ─┐ the workers' table of permits
//!              └─ (listening address, client) ──> path ──> hop ─┘ has both indexes
//! ```
//!
//! The program knows nothing of permissions: they are here for their paths, which they share with the
//! channels between the same addresses, and for the news that a path has moved.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use wire::Punt;

use super::Kernel;
use super::network::Network;
use super::paths::{ByPath, Path};
use super::routes::LEAST;
use crate::route::{Permission, PermissionHops};

/// What makes a permission: the peer's address and the relayed address.
type Pair = (IpAddr, SocketAddr);

/// A permission whose way to its peer, or to its client, now leads over another hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedPermission {
    /// The peer's address.
    pub peer: IpAddr,
    /// The relayed transport address.
    pub relay: SocketAddr,
    /// Both hops.
    pub hops: PermissionHops,
}

/// To the peer, and to the client.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    peer: Path,
    client: Path,
}

/// The permissions whose paths are held. As many as the control thread publishes, which its limits
/// bound.
pub(super) struct Permissions {
    held: HashMap<Pair, Ends>,
    by_path: ByPath<Pair>,
}

impl Default for Permissions {
    fn default() -> Permissions {
        Permissions { held: HashMap::new(), by_path: ByPath::new((LEAST.ip(), LEAST)) }
    }
}

impl Permissions {
    fn hold(&mut self, permission: &Permission, network: &mut Network) -> PermissionHops {
        let pair = (permission.peer, permission.relay);
        let ends = ends(permission);
        let before = self.held.get(&pair).copied();
        if before != Some(ends) {
            // Held before the old ones are released, so that a hop in use is never given up.
            network.hold(ends.peer);
            network.hold(ends.client);
            self.release(pair, network);
            self.by_path.insert(ends.peer, pair);
            self.by_path.insert(ends.client, pair);
            self.held.insert(pair, ends);
        }
        hops(&ends, network)
    }

    fn release(&mut self, pair: Pair, network: &mut Network) {
        let Some(ends) = self.held.remove(&pair) else { return };
        for path in [ends.peer, ends.client] {
            self.by_path.remove(path, pair);
            network.release(path);
        }
    }

    /// Those over one of the paths that moved.
    pub(super) fn moved(&self, paths: &HashSet<Path>, network: &Network) -> Vec<MovedPermission> {
        let moved = |(peer, relay): Pair| {
            let ends = self.held.get(&(peer, relay))?;
            Some(MovedPermission { peer, relay, hops: hops(ends, network) })
        };
        self.by_path.over(paths).into_iter().filter_map(moved).collect()
    }
}

fn ends(permission: &Permission) -> Ends {
    let Permission { client, listener, relay, peer, .. } = *permission;
    let (peer, client) =
        (Path::between(relay.ip(), peer), Path::between(listener.ip(), client.ip()));
    Ends { peer, client }
}

fn hops(ends: &Ends, network: &Network) -> PermissionHops {
    PermissionHops { to_peer: network.hop(ends.peer), to_client: network.hop(ends.client) }
}

impl Kernel {
    /// The next hops of a permission, which are followed from now on (see
    /// [`Changes::permissions`](super::Changes::permissions)) until
    /// [`release_permission`](Self::release_permission). None where nothing goes to AF_XDP.
    ///
    /// None yet for an address that is new: they follow in the same way, once they are found.
    pub fn hold_permission(&mut self, permission: &Permission) -> PermissionHops {
        if self.punt == Punt::Off {
            return PermissionHops::default();
        }
        self.permissions.hold(permission, &mut self.network)
    }

    /// Its hops are not needed any more. To be called once the permission is withdrawn: until then a
    /// worker may read their indexes, and a while longer they stand for nothing else.
    pub fn release_permission(&mut self, peer: IpAddr, relay: SocketAddr) {
        self.permissions.release((peer, relay), &mut self.network);
    }
}
