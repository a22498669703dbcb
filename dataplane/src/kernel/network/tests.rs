//! Against the real kernel, in namespaces.
//!
//! ```text
//!  this host (relay)                                  the other host
//!  eth0 192.0.2.10/24, 2001:db8::10/64  ── veth ──  eth1 192.0.2.1, 2001:db8::1
//!  cells: memory that no program looks at
//! ```

use std::thread::sleep;
use std::time::{Duration, Instant};

use wire::HOPS_MAX;

use super::*;
use crate::kernel::testing::{Host, in_namespace, ip, try_ip};
use crate::kernel::watch::Watch;

mod waiting;

const RELAY: &str = "192.0.2.10";
const RELAY6: &str = "2001:db8::10";
const FAR: &str = "02:00:00:00:00:01";
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// Both ends of the veth pair in this namespace: neighbours are set by hand.
fn alone() -> Network {
    ip("link add eth0 address 02:00:00:00:00:10 type veth peer name eth1");
    ip("link set eth1 up");
    setup()
}

fn setup() -> Network {
    ip(&format!("address add {RELAY}/24 dev eth0"));
    ip(&format!("address add {RELAY6}/64 dev eth0 nodad"));
    ip("link set eth0 up");
    attached(&["eth0"])
}

fn attached(names: &[&str]) -> Network {
    let watch = Watch::open().unwrap();
    let links = watch.links().clone();
    let mut network = Network::new(Mapping::anonymous(HOPS_MAX), links, Line::here(watch));
    let index = |name: &&str| network.links().named(name).unwrap().index;
    let indexes = names.iter().map(index).collect();
    network.set_attached(indexes);
    network
}

fn path(to: &str) -> Path {
    let to: IpAddr = to.parse().unwrap();
    let from = if to.is_ipv4() { RELAY } else { RELAY6 };
    Path { to, from: from.parse().unwrap() }
}

fn held(network: &mut Network, path: Path) -> u16 {
    network.hold(path);
    network.hop(path)
}

/// Works off the news until `done`, for a few seconds at most.
#[allow(clippy::disallowed_methods, reason = "a test's patience")]
fn until<T>(network: &mut Network, done: impl Fn(&Network) -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        network.on_event();
        if let Some(value) = done(network) {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "it never came: {:?}", network.stats());
        sleep(Duration::from_millis(10));
    }
}

fn cell(network: &Network, to: &str) -> Option<wire::Hop> {
    network.hops.cell(network.hop(path(to)))
}

fn index(network: &Network, name: &str) -> u32 {
    network.links().named(name).unwrap().index
}

#[test]
fn a_static_neighbour_is_a_usable_hop_at_once() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        ip(&format!("neigh add 2001:db8::1 lladdr {FAR} dev eth0 nud permanent"));
        let ours = [2, 0, 0, 0, 0, 0x10];
        for to in ["192.0.2.1", "2001:db8::1"] {
            network.hold(path(to));
            let hop = cell(&network, to).unwrap();
            assert_eq!((hop.dst, hop.src, hop.mtu, hop.vlan.get()), (MAC, ours, 1500, 0));
            assert_eq!(hop.ifindex, index(&network, "eth0"));
        }
        assert_eq!(network.stats().hops_usable, 2);
    });
}

#[test]
fn everyone_behind_a_gateway_shares_its_hop() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        ip("route add default via 192.0.2.1");
        let hops: HashSet<u16> = ["198.51.100.7", "203.0.113.9", "192.0.2.1"]
            .map(|to| held(&mut network, path(to)))
            .into();
        assert_eq!(hops.len(), 1);
        assert_eq!(cell(&network, "203.0.113.9").unwrap().dst, MAC);
        for to in ["198.51.100.7", "203.0.113.9", "192.0.2.1"] {
            network.release(path(to));
        }
        assert_eq!(network.stats(), NetworkStats::default(), "nothing is left");
    });
}

#[test]
fn an_ipv4_destination_behind_an_ipv6_gateway_has_that_gateway_s_address() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 2001:db8::1 lladdr {FAR} dev eth0 nud permanent"));
        ip("-4 route add default via inet6 2001:db8::1 dev eth0");
        network.hold(path("203.0.113.9"));
        assert_eq!(cell(&network, "203.0.113.9").unwrap().dst, MAC);
    });
}

#[test]
fn what_the_kernel_would_not_forward_has_no_hop() {
    in_namespace(|| {
        let mut network = alone();
        ip("route add blackhole 203.0.113.0/24");
        ip("route add unreachable 2001:db8:1::/48");
        let nowhere = [
            "203.0.113.9",   // a black hole
            "2001:db8:1::1", // unreachable
            "198.51.100.7",  // no route at all
            RELAY,           // ourselves
            "192.0.2.255",   // broadcast
            "127.0.0.1",
            "224.0.0.1",
            "fe80::1",
        ];
        for to in nowhere {
            assert_eq!(held(&mut network, path(to)), NO_HOP, "{to}");
        }
        let stats = network.stats();
        assert_eq!((stats.paths_without_hop, stats.questions_failed), (nowhere.len(), 0));
    });
}

