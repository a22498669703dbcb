//! coturn's own test client, turnutils_uclient, against its echo, turnutils_peer.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use turnwire_tests::client::receive;
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::process::Process;
use turnwire_tests::relay::{Direction, Launch, PASSWORD, RelayUnderTest, TLS_PORT, Tier, USER};
use turnwire_tests::wait::{self, Deadline, SOON};

use crate::setup::installed;

const PEER_PORT: u16 = 3480;
const MESSAGES: u64 = 200;
const CLIENTS: u64 = 2;
/// Bytes of a message.
const LENGTH: u64 = 171;
const PRELOADED: &str = "installed/uclient/channels.so";
/// Beside it, for dual allocations from a relay that reads RFC 8656's attribute: see uclient/dual.c.
const PRELOADED_FOR_DUAL: &str = "installed/uclient/dual.so";
const LIMIT: Duration = Duration::from_secs(90);

/// One way of running it.
struct Mode {
    name: &'static str,
    /// The family that the client and the relay speak.
    outer: Family,
    /// The family of relayed address and peer.
    inner: Family,
    flags: &'static [&'static str],
    carried: Carried,
}

/// What the messages are carried as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Carried {
    /// ChannelData, between a client and a peer.
    Channel,
    /// Send and Data indications.
    Indication,
    /// ChannelData, between two clients of the relay.
    RelayToRelay,
    /// ChannelData, by a session thread.
    Session,
    /// Bytes of two joined TCP connections (RFC 6062).
    Spliced,
}

const MODES: [Mode; 9] = [
    Mode {
        name: "channels",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-c", "-X"],
        carried: Carried::Channel,
    },
    Mode {
        name: "padded channels",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-c", "-X", "-D"],
        carried: Carried::Channel,
    },
    Mode {
        name: "pairs of ports",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-X"],
        carried: Carried::Channel,
    },
    Mode {
        name: "IPv6",
        outer: Family::V6,
        inner: Family::V6,
        flags: &["-c", "-x"],
        carried: Carried::Channel,
    },
    Mode {
        name: "IPv4 to IPv6",
        outer: Family::V4,
        inner: Family::V6,
        flags: &["-c", "-x"],
        carried: Carried::Channel,
    },
    Mode {
        name: "IPv6 to IPv4",
        outer: Family::V6,
        inner: Family::V4,
        flags: &["-c", "-X"],
        carried: Carried::Channel,
    },
    Mode {
        name: "Send",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-c", "-X", "-s"],
        carried: Carried::Indication,
    },
    Mode {
        name: "Send over IPv6",
        outer: Family::V6,
        inner: Family::V6,
        flags: &["-c", "-x", "-s"],
        carried: Carried::Indication,
    },
    Mode {
        name: "relay to relay",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-c", "-X", "-y"],
        carried: Carried::RelayToRelay,
    },
];

/// Negative tests, which end with an error or never, whatever the server: the last word is what counts.
const NEGATIVE: [&[&str]; 2] = [&["-c", "-X", "-N"], &["-P", "-X"]];

#[test]
fn negative_tests_of_uclient_end_as_against_the_oracle() {
    let codes = |tier| {
        let mut codes = Vec::new();
        in_lab(Topology::TwoArmed, |lab| {
            let relay = RelayUnderTest::launch(lab, &extended(tier))?;
            for flags in NEGATIVE {
                let mut client = uclient_with(lab, Family::V4, flags, Family::V4.peer())?;
                ensure!(!client.wait(LIMIT)?.success(), "{flags:?} ended well");
                let output = client.output();
                let error = output.lines().rfind(|line| line.contains("error "));
                codes.push(error.and_then(|line| number_after(line, "error ")));
            }
            drop(relay);
            Ok(())
        });
        codes
    };
    let ours = codes(Tier::Sockets);
    assert_eq!(ours, codes(Tier::Oracle));
    assert!(ours.is_empty() || ours == [Some(400), Some(403)], "{ours:?}");
}

/// uclient -R overwrites up to nine bytes of one message in ten. Where a request is broken so that a
/// server must not answer, it waits for ever, whatever the server: what counts is that others are
/// served meanwhile, and afterwards.
#[test]
fn broken_messages_of_uclient_keep_nobody_else_from_being_served() {
    std::thread::scope(|scope| {
        for tier in [Tier::Sockets, Tier::Oracle] {
            scope.spawn(move || {
                in_lab(Topology::TwoArmed, |lab| {
                    beside_broken_ones(lab, tier).with_context(|| format!("{tier:?}"))
                });
            });
        }
    });
}

