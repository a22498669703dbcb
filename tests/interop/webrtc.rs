//! WebRTC data channels between a client that has relayed candidates only, and a peer: DTLS, SCTP and
//! ICE as others wrote them. The two ends are scripts; see `python/agent.py`, `javascript/agent.mjs`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use turnwire_tests::lab::{Family, Host, Lab, Topology, in_lab};
use turnwire_tests::relay::{Direction, PASSWORD, RelayUnderTest, Tier, USER};

use crate::setup::installed;

const MESSAGES: u64 = 200;
/// The agents give up by themselves before.
const LIMIT: Duration = Duration::from_secs(75);

/// A WebRTC stack.
#[derive(Clone, Copy, Debug)]
enum Stack {
    Aiortc,
    NodeDatachannel,
}

#[test]
fn aiortc_and_the_oracle_work() {
    in_lab(Topology::TwoArmed, |lab| echoes(lab, Tier::Oracle, Stack::Aiortc));
}

#[test]
fn node_datachannel_and_the_oracle_work() {
    in_lab(Topology::TwoArmed, |lab| echoes(lab, Tier::Oracle, Stack::NodeDatachannel));
}

#[test]
fn aiortc_is_relayed_by_xdp_between_two_interfaces() {
    in_lab(Topology::TwoArmed, |lab| echoes(lab, Tier::Native, Stack::Aiortc));
}

#[test]
fn aiortc_is_relayed_by_xdp_on_one_interface() {
    in_lab(Topology::OneArmed, |lab| echoes(lab, Tier::Native, Stack::Aiortc));
}

#[test]
fn aiortc_is_relayed_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| echoes(lab, Tier::Sockets, Stack::Aiortc));
}

#[test]
fn node_datachannel_is_relayed_by_xdp_between_two_interfaces() {
    in_lab(Topology::TwoArmed, |lab| echoes(lab, Tier::Native, Stack::NodeDatachannel));
}

#[test]
fn node_datachannel_is_relayed_by_xdp_on_one_interface() {
    in_lab(Topology::OneArmed, |lab| echoes(lab, Tier::Native, Stack::NodeDatachannel));
}

#[test]
fn node_datachannel_is_relayed_by_sockets() {
    in_lab(Topology::TwoArmed, |lab| echoes(lab, Tier::Sockets, Stack::NodeDatachannel));
}

fn echoes(lab: &Lab, tier: Tier, stack: Stack) -> Result<()> {
    let relay = RelayUnderTest::start(lab, tier)?;
    let url = format!("turn:{}", Family::V4.listener());
    let count = MESSAGES.to_string();
    let mut client =
        Agent::start(lab, stack, Host::Client, &["offer", &url, USER, PASSWORD, &count])?;
    let mut peer = Agent::start(lab, stack, Host::Peer, &["answer"])?;

    let offer = client.line()?;
    ensure!(offer.contains("typ relay"), "no relayed candidate was offered: {offer}");
    ensure!(!offer.contains("typ host"), "other ways than the relay were offered: {offer}");
    peer.tell(&offer)?;
    client.tell(&peer.line()?)?;
    let result = client.line()?;
    ensure!(result.replace(' ', "") == format!("{{\"echoed\":{MESSAGES}}}"), "{result}");

    if tier == Tier::Oracle {
        return Ok(());
    }
    for direction in Direction::ALL {
        let forwarded = relay.forwarded(direction)?;
        ensure!(forwarded >= MESSAGES, "{direction:?}: {forwarded} packets by {tier:?}");
    }
    Ok(())
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
    let (program, script) = match stack {
        Stack::Aiortc => (path("installed/python/bin/python"), path("python/agent.py")),
        Stack::NodeDatachannel => ("node".into(), path("javascript/agent.mjs")),
    };
    let mut command = lab.command(host, &program);
    command.arg(script);
    Ok(command)
}