#[test]
fn an_address_that_is_not_ours_leads_nowhere() {
    in_namespace(|| {
        let mut network = alone();
        let path = Path { to: [192, 0, 2, 1].into(), from: [192, 0, 2, 99].into() };
        assert_eq!(held(&mut network, path), NO_HOP);
    });
}

#[test]
fn a_changed_neighbour_is_a_changed_cell_and_a_deleted_one_an_empty_cell() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        network.hold(path("192.0.2.1"));
        let hop = network.hop(path("192.0.2.1"));

        ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
        let other = [2, 0, 0, 0, 0, 2];
        until(&mut network, |n| cell(n, "192.0.2.1").filter(|cell| cell.dst == other));

        ip("neigh del 192.0.2.1 dev eth0");
        until(&mut network, |n| cell(n, "192.0.2.1").is_none().then_some(()));
        assert_eq!(network.hop(path("192.0.2.1")), hop, "the routes stay as they are");
    });
}

#[test]
fn changes_of_our_own_interface_reach_the_cells() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        network.hold(path("192.0.2.1"));

        ip("link set eth0 mtu 1300");
        until(&mut network, |n| cell(n, "192.0.2.1").filter(|cell| cell.mtu == 1300));
        ip("link set eth0 address 02:00:00:00:00:77");
        // The kernel forgets its neighbours with that, even permanent ones.
        ip(&format!("neigh replace 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        let mac = [2, 0, 0, 0, 0, 0x77];
        until(&mut network, |n| cell(n, "192.0.2.1").filter(|cell| cell.src == mac));
        let ingress = network.links().ingress();
        assert_eq!(ingress.get(&(index(&network, "eth0"), 0)).map(|own| own.0), Some(mac));
    });
}

#[test]
fn an_interface_that_goes_down_and_comes_back_takes_its_hops_along() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        network.hold(path("192.0.2.1"));
        assert!(cell(&network, "192.0.2.1").is_some());

        ip("link set eth1 down"); // the far end: our carrier is gone
        until(&mut network, |n| cell(n, "192.0.2.1").is_none().then_some(()));
        ip("link set eth1 up");
        // The kernel forgot even the permanent neighbour.
        ip(&format!("neigh replace 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        until(&mut network, |n| cell(n, "192.0.2.1"));

        ip("link set eth0 down");
        until(&mut network, |n| cell(n, "192.0.2.1").is_none().then_some(()));
        ip("link del eth0");
        until(&mut network, |n| n.links().named("eth0").is_none().then_some(()));
        assert_eq!(network.hop(path("192.0.2.1")), NO_HOP);
    });
}

#[test]
fn a_changed_route_moves_the_paths_that_it_concerns() {
    in_namespace(|| {
        let mut network = alone();
        for (gateway, mac) in [("192.0.2.1", FAR), ("192.0.2.2", "02:00:00:00:00:02")] {
            ip(&format!("neigh add {gateway} lladdr {mac} dev eth0 nud permanent"));
        }
        ip("route add default via 192.0.2.1");
        let (near, far) = (path("198.51.100.7"), path("203.0.113.9"));
        network.hold(near);
        network.hold(far);
        assert_eq!(network.hop(near), network.hop(far));
        while network.on_event().more {}

        ip("route add 203.0.113.0/24 via 192.0.2.2");
        let moved = network.on_event().moved;
        assert_eq!(moved, HashSet::from([far]));
        assert_eq!(cell(&network, "203.0.113.9").unwrap().dst, [2, 0, 0, 0, 0, 2]);
        assert_eq!(cell(&network, "198.51.100.7").unwrap().dst, MAC);

        ip("route del default");
        assert_eq!(network.on_event().moved, HashSet::from([near]));
        assert_eq!(network.hop(near), NO_HOP);
    });
}

#[test]
fn a_route_s_own_mtu_counts() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        ip("route add 203.0.113.0/24 via 192.0.2.1 mtu 1400");
        network.hold(path("192.0.2.1"));
        network.hold(path("203.0.113.9"));
        let mtus = ["192.0.2.1", "203.0.113.9"].map(|to| cell(&network, to).unwrap().mtu);
        assert_eq!(mtus, [1500, 1400]);
    });
}