fn beside_broken_ones(lab: &Lab, tier: Tier) -> Result<()> {
    let _relay = RelayUnderTest::launch(lab, &extended(tier))?;
    let peer = SocketAddr::new(Family::V4.peer(), PEER_PORT);
    let _echo = echo(lab, peer)?;
    let (listener, peer_port) = (Family::V4.listener(), PEER_PORT.to_string());
    let (server, port) = (listener.ip().to_string(), listener.port().to_string());
    let address = peer.ip().to_string();
    let ways: [&[&str]; 6] = [&[], &["-s"], &["-t"], &["-t", "-s"], &["-y"], &["-t", "-y"]];
    let mut broken = Vec::new();
    for (number, way) in ways.into_iter().enumerate() {
        let mut words = vec!["timeout", "4", "turnutils_uclient", "-R", "-c", "-X", "-u", USER];
        words.extend(["-w", PASSWORD, "-p", &port, "-n", "50", "-m", "4", "-z", "5"]);
        words.extend(["-e", &address, "-r", &peer_port]);
        words.extend(way.iter().chain([&server.as_str()]));
        broken.push(lab.start(Host::Client, &format!("broken-{number}"), &words)?);
    }
    let served = || -> Result<()> {
        let mut client = uclient_with(lab, Family::V4, &["-c", "-X"], peer.ip())?;
        let status = client.wait(LIMIT)?;
        ensure!(status.success(), "uclient: {status}\n{}", client.last_words());
        let report = Report::parse(&client.output()).with_context(|| client.last_words())?;
        let all = Report { sent: MESSAGES * CLIENTS, received: MESSAGES * CLIENTS, lost: 0 };
        ensure!(report == all, "{report:?}\n{}", client.last_words());
        Ok(())
    };
    served().context("beside them")?;
    for process in &mut broken {
        // with a report, with an error, or by the time limit
        process.wait(LIMIT)?;
    }
    served().context("after them")
}

#[test]
fn over_tls_the_relay_forwards_all_that_uclient_sends() {
    // It loses some of what comes back, whatever the server: it reads one record where several wait.
    in_lab(Topology::TwoArmed, |lab| {
        let folder = installed()?.join("installed/tls");
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let launch = Launch { identity: Some((&cert, &key)), ..Launch::of(Tier::Sockets) };
        let relay = RelayUnderTest::launch(lab, &launch)?;
        let peer = SocketAddr::new(Family::V4.peer(), PEER_PORT);
        let _echo = echo(lab, peer)?;
        let port = TLS_PORT.to_string();
        let flags = ["-t", "-S", "-c", "-X", "-p", &port];
        let mut client = uclient_with(lab, Family::V4, &flags, peer.ip())?;
        client.wait(LIMIT)?;
        for direction in Direction::ALL {
            let forwarded = relay.forwarded_by("session", direction)?;
            ensure!(forwarded == MESSAGES * CLIENTS, "{direction:?}: {forwarded}");
        }
        Ok(())
    });
}

/// With the extensions that a relay of this tier has.
fn extended(tier: Tier) -> Launch<'static> {
    let options: &[&str] = match tier {
        Tier::Oracle => &["--mobility"],
        _ => &["--mobility", "--tcp-relay"],
    };
    Launch { options, ..Launch::of(tier) }
}

/// What goes over a connection, or wants an extension; the relay has all of them on.
const STREAMS: [Mode; 11] = [
    Mode {
        name: "TCP",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-t", "-c", "-X"],
        carried: Carried::Session,
    },
    Mode {
        name: "TCP over IPv6",
        outer: Family::V6,
        inner: Family::V6,
        flags: &["-t", "-c", "-x"],
        carried: Carried::Session,
    },
    Mode {
        name: "Send over TCP",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-t", "-c", "-X", "-s"],
        carried: Carried::Indication,
    },
    Mode {
        name: "TCP relaying",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-T", "-X"],
        carried: Carried::Spliced,
    },
    // It draws DTLS 1.0 or 1.2 for each connection; refused, it draws again.
    Mode {
        name: "DTLS",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-S", "-c", "-X", "-p", "5349"],
        carried: Carried::Session,
    },
    Mode {
        name: "DTLS, pairs of ports",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-S", "-X", "-p", "5349"],
        carried: Carried::Session,
    },
    Mode {
        name: "Send over DTLS",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-S", "-c", "-X", "-s", "-p", "5349"],
        carried: Carried::Indication,
    },
    Mode {
        name: "DONT-FRAGMENT",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-c", "-X", "-g"],
        carried: Carried::Channel,
    },
    Mode {
        name: "mobility",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-c", "-X", "-M"],
        carried: Carried::Channel,
    },
    Mode {
        name: "dual allocation",
        outer: Family::V4,
        inner: Family::V4,
        flags: &["-Z", "-X"],
        carried: Carried::Channel,
    },
    Mode {
        name: "dual allocation, to IPv6",
        outer: Family::V4,
        inner: Family::V6,
        flags: &["-Z", "-x"],
        carried: Carried::Channel,
    },
];

