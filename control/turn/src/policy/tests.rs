//! The function alone; the matrix over the server's methods is tests/policy_matrix.rs.

use super::*;

fn own() -> Own {
    let services = ["198.45.0.1:3478", "[2a00:1::1]:3478", "127.0.0.1:9641", "0.0.0.0:8080"];
    let services: Vec<SocketAddr> = services.iter().map(|s| s.parse().unwrap()).collect();
    let mut own =
        Own::new(&services, &["10.9.9.9".parse().unwrap()], &["198.45.0.1".parse().unwrap()]);
    own.insert_relayed("198.45.0.1:50000".parse().unwrap(), 0);
    own
}

fn decide(policy: &Policy, peer: &str) -> Result<(), Refusal> {
    policy.decide(peer.parse().expect(peer), &own())
}

fn policy(profile: Profile, allow: &[&str], deny: &[&str]) -> Policy {
    let parse = |rules: &[&str]| rules.iter().map(|r| parse_rule(r).expect(r)).collect();
    Policy::new(profile, parse(allow), parse(deny))
}

#[test]
fn a_live_relayed_address_is_a_good_peer_and_nothing_else_of_ours_is() {
    for profile in [Profile::Public, Profile::Lan] {
        let policy = policy(profile, &[], &[]);
        assert_eq!(decide(&policy, "198.45.0.1:50000"), Ok(()));
        for ours in ["198.45.0.1:50001", "198.45.0.1:22", "198.45.0.1:3478", "[2a00:1::1]:3478"] {
            assert_eq!(decide(&policy, ours), Err(Refusal::Forbidden403), "{ours}");
        }
        for ours in ["10.9.9.9:5000", "198.45.0.1:8080", "[2a00:1::1]:9"] {
            assert_eq!(decide(&policy, ours), Err(Refusal::Forbidden403), "{ours}");
        }
    }
}

#[test]
fn no_rule_allows_a_service_of_ours_or_what_is_no_unicast_address() {
    let policy = policy(Profile::Lan, &["0.0.0.0/0", "::/0", "127.0.0.0/8", "198.45.0.1"], &[]);
    for never in [
        "127.0.0.1:9641",
        "198.45.0.1:3478",
        "198.45.0.1:8080",
        "127.9.9.9:8080",
        "0.0.0.0:5000",
        "0.1.2.3:5000",
        "224.0.0.1:5000",
        "255.255.255.255:5000",
        "[::]:5000",
        "[ff02::1]:5000",
        "9.9.9.9:0",
        "[2002:0909:0909::1]:5000",
        "[2001::8000:63bf:f6f6:f6f6]:5000",
        "[::9.9.9.9]:5000",
        "[::ffff:0:9.9.9.9]:5000",
        "[64:ff9b::9.9.9.9]:5000",
        "[64:ff9b:1::9.9.9.9]:5000",
        "[2a00:2::5efe:9.9.9.9]:5000",
        "[2a00:2::200:5efe:9.9.9.9]:5000",
    ] {
        assert_eq!(decide(&policy, never), Err(Refusal::Forbidden403), "{never}");
    }
    assert_eq!(decide(&policy, "[::ffff:9.9.9.9]:5000"), Err(Refusal::FamilyMismatch443));
    for allowed in ["127.0.0.1:5000", "198.45.0.1:22", "169.254.169.254:80", "[fe80::1]:5000"] {
        assert_eq!(decide(&policy, allowed), Ok(()), "{allowed}");
    }
}

#[test]
fn ipv6_loopback_is_a_peer_only_where_a_rule_names_it_and_never_as_an_ipv4_address() {
    for (allow, good) in [(&[][..], false), (&["::1"], true), (&["::/64"], true), (&["::/0"], true)]
    {
        for profile in [Profile::Public, Profile::Lan] {
            let policy = policy(profile, allow, &[]);
            assert_eq!(decide(&policy, "[::1]:5000").is_ok(), good, "{allow:?}");
            for never in ["[::]:5000", "[::2]:5000", "[::7f00:1]:5000", "[::1:0]:5000"] {
                assert_eq!(decide(&policy, never), Err(Refusal::Forbidden403), "{never} {allow:?}");
            }
        }
    }
    let denied = policy(Profile::Lan, &["::/0"], &["::1"]);
    assert_eq!(decide(&denied, "[::1]:5000"), Err(Refusal::Forbidden403));
}