#[test]
fn a_rule_by_source_is_followed() {
    in_namespace(|| {
        let mut network = alone();
        ip("address add 192.0.2.11/24 dev eth0");
        ip("route add 203.0.113.0/24 via 192.0.2.1");
        ip("route add 203.0.113.0/24 via 192.0.2.2 table 7");
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
        let first = path("203.0.113.9");
        let second = Path { from: [192, 0, 2, 11].into(), ..first };
        network.hold(first);
        network.hold(second);
        assert_eq!(network.hop(first), network.hop(second));
        ip("rule add from 192.0.2.11 lookup 7");
        until(&mut network, |n| (n.hop(first) != n.hop(second)).then_some(()));
        assert_eq!(network.hops.cell(network.hop(second)).unwrap().dst, [2, 0, 0, 0, 0, 2]);
    });
}

/// As README says of rules: those that are about the relay's own user or about UDP are followed, for the
/// kernel answers as to a socket of ours. A mark is none of ours, and ports are not asked for.
#[test]
fn of_the_other_rules_those_by_user_and_protocol_are_followed() {
    for (rule, followed) in [
        ("uidrange 0-0", true),
        ("uidrange 7-7", false),
        ("ipproto udp", true),
        ("fwmark 7", false),
        ("iif eth1", false),
        ("ipproto udp dport 5000-6000", false),
    ] {
        in_namespace(move || {
            let mut network = alone();
            ip("route add 203.0.113.0/24 via 192.0.2.1");
            ip("route add 203.0.113.0/24 via 192.0.2.2 table 7");
            ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
            ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
            ip(&format!("rule add {rule} lookup 7"));
            network.hold(path("203.0.113.9"));
            let dst = cell(&network, "203.0.113.9").unwrap().dst;
            assert_eq!(dst == [2, 0, 0, 0, 0, 2], followed, "{rule}: {dst:02x?}");
        });
    }
}

#[test]
fn a_vlan_of_an_attached_interface_carries_hops_with_its_tag() {
    in_namespace(|| {
        let mut network = alone();
        if let Err(error) = try_ip("link add link eth0 name eth0.7 mtu 1400 type vlan id 7") {
            eprintln!("not run: this kernel has no VLAN sub-interfaces (VLAN_8021Q): {error}");
            return;
        }
        ip("link set eth0.7 address 02:00:00:00:00:70");
        ip("link set eth0.7 up");
        ip("address add 198.51.100.1/24 dev eth0.7");
        ip(&format!("neigh add 198.51.100.9 lladdr {FAR} dev eth0.7 nud permanent"));
        while network.on_event().more {}
        let path = Path { to: [198, 51, 100, 9].into(), from: [198, 51, 100, 1].into() };
        let hop = held(&mut network, path);
        let cell = network.hops.cell(hop).unwrap();
        let (parent, mac) = (index(&network, "eth0"), [2, 0, 0, 0, 0, 0x70]);
        assert_eq!((cell.ifindex, cell.vlan.get(), cell.mtu), (parent, 7, 1400));
        assert_eq!((cell.dst, cell.src), (MAC, mac));
        assert_eq!(network.links().ingress().get(&(parent, 7)).map(|own| own.0), Some(mac));

        ip("address flush dev eth0.7");
        until(&mut network, |n| (n.hop(path) == NO_HOP).then_some(()));
    });
}

#[test]
fn nothing_leaves_by_an_interface_without_the_program() {
    in_namespace(|| {
        let mut network = alone();
        ip("link add eth2 type veth peer name eth3");
        ip("link set eth2 up");
        ip("link set eth3 up");
        ip("address add 198.51.100.1/24 dev eth2");
        ip("link add br0 type bridge");
        ip("link set br0 up");
        ip("address add 203.0.113.1/24 dev br0");
        while network.on_event().more {}
        assert_eq!(held(&mut network, path("198.51.100.9")), NO_HOP);
        assert_eq!(held(&mut network, path("203.0.113.9")), NO_HOP);
        assert_eq!(network.stats().hops, 0);
    });
}

/// The relay and another host, each in its namespace.
fn together() -> (Network, Host) {
    let host = Host::new();
    ip("link add eth0 address 02:00:00:00:00:10 type veth peer name eth1");
    ip(&format!("link set eth1 netns {}", host.id));
    host.ip(&format!("link set eth1 address {FAR} up"));
    host.ip("address add 192.0.2.1/24 dev eth1");
    host.ip("address add 2001:db8::1/64 dev eth1 nodad");
    (setup(), host)
}

#[test]
fn an_unknown_neighbour_is_found_without_waiting_for_traffic() {
    in_namespace(|| {
        let (mut network, _host) = together();
        for to in ["192.0.2.1", "2001:db8::1"] {
            network.hold(path(to));
            let hop = until(&mut network, |n| cell(n, to));
            assert_eq!(hop.dst, MAC);
        }
    });
}