#[test]
fn uclient_and_the_oracle_lose_nothing_over_streams_and_with_extensions() {
    every(&STREAMS, Topology::TwoArmed, Tier::Oracle);
}

#[test]
fn uclient_loses_nothing_over_streams_and_with_extensions() {
    every(&STREAMS, Topology::TwoArmed, Tier::Native);
}

#[test]
fn uclient_and_the_oracle_lose_nothing() {
    all_modes(Topology::TwoArmed, Tier::Oracle);
}

#[test]
fn uclient_loses_nothing_by_xdp_between_two_interfaces() {
    all_modes(Topology::TwoArmed, Tier::Native);
}

#[test]
fn uclient_loses_nothing_by_xdp_on_one_interface() {
    all_modes(Topology::OneArmed, Tier::Native);
}

#[test]
fn uclient_loses_nothing_by_xdp_in_the_kernels_stack() {
    all_modes(Topology::TwoArmed, Tier::Generic);
}

#[test]
fn uclient_loses_nothing_by_sockets() {
    all_modes(Topology::TwoArmed, Tier::Sockets);
}

/// All modes at once, each against a relay of its own: they wait most of the time.
fn all_modes(topology: Topology, tier: Tier) {
    every(&MODES, topology, tier);
}

fn every(modes: &'static [Mode], topology: Topology, tier: Tier) {
    std::thread::scope(|scope| {
        for mode in modes {
            scope.spawn(move || {
                in_lab(topology, |lab| {
                    run(lab, tier, mode).with_context(|| format!("{}, {tier:?}", mode.name))
                });
            });
        }
    });
}

fn run(lab: &Lab, tier: Tier, mode: &Mode) -> Result<()> {
    let folder = installed()?.join("installed/tls");
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let secure = mode.flags.contains(&"-S");
    let identity = secure.then_some((cert.as_path(), key.as_path()));
    let relay = RelayUnderTest::launch(lab, &Launch { identity, ..extended(tier) })?;
    let peer = SocketAddr::new(mode.inner.peer(), PEER_PORT);
    let _echo = echo(lab, peer)?;
    let installed = installed()?;
    let mut preloaded = vec![installed.join(PRELOADED)];
    // The oracle knows the draft's number only.
    if tier != Tier::Oracle && mode.flags.contains(&"-Z") {
        preloaded.push(installed.join(PRELOADED_FOR_DUAL));
    }
    let mut client = uclient(lab, (mode.outer, mode.flags), peer.ip(), &preloaded)?;
    let status = client.wait(LIMIT)?;
    ensure!(status.success(), "uclient: {status}\n{}", client.last_words());
    let report = Report::parse(&client.output()).with_context(|| client.last_words())?;
    let all = Report { sent: MESSAGES * CLIENTS, received: MESSAGES * CLIENTS, lost: 0 };
    ensure!(report == all, "{report:?}\n{}", client.last_words());
    match tier {
        Tier::Oracle => Ok(()),
        _ => carried_by_the_tier(&relay, mode.carried),
    }
}

fn uclient_with(lab: &Lab, outer: Family, flags: &[&str], peer: IpAddr) -> Result<Process> {
    uclient(lab, (outer, flags), peer, &[installed()?.join(PRELOADED)])
}

