//! The server's allocations and the tiers' counters, put together for `/allocations`.

use std::time::Duration;

use dataplane::stats::{RouteCounters, Traffic as Counted};
use turn::{AllocationView, ChannelRoute, ChannelView, RelayView, Server};

use super::Outlet;
use crate::admin::allocations::{
    Allocation, BothWays, Channel, Listing, PAGE_MAX, Permission, Relayed, Tiers, Traffic,
};

/// At most `limit`, and at most [`PAGE_MAX`], allocations after the first `offset`.
pub(super) fn page(
    server: &Server,
    outlet: &Outlet,
    now: Duration,
    offset: usize,
    limit: usize,
) -> Listing {
    let views = server.allocations().skip(offset).take(limit.min(PAGE_MAX));
    let allocations = views.map(|view| allocation(&view, outlet, now)).collect();
    Listing { total: server.stats().allocations, allocations }
}

fn allocation(view: &AllocationView<'_>, outlet: &Outlet, now: Duration) -> Allocation {
    let client = view.client();
    let relayed: Vec<Relayed> =
        view.relays().map(|relay| self::relayed(&relay, outlet, now)).collect();
    let mut traffic = Tiers::default();
    for channel in relayed.iter().flat_map(|relay| &relay.channels) {
        traffic.add(&channel.traffic);
    }
    Allocation {
        client: client.remote.to_string(),
        listener: client.local.to_string(),
        username: view.username().to_owned(),
        user: view.user().to_owned(),
        worker: view.origin().0,
        age_secs: secs(view.created(), now),
        expires_in_secs: secs(now, view.expires()),
        relayed,
        traffic,
    }
}

fn relayed(view: &RelayView<'_>, outlet: &Outlet, now: Duration) -> Relayed {
    let permission = |(peer, expires): (std::net::IpAddr, Duration)| Permission {
        peer: peer.to_string(),
        expires_in_secs: secs(now, expires),
    };
    Relayed {
        address: view.local().to_string(),
        advertised: view.advertised().to_string(),
        expires_in_secs: secs(now, view.expires()),
        permissions: view.permissions().map(permission).collect(),
        channels: view.channels().map(|view| channel(&view, outlet, now)).collect(),
    }
}

fn channel(view: &ChannelView, outlet: &Outlet, now: Duration) -> Channel {
    Channel {
        number: format!("0x{:04x}", view.number.number()),
        peer: view.peer.to_string(),
        expires_in_secs: secs(now, view.expires),
        traffic: view.route.map_or(Tiers::default(), |route| tiers(&route, outlet)),
    }
}

fn tiers(route: &ChannelRoute, outlet: &Outlet) -> Tiers {
    let Some(route) = outlet.route(route) else { return Tiers::default() };
    let kernel = outlet.kernel.as_ref();
    Tiers {
        xdp: kernel.map_or(BothWays::default(), |kernel| both(kernel.route_counters(&route))),
        socket: both(outlet.plane.route_counters(&route)),
    }
}

fn both(counters: RouteCounters) -> BothWays {
    let traffic = |counted: Counted| Traffic { packets: counted.packets, bytes: counted.bytes };
    BothWays { to_peer: traffic(counters.to_peer), to_client: traffic(counters.to_client) }
}

/// Whole seconds from one time to a later one; 0 if it is not later.
fn secs(from: Duration, to: Duration) -> u64 {
    to.saturating_sub(from).as_secs()
}