#[test]
fn a_neighbour_that_does_not_answer_is_no_hop_and_found_once_it_does() {
    in_namespace(|| {
        let (mut network, host) = together();
        network.hold(path("192.0.2.77"));
        sleep(Duration::from_millis(3500)); // three questions, a second apart
        network.on_event();
        assert_eq!(cell(&network, "192.0.2.77"), None);
        host.ip("address add 192.0.2.77/24 dev eth1");
        for _ in 0..20 {
            network.tick(false);
        }
        until(&mut network, |n| cell(n, "192.0.2.77"));
    });
}

#[test]
fn a_gateway_that_silently_changed_its_address_is_noticed() {
    in_namespace(|| {
        let (mut network, host) = together();
        // A neighbour is stale after 0.1 s and checked 1 s after it was used.
        for (knob, value) in [("base_reachable_time_ms", "100"), ("delay_first_probe_time", "1")] {
            std::fs::write(format!("/proc/sys/net/ipv4/neigh/eth0/{knob}"), value).unwrap();
        }
        network.hold(path("192.0.2.1"));
        until(&mut network, |n| cell(n, "192.0.2.1"));
        host.ip("link set eth1 address 02:00:00:00:00:99");
        #[allow(clippy::disallowed_methods, reason = "a test's patience")]
        let start = Instant::now();
        let new = [2, 0, 0, 0, 0, 0x99];
        while cell(&network, "192.0.2.1").is_none_or(|cell| cell.dst != new) {
            assert!(start.elapsed() < Duration::from_secs(30), "never noticed");
            sleep(Duration::from_millis(200));
            network.tick(false); // five times as fast as life
            network.on_event();
        }
    });
}

#[test]
fn lost_news_is_made_good() {
    in_namespace(|| {
        let mut network = alone();
        ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
        network.hold(path("192.0.2.1"));
        // More routes than the socket has room for.
        let batch: String = (0..30_000u32)
            .map(|n| format!("route add 10.{}.{}.{}/32 dev eth0\n", n >> 16, n >> 8 & 255, n & 255))
            .collect();
        let mut child = std::process::Command::new("ip")
            .args(["-force", "-batch", "-"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        use std::io::Write;
        child.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        ip("neigh replace 192.0.2.1 lladdr 02:00:00:00:00:02 dev eth0 nud permanent");
        ip("link set eth0 mtu 1400");
        let wanted = ([2, 0, 0, 0, 0, 2], 1400);
        until(&mut network, |n| cell(n, "192.0.2.1").filter(|cell| (cell.dst, cell.mtu) == wanted));
        assert!(network.stats().news_lost > 0, "this test is to lose some");
    });
}

/// A gateway, and paths to this many addresses behind it.
fn behind_a_gateway(count: u32) -> (Network, Vec<Path>) {
    let network = alone();
    ip(&format!("neigh add 192.0.2.1 lladdr {FAR} dev eth0 nud permanent"));
    ip("route add default via 192.0.2.1");
    let far = |number: u32| Path { to: (0xcb00_7100 + number).to_be_bytes().into(), ..path(RELAY) };
    (network, (0..count).map(far).collect())
}

#[test]
fn a_path_leads_nowhere_while_the_kernel_makes_the_watch_wait_and_nobody_waits_with_it() {
    in_namespace(|| {
        let (mut network, paths) = behind_a_gateway(2);
        network.line().hold(true);
        assert_eq!([held(&mut network, paths[0]), held(&mut network, paths[1])], [NO_HOP; 2]);
        assert_eq!(network.tick(true).moved, HashSet::new());
        assert_eq!(network.stats().paths_without_hop, 2);

        network.release(paths[1]);
        network.line().hold(false);
        assert_eq!(network.on_event().moved, HashSet::from([paths[0]]));
        assert_eq!(cell(&network, &paths[0].to.to_string()).unwrap().dst, MAC);

        network.release(paths[0]);
        assert_eq!(network.stats(), NetworkStats::default(), "nothing is left of the one given up");
    });
}

#[test]
fn what_finds_no_room_among_the_questions_is_asked_when_there_is() {
    in_namespace(|| {
        let (mut network, paths) = behind_a_gateway(5000);
        network.line().hold(true);
        paths.iter().for_each(|path| network.hold(*path));
        network.tick(true);
        network.line().hold(false);
        assert_eq!(network.on_event().moved, paths.iter().copied().collect());
        let NetworkStats { hops, paths_without_hop, questions_delayed, .. } = network.stats();
        assert_eq!((hops, paths_without_hop), (1, 0));
        assert!(questions_delayed > 0, "this test is to ask too much");
        paths.iter().for_each(|path| network.release(*path));
        assert_eq!((network.stats().hops, network.stats().paths), (0, 0));
    });
}
