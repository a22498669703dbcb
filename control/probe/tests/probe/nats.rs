//! NATs of nftables' making, each told for what it is, by Turnwire's RFC 5780 and by coturn's.

use std::process::Command;

use serde_json::Value;
use turnwire_tests::relay::turnwire_binary;

use crate::lab::{Lab, is_possible};
use crate::server::{Running, turnwire_arguments};

/// The NAT's own input drops, or an unsolicited datagram would confirm a connection of its own.
const INPUT: &str = "
    table ip filter {
        chain input { type filter hook input priority 0; iifname wan drop; }
    }";

/// Mapping endpoint independent, filtering address and port dependent.
const PORT_RESTRICTED: &str = "
    table ip nat {
        chain post { type nat hook postrouting priority srcnat; oifname wan masquerade; }
    }";

/// Mapping and filtering address and port dependent.
const SYMMETRIC: &str = "
    table ip nat {
        chain post { type nat hook postrouting priority srcnat; oifname wan masquerade random; }
    }";

/// What is learnt of what goes out, and who is let in by it; and hairpinning.
fn learnt(let_in: &str) -> String {
    format!(
        "
    table ip nat {{
        map inside {{
            type inet_service : ipv4_addr . inet_service; flags dynamic, timeout; size 4096;
        }}
        set seen {{ type inet_service . ipv4_addr; flags dynamic, timeout; size 4096; }}
        chain post {{
            type nat hook postrouting priority srcnat;
            oifname wan masquerade;
            oifname lan ip saddr 10.0.0.0/24 ct status dnat snat to 44.128.7.10;
        }}
        chain learn {{
            type filter hook postrouting priority 150;
            oifname wan ip protocol udp update @inside {{ udp sport timeout 300s : \
ct original ip saddr . ct original proto-src }}
            oifname wan ip protocol udp update @seen {{ udp sport . ip daddr timeout 300s }}
        }}
        chain pre {{
            type nat hook prerouting priority dstnat;
            {let_in}
        }}
    }}"
    )
}

const ANYBODY: &str = "
    iifname wan ip protocol udp dnat to udp dport map @inside;
    iifname lan ip daddr 44.128.7.10 ip protocol udp dnat to udp dport map @inside;";
const SEEN: &str = "
    iifname wan udp dport . ip saddr @seen dnat to udp dport map @inside;";

const SERVER: &str = "44.128.7.1:3478";

fn turnwire(lab: &Lab) -> Running {
    let mut command = lab.world(turnwire_binary().unwrap().to_str().unwrap());
    command.args(turnwire_arguments(SERVER, "44.128.7.2:3479", "44.128.7.1"));
    let running = Running::start(command);
    lab.wait_for(SERVER);
    running
}

fn coturn(lab: &Lab) -> Option<Running> {
    Command::new("turnserver").arg("--version").output().ok()?;
    let mut command = lab.world("turnserver");
    command.args(["-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech", "--realm", "r"]);
    command.args(["--user", "u:p", "-L", "44.128.7.1", "-L", "44.128.7.2", "-E", "44.128.7.1"]);
    command.args(["--listening-port", "3478", "--alt-listening-port", "3479"]);
    command.args(["--log-file", "/dev/null", "--pidfile", "/dev/null", "--userdb", "/dev/null"]);
    let running = Running::start(command);
    lab.wait_for("44.128.7.2:3479");
    Some(running)
}

/// Runs the probe behind the NAT.
fn probe(lab: &Lab, more: &[&str]) -> Value {
    let mut command = lab.lan(turnwire_binary().unwrap().to_str().unwrap());
    command.args(["probe", "--json", "--server", SERVER, "--transport", "udp"]).args(more);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// The NAT is told by both servers for what it is; Turnwire relays through it, too.
fn is_told(rules: &str, mapping: &str, filtering: &str, hairpinning: Option<bool>) {
    if !is_possible() {
        return println!("skipped: needs root, iproute2 and nftables");
    }
    let lab = Lab::new(&[INPUT, rules].concat());
    let told = |nat: &Value| {
        assert_eq!(nat["by_rfc5780"], true, "{nat:#}");
        assert_eq!(nat["mapping"], mapping, "{nat:#}");
        assert_eq!(nat["filtering"], filtering, "{nat:#}");
        if let Some(hairpinning) = hairpinning {
            assert_eq!(nat["hairpinning"], hairpinning, "{nat:#}");
        }
    };
    let running = turnwire(&lab);
    let json = probe(&lab, &["--user", "u", "--password", "p"]);
    told(&json["nat"]);
    assert!(json["nat"]["mapped"].as_str().unwrap().starts_with("44.128.7.10:"));
    assert_eq!(json["relay"][0]["received"], 20, "{json:#}");
    drop(running);

    let Some(_running) = coturn(&lab) else {
        return println!("skipped in part: needs turnserver");
    };
    told(&probe(&lab, &[])["nat"]);
}

#[test]
fn a_full_cone_is_told() {
    is_told(&learnt(ANYBODY), "endpoint-independent", "endpoint-independent", Some(true));
}

#[test]
fn an_address_restricted_nat_is_told() {
    is_told(&learnt(SEEN), "endpoint-independent", "address-dependent", None);
}

#[test]
fn a_port_restricted_nat_is_told() {
    let dependent = "address-and-port-dependent";
    is_told(PORT_RESTRICTED, "endpoint-independent", dependent, Some(false));
}

#[test]
fn a_symmetric_nat_is_told() {
    let dependent = "address-and-port-dependent";
    is_told(SYMMETRIC, dependent, dependent, Some(false));
}
