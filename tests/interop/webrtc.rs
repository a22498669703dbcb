//! WebRTC data channels between a client that has relayed candidates only, and a peer: DTLS, SCTP and
//! ICE as others wrote them, over every way to the relay that they have. The two ends are scripts; see `python`, `javascript` and `pion`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, Launch, PASSWORD, RelayUnderTest, TLS_PORT, Tier, USER};

use crate::setup::installed;

const MESSAGES: u64 = 200;
/// The agents give up by themselves before.
const LIMIT: Duration = Duration::from_secs(75);

/// A WebRTC stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    Aiortc,
    NodeDatachannel,
    Werift,
    Wrtc,
    Pion,
    Chromium,
}

impl Stack {
    /// The ways to a relay that it has, and that take the lab's certificate.
    fn accesses(self) -> &'static [Access] {
        match self {
            Stack::NodeDatachannel => &[Access::Udp],
            Stack::Aiortc | Stack::Werift | Stack::Wrtc | Stack::Chromium => {
                &[Access::Udp, Access::Tcp, Access::Tls]
            }
            Stack::Pion => &[Access::Udp, Access::Tcp, Access::Tls, Access::Dtls],
        }
    }
}

/// How a client reaches the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Udp,
    Tcp,
    Tls,
    Dtls,
}

impl Access {
    fn url(self) -> String {
        let plain = Family::V4.listener();
        let secure = SocketAddr::new(plain.ip(), TLS_PORT);
        match self {
            Access::Udp => format!("turn:{plain}"),
            Access::Tcp => format!("turn:{plain}?transport=tcp"),
            Access::Tls => format!("turns:{secure}?transport=tcp"),
            Access::Dtls => format!("turns:{secure}?transport=udp"),
        }
    }
}

#[test]
fn aiortc_and_the_oracle_work() {
    by_every_access(Topology::TwoArmed, Tier::Oracle, Stack::Aiortc);
}

#[test]
fn aiortc_is_relayed_by_xdp_between_two_interfaces_and_over_streams() {
    by_every_access(Topology::TwoArmed, Tier::Native, Stack::Aiortc);
}

#[test]
fn aiortc_is_relayed_by_xdp_on_one_interface() {
    by(Topology::OneArmed, Tier::Native, Stack::Aiortc, &[Access::Udp]);
}

#[test]
fn aiortc_is_relayed_by_sockets() {
    by(Topology::TwoArmed, Tier::Sockets, Stack::Aiortc, &[Access::Udp]);
}

#[test]
fn node_datachannel_and_the_oracle_work() {
    by_every_access(Topology::TwoArmed, Tier::Oracle, Stack::NodeDatachannel);
}

#[test]
fn node_datachannel_is_relayed_by_xdp_between_two_interfaces() {
    by_every_access(Topology::TwoArmed, Tier::Native, Stack::NodeDatachannel);
}

#[test]
fn node_datachannel_is_relayed_by_xdp_on_one_interface() {
    by(Topology::OneArmed, Tier::Native, Stack::NodeDatachannel, &[Access::Udp]);
}

#[test]
fn node_datachannel_is_relayed_by_sockets() {
    by(Topology::TwoArmed, Tier::Sockets, Stack::NodeDatachannel, &[Access::Udp]);
}

#[test]
fn werift_and_the_oracle_work() {
    by_every_access(Topology::TwoArmed, Tier::Oracle, Stack::Werift);
}

#[test]
fn werift_is_relayed_by_xdp_and_over_streams() {
    by_every_access(Topology::TwoArmed, Tier::Native, Stack::Werift);
}

#[test]
fn wrtc_and_the_oracle_work() {
    by_every_access(Topology::TwoArmed, Tier::Oracle, Stack::Wrtc);
}

#[test]
fn wrtc_is_relayed_by_xdp_and_over_streams() {
    by_every_access(Topology::TwoArmed, Tier::Native, Stack::Wrtc);
}

#[test]
fn pion_and_the_oracle_work() {
    by_every_access(Topology::TwoArmed, Tier::Oracle, Stack::Pion);
}

#[test]
fn pion_is_relayed_by_xdp_and_over_streams_and_dtls() {
    by_every_access(Topology::TwoArmed, Tier::Native, Stack::Pion);
}

#[test]
fn chromium_and_the_oracle_work() {
    by_every_access(Topology::TwoArmed, Tier::Oracle, Stack::Chromium);
}

#[test]
fn chromium_is_relayed_by_xdp_and_over_streams() {
    by_every_access(Topology::TwoArmed, Tier::Native, Stack::Chromium);
}

fn by_every_access(topology: Topology, tier: Tier, stack: Stack) {
    by(topology, tier, stack, stack.accesses());
}

