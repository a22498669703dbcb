//! The relays under test, as processes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use traffic::abi::LISTENER;
use turnwire_tests::process::Process;
use turnwire_tests::wait::{Deadline, SOON};
use wire::Family;

use super::calls::{self, PASSWORD, USER};
use super::site::{RELAY_CORE, Side, Site, listener_ip, relay_ip};

const REALM: &str = "bench.test";

/// Which relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `turnwire serve --xdp ... --xdp-mode native`.
    Xdp,
    /// `turnwire serve --xdp-mode off`.
    Sockets,
    /// coturn's `turnserver`.
    Coturn,
}

/// A relay that serves.
pub(crate) struct Server {
    process: Process,
    /// As it was started.
    pub(crate) command: String,
}

impl Server {
    /// Starts it on the relay's core, and waits until it answers.
    pub(crate) fn start(kind: Kind, site: &Site, turnwire: &Path, logs: &Path) -> Result<Server> {
        let mut command = Side::Relay.command("taskset");
        command.args(["-c", &RELAY_CORE.to_string()]);
        match kind {
            Kind::Coturn => coturn(&mut command, logs),
            _ => serve(&mut command, turnwire, (kind == Kind::Xdp).then(|| site.arm_names())),
        }
        let log: PathBuf = logs.join(format!("{kind:?}.log"));
        let process = Process::start(&format!("{kind:?}"), &mut command, &log)?;
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
        // from behind `ip netns exec NAMESPACE taskset -c CORE`
        let command = words.get(6..).unwrap_or_default().join(" ");
        let mut server = Server { process, command };
        let deadline = Deadline::after(SOON);
        while !calls::server_answers(Family::V4)? {
            server.process.must_be_running()?;
            if deadline.left().is_none() {
                bail!("{kind:?} does not serve:\n{}", server.process.last_words());
            }
        }
        Ok(server)
    }

    /// CPU time of all its threads, nanoseconds; softirqs are not in it.
    pub(crate) fn cpu(&mut self) -> Result<u64> {
        self.process.must_be_running()?;
        let mut sum = 0;
        for entry in std::fs::read_dir(format!("/proc/{}/task", self.process.pid()))? {
            sum += cpu_of(&entry?.path());
        }
        Ok(sum)
    }

    /// What it printed last.
    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }

    /// Ends it as an operator would.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(libc::SIGTERM)?;
        self.process.wait(Duration::from_secs(10)).context("ending a relay")?;
        Ok(())
    }
}

/// Nanoseconds on a CPU, of a task's folder in /proc; 0 for one that is gone.
pub(crate) fn cpu_of(task: &Path) -> u64 {
    let text = std::fs::read_to_string(task.join("schedstat")).unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

fn serve(command: &mut Command, turnwire: &Path, xdp: Option<String>) {
    command.arg(turnwire).args(["serve", "--realm", REALM]);
    command.args(["--user", &format!("{USER}:{PASSWORD}")]);
    for family in [Family::V4, Family::V6] {
        let listen = std::net::SocketAddr::new(listener_ip(family), LISTENER);
        command.args(["--listen", &listen.to_string()]);
        command.args(["--relay-ip", &relay_ip(family).to_string()]);
    }
    match xdp {
        Some(interfaces) => command.args(["--xdp-mode", "native", "--xdp", &interfaces]),
        None => command.args(["--xdp-mode", "off"]),
    };
}

fn coturn(command: &mut Command, logs: &Path) {
    command.args(["turnserver", "-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech"]);
    command.args(["--realm", REALM, "--user", &format!("{USER}:{PASSWORD}")]);
    command.args(["--log-file", "stdout", "--simple-log"]);
    command.arg("--pidfile").arg(logs.join("turnserver.pid"));
    command.arg("--userdb").arg(logs.join("turnserver.db"));
    for family in [Family::V4, Family::V6] {
        command.args(["--listening-ip", &listener_ip(family).to_string()]);
        command.args(["--relay-ip", &relay_ip(family).to_string()]);
    }
}
