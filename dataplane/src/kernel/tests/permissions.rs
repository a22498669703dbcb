//! The next hops of permissions, for what leaves as frames by AF_XDP.

use std::time::Duration;

use wire::Punt;

use super::lab::{Lab, attach, now, route};
use crate::kernel::testing::{in_namespace, ip};
use crate::kernel::{Kernel, MovedPermission};
use crate::route::{Permission, PermissionHops};

/// Where `kernel` would send what the permission is for.
fn permission() -> Permission {
    let route = route('4', '4');
    let (peer, expires) = ("203.0.113.9".parse().unwrap(), now() + Duration::from_secs(300));
    let (client, listener, relay) = (route.client, route.listener, route.relay);
    Permission { client, listener, relay, peer, expires }
}

fn attach_punting(punt: Punt) -> Kernel {
    attach(|config| config.punt = punt).unwrap().0
}

#[test]
fn a_permissions_hops_follow_the_kernels_routes_until_it_is_released() {
    in_namespace(|| {
        let _lab = Lab::new();
        ip("route add 203.0.113.9 via 198.51.100.2");
        let mut kernel = attach_punting(Punt::Unrouted);
        let permission = permission();
        let hops = kernel.hold_permission(&permission);
        assert!(hops.to_peer != 0 && hops.to_client != 0 && hops.to_peer != hops.to_client);
        assert_eq!(kernel.stats().network.paths, 2);
        // a refresh changes nothing
        assert_eq!(kernel.hold_permission(&permission), hops);
        assert_eq!(kernel.stats().network.paths, 2);

        ip("route replace blackhole 203.0.113.9");
        let nowhere = PermissionHops { to_peer: 0, ..hops };
        let moved =
            MovedPermission { peer: permission.peer, relay: permission.relay, hops: nowhere };
        assert_eq!(kernel.on_event().permissions, [moved]);

        ip("route replace 203.0.113.9 via 198.51.100.2");
        let mut back = Vec::new();
        while back.is_empty() {
            back = kernel.on_event().permissions;
        }
        assert_ne!(back[0].hops.to_peer, 0);
        assert_eq!(back[0].hops.to_client, hops.to_client);

        kernel.release_permission(permission.peer, permission.relay);
        kernel.release_permission(permission.peer, permission.relay);
        let network = kernel.stats().network;
        assert_eq!((network.paths, network.hops), (0, 0));
        ip("route replace blackhole 203.0.113.9");
        assert_eq!(kernel.on_event().permissions, []);
    });
}

#[test]
fn a_permission_that_moves_to_another_client_lets_the_old_ones_path_go() {
    in_namespace(|| {
        let _lab = Lab::new();
        ip("route add 203.0.113.9 via 198.51.100.2");
        let mut kernel = attach_punting(Punt::Unrouted);
        let old = permission();
        let hops = kernel.hold_permission(&old);
        let new = Permission { client: "203.0.113.9:5000".parse().unwrap(), ..old };
        let moved = kernel.hold_permission(&new);
        assert_eq!(moved.to_peer, hops.to_peer);
        assert_ne!(moved.to_client, hops.to_client);
        assert_eq!(kernel.stats().network.paths, 2);
        kernel.release_permission(new.peer, new.relay);
        assert_eq!(kernel.stats().network.paths, 0);
    });
}

#[test]
fn where_nothing_goes_to_af_xdp_a_permission_costs_nothing() {
    in_namespace(|| {
        let _lab = Lab::new();
        let mut kernel = attach_punting(Punt::Off);
        assert_eq!(kernel.hold_permission(&permission()), PermissionHops::default());
        assert_eq!(kernel.stats().network.paths, 0);
        kernel.release_permission(permission().peer, permission().relay);
    });
}