/// One call after another, so that the relay's counters tell who was carried by what.
fn by(topology: Topology, tier: Tier, stack: Stack, accesses: &[Access]) {
    in_lab(topology, |lab| {
        let folder = installed()?.join("installed/tls");
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let launch = Launch { identity: Some((&cert, &key)), ..Launch::of(tier) };
        let relay = RelayUnderTest::launch(lab, &launch)?;
        for &access in accesses {
            let told = || format!("{stack:?} over {access:?} by {tier:?}");
            echoes(lab, &relay, stack, access).with_context(told)?;
        }
        Ok(())
    });
}

fn echoes(lab: &Lab, relay: &RelayUnderTest, stack: Stack, access: Access) -> Result<()> {
    let before = carried(relay, access)?;
    let (url, count) = (access.url(), MESSAGES.to_string());
    let mut client =
        Agent::start(lab, stack, Host::Client, &["offer", &url, USER, PASSWORD, &count])?;
    let peer = if stack == Stack::NodeDatachannel { stack } else { Stack::Aiortc };
    let mut peer = Agent::start(lab, peer, Host::Peer, &["answer"])?;

    let offer = client.line()?;
    ensure!(offer.contains("typ relay"), "no relayed candidate was offered: {offer}");
    ensure!(!offer.contains("typ host"), "other ways than the relay were offered: {offer}");
    peer.tell(&offer)?;
    client.tell(&peer.line()?)?;
    let result = client.line()?;
    ensure!(result.replace(' ', "") == format!("{{\"echoed\":{MESSAGES}}}"), "{result}");

    let after = carried(relay, access)?;
    for (way, (before, after)) in Direction::ALL.iter().zip(before.iter().zip(after)) {
        let more = after - before;
        let all = relay.tier() == Tier::Oracle || more >= MESSAGES;
        ensure!(all, "{way:?}: {more} packets\n{}", relay.metrics()?.counted());
    }
    Ok(())
}

/// Packets forwarded so far each way by the tier that this access wants: the relay's own for UDP,
/// session threads for all others.
fn carried(relay: &RelayUnderTest, access: Access) -> Result<[u64; 2]> {
    let [to_peer, to_client] = Direction::ALL.map(|way| match (relay.tier(), access) {
        (Tier::Oracle, _) => Ok(0),
        (_, Access::Udp) => relay.forwarded(way),
        _ => relay.forwarded_by("session", way),
    });
    Ok([to_peer?, to_client?])
}

/// One end, as a process that speaks in lines. Dropping it kills it.
struct Agent {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    errors: PathBuf,
}

impl Agent {
    fn start(lab: &Lab, stack: Stack, host: Host, arguments: &[&str]) -> Result<Self> {
        let mut command = agent(lab, stack, host)?;
        let errors = lab.scratch().join(format!("{host:?}.log"));
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let stdin = child.stdin.take().context("stdin is a pipe")?;
        let stdout = child.stdout.take().context("stdout is a pipe")?;
        let (sender, lines) = mpsc::channel();
        // Ends with the process, whose standard output it reads.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, lines, errors })
    }

    fn line(&mut self) -> Result<String> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(line) => Ok(line),
            Err(error) => {
                let errors = std::fs::read_to_string(&self.errors).unwrap_or_default();
                bail!("the agent said nothing more ({error}):\n{errors}")
            }
        }
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        writeln!(self.stdin, "{line}").context("speaking to the agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn agent(lab: &Lab, stack: Stack, host: Host) -> Result<Command> {
    let folder = installed()?;
    let path = |name: &str| folder.join(name).display().to_string();
    let node = |script: &str| vec!["node".to_owned(), path(script)];
    let words = match stack {
        Stack::Aiortc => vec![path("installed/python/bin/python"), path("python/agent.py")],
        Stack::NodeDatachannel => node("javascript/node-datachannel.mjs"),
        Stack::Werift => [node("javascript/offer.mjs"), vec!["werift".into()]].concat(),
        Stack::Wrtc => [node("javascript/offer.mjs"), vec!["@roamhq/wrtc".into()]].concat(),
        Stack::Pion => vec![path("installed/pion/agent")],
        Stack::Chromium => node("javascript/chromium.mjs"),
    };
    let mut command = lab.command(host, &words[0]);
    command.args(&words[1..]);
    // The lab's authority: for OpenSSL and Go, for Node, and the one certificate for Chromium.
    let authority = path("installed/tls/ca.pem");
    command.env("SSL_CERT_FILE", &authority).env("NODE_EXTRA_CA_CERTS", &authority);
    command.env("SPKI", std::fs::read_to_string(folder.join("installed/tls/spki"))?.trim());
    Ok(command)
}
