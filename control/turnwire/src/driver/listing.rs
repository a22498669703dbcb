//! The server's allocations and the tiers' counters, put together for `/allocations`.

use std::time::Duration;

use dataplane::stats::{RouteCounters, Traffic as Counted};
use turn::{AllocationView, ChannelView, RelayView, Server};

use super::outlet::{Carried, Outlet};
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
    let (mut traffic, mut relayed) = (Tiers::default(), Vec::new());
    for relay in view.relays() {
        let shown = self::relayed(&relay, outlet, now);
        shown.channels.iter().for_each(|channel| traffic.add(&channel.traffic));
        traffic.add(&beside_channels(&relay, outlet));
        relayed.push(shown);
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
    let carried = view.route.map(|route| outlet.route_carried(&route)).unwrap_or_default();
    Channel {
        number: format!("0x{:04x}", view.number.number()),
        peer: view.peer.to_string(),
        expires_in_secs: secs(now, view.expires),
        traffic: tiers(carried, turn::BothWays::default()),
    }
}

/// What a relayed address carried beyond its present channels.
fn beside_channels(view: &RelayView<'_>, outlet: &Outlet) -> Tiers {
    let peers = view.permits().map(|(peer, _)| peer);
    tiers(outlet.carried_beside_channels(view.local(), peers), view.carried())
}

fn tiers(Carried { xdp, socket }: Carried, control: turn::BothWays) -> Tiers {
    let turn::BothWays { to_peer, to_client } = control;
    Tiers {
        xdp: both(xdp),
        socket: both(socket),
        control: BothWays {
            to_peer: Traffic { packets: to_peer.packets, bytes: to_peer.bytes },
            to_client: Traffic { packets: to_client.packets, bytes: to_client.bytes },
        },
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