fn uclient(
    lab: &Lab,
    (outer, flags): (Family, &[&str]),
    peer: IpAddr,
    preloaded: &[PathBuf],
) -> Result<Process> {
    let server = outer.listener();
    let (port, peer_port) = (server.port().to_string(), PEER_PORT.to_string());
    let (server, peer) = (server.ip().to_string(), peer.to_string());
    let (messages, clients) = (MESSAGES.to_string(), CLIENTS.to_string());
    // See uclient/channels.c.
    let preloaded: Vec<String> = preloaded.iter().map(|path| path.display().to_string()).collect();
    let preload = format!("LD_PRELOAD={}", preloaded.join(":"));
    let mut words =
        vec!["env", &preload, "turnutils_uclient", "-u", USER, "-w", PASSWORD, "-p", &port];
    words.extend(["-n", &messages, "-m", &clients, "-z", "5", "-l", "171"]);
    words.extend(["-e", &peer, "-r", &peer_port]);
    words.extend(flags);
    words.push(&server);
    lab.start(Host::Client, "uclient", &words)
}

/// Starts turnutils_peer and waits until it echoes.
fn echo(lab: &Lab, peer: SocketAddr) -> Result<Process> {
    let (address, port) = (peer.ip().to_string(), peer.port().to_string());
    let mut process =
        lab.start(Host::Peer, "peer", &["turnutils_peer", "-L", &address, "-p", &port])?;
    let family = if peer.is_ipv4() { Family::V4 } else { Family::V6 };
    let probe = lab.udp(Host::Relay, SocketAddr::new(family.relayed(), 0))?;
    probe.connect(peer)?;
    wait::until("turnutils_peer echoes", SOON, || {
        process.must_be_running()?;
        // While nobody listens the port is refused; that is no failure yet.
        let sent = probe.send(b"probe").is_ok();
        let echoed = receive(&probe, Deadline::after(Duration::from_millis(100)));
        Ok((sent && matches!(echoed, Ok(Some(_)))).then_some(()))
    })?;
    Ok(process)
}

/// Asserts by the relay's metrics that its tier carried the messages, both ways.
fn carried_by_the_tier(relay: &RelayUnderTest, carried: Carried) -> Result<()> {
    let messages = MESSAGES * CLIENTS;
    // The first few may find a next hop whose address the kernel has yet to ask for.
    let most = messages * 95 / 100;
    for direction in Direction::ALL {
        let by_xdp = relay.forwarded_by("xdp", direction)?;
        let by_sockets = relay.forwarded_by("socket", direction)?;
        let told = format!("{direction:?}: {by_xdp} by xdp, {by_sockets} by sockets");
        ensure!(relay.tier() != Tier::Sockets || by_xdp == 0, "{told}: xdp is off");
        match carried {
            Carried::Channel => {
                ensure!(relay.forwarded(direction)? >= most, "{told}, of {messages}");
            }
            Carried::RelayToRelay => {
                let both: u64 =
                    Direction::ALL.iter().map(|way| relay.forwarded(*way)).sum::<Result<_>>()?;
                ensure!(both >= most, "{told}, of {messages}");
            }
            Carried::Session => {
                let by_session = relay.forwarded_by("session", direction)?;
                ensure!(by_session >= messages, "{told}, {by_session} by session threads");
            }
            Carried::Spliced => {
                let bytes = relay.metrics()?.sum("turnwire_tcp_relayed_bytes_total", &[]);
                ensure!(bytes >= 2 * messages * LENGTH, "{bytes} bytes of joined connections");
            }
            Carried::Indication => {}
        }
    }
    Ok(())
}

/// uclient's own count.
#[derive(Debug, PartialEq, Eq)]
struct Report {
    sent: u64,
    received: u64,
    lost: u64,
}

impl Report {
    fn parse(output: &str) -> Option<Self> {
        let total = output.lines().rfind(|line| line.contains("start_mclient: tot_send_msgs="))?;
        let loss = output.lines().rfind(|line| line.contains("Total lost packets "))?;
        Some(Self {
            sent: number_after(total, "tot_send_msgs=")?,
            received: number_after(total, "tot_recv_msgs=")?,
            lost: number_after(loss, "Total lost packets ")?,
        })
    }
}

fn number_after(line: &str, label: &str) -> Option<u64> {
    let (_, rest) = line.split_once(label)?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[test]
fn uclients_report_is_read() {
    let output = "1: : start_mclient: tot_send_msgs=9, tot_recv_msgs=1\n\
        5: : start_mclient: tot_send_msgs=200, tot_recv_msgs=198\n\
        5: : Total lost packets 2 (1.000000%), total send dropped 0 (0.000000%)\n";
    assert_eq!(Report::parse(output), Some(Report { sent: 200, received: 198, lost: 2 }));
    assert_eq!(Report::parse("0: : Total connect time is 0\n"), None);
}