#[test]
fn the_most_specific_rule_wins_and_deny_wins_a_tie() {
    let policy = policy(
        Profile::Public,
        &["10.1.0.0/16", "9.9.9.9", "10.1.2.128/25"],
        &["10.0.0.0/8", "9.9.9.9", "10.1.2.0/24", "198.45.0.1"],
    );
    for (peer, verdict) in [
        ("10.2.0.1:1", Err(Refusal::Forbidden403)),
        ("10.1.0.1:1", Ok(())),
        ("10.1.2.3:1", Err(Refusal::Forbidden403)),
        ("10.1.2.200:1", Ok(())),
        ("9.9.9.9:1", Err(Refusal::Forbidden403)),
        ("9.9.9.10:1", Ok(())),
        // The lists come before "our own live relayed addresses are good".
        ("198.45.0.1:50000", Err(Refusal::Forbidden403)),
    ] {
        assert_eq!(decide(&policy, peer), verdict, "{peer}");
    }
}

#[test]
fn the_ranges_end_where_they_should() {
    // Each pair: the last good address before a denied range, or the first after it.
    let public = policy(Profile::Public, &[], &[]);
    for good in [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.88.100.0",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2000::",
        "2001:200::",
        "2001:db7:ffff::1",
        "2001:db9::",
        "2001:1::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:3f::1",
        "2003::",
        "3ffe:ffff::1",
        "3fff:1000::",
        "3fff:ffff::1",
        "2606:4700:4700::1111",
    ] {
        let peer = SocketAddr::new(good.parse().unwrap(), 5000);
        assert_eq!(public.decide(peer, &own()), Ok(()), "{good}");
    }
    for bad in [
        "0.255.255.255",
        "10.0.0.0",
        "10.255.255.255",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.0",
        "127.255.255.255",
        "168.63.129.16",
        "169.254.0.0",
        "169.254.255.255",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.0",
        "192.0.0.255",
        "192.0.2.0",
        "192.0.2.255",
        "192.88.99.0",
        "192.88.99.255",
        "192.168.0.0",
        "192.168.255.255",
        "198.18.0.0",
        "198.19.255.255",
        "198.51.100.0",
        "198.51.100.255",
        "203.0.113.0",
        "203.0.113.255",
        "224.0.0.0",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "::",
        "::1",
        "::2",
        "100::1",
        "1fff:ffff::",
        "4000::",
        "2001::1",
        "2001:1::4",
        "2001:1ff:ffff::1",
        "2001:2::1",
        "2001:10::1",
        "2001:40::1",
        "2001:db8::",
        "2001:db8:ffff::1",
        "2002::1",
        "3fff::",
        "3fff:fff:ffff::1",
        "5f00::1",
        "64:ff9b::8.8.8.8",
        "64:ff9b:1::8.8.8.8",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ] {
        let peer = SocketAddr::new(bad.parse().unwrap(), 5000);
        assert_eq!(public.decide(peer, &own()), Err(Refusal::Forbidden403), "{bad}");
    }
}

#[test]
fn lan_adds_the_private_ranges_and_no_metadata_service() {
    let lan = policy(Profile::Lan, &[], &[]);
    for good in ["10.0.0.1:1", "172.31.0.1:1", "192.168.1.1:1", "[fd12::1]:1", "9.9.9.9:1"] {
        assert_eq!(decide(&lan, good), Ok(()), "{good}");
    }
    for bad in [
        "127.0.0.1:1",
        "169.254.169.254:80",
        "[fd00:ec2::254]:80",
        "168.63.129.16:80",
        "100.100.100.200:80",
        "192.0.0.192:80",
        "[fe80::1]:1",
        "[::1]:1",
    ] {
        assert_eq!(decide(&lan, bad), Err(Refusal::Forbidden403), "{bad}");
    }
}

#[test]
fn a_scope_does_not_hide_an_address() {
    let relayed: SocketAddr = "198.45.0.1:50000".parse().unwrap();
    assert_eq!(canonical(relayed), relayed);
    let scoped =
        SocketAddr::V6(std::net::SocketAddrV6::new("2a00:1::1".parse().unwrap(), 3478, 7, 3));
    let policy = policy(Profile::Public, &["::/0"], &[]);
    assert_eq!(policy.decide(scoped, &own()), Err(Refusal::Forbidden403));
}

#[test]
fn a_permission_ignores_the_port_save_a_services() {
    let policy = policy(Profile::Public, &[], &[]);
    let decide = |peer: &str| policy.decide_permission(peer.parse().unwrap(), &own());
    assert_eq!(decide("9.9.9.9:0"), Ok(()));
    assert_eq!(decide("198.45.0.1:7"), Ok(()));
    assert_eq!(decide("198.45.0.1:3478"), Err(Refusal::Forbidden403));
    assert_eq!(decide("10.9.9.9:7"), Err(Refusal::Forbidden403));
}
