//! The relay in a lab: Turnwire by one of its tiers, or coturn as the oracle that shows that the
//! lab, the clients and the tests are right by themselves.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::client::Client;
use crate::faults;
use crate::lab::{Family, Host, Lab};
use crate::metrics::Metrics;
use crate::process::Process;
use crate::wait::{self, Deadline, SOON};

/// The user that every relay of the lab knows.
pub const USER: &str = "alice";
/// The user's password.
pub const PASSWORD: &str = "wonderland";
/// The relay's realm.
pub const REALM: &str = "lab.test";
/// The ports that relayed addresses have.
pub const RELAY_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// The port of TLS and DTLS.
pub const TLS_PORT: u16 = 5349;

/// A counter that does not change for so long has told all.
const SETTLED: Duration = Duration::from_millis(20);
/// How long a relay may take to start: the kernel verifies 97,000 instructions for it, and on a machine
/// that is busy with others of its kind ten seconds were seen to be too few.
const STARTED: Duration = Duration::from_secs(60);
const FORWARDED: &str = "turnwire_forwarded_packets_total";

/// What carries channel data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Turnwire's XDP program, in the driver.
    Native,
    /// Turnwire's XDP program, in the kernel's stack.
    Generic,
    /// Turnwire's workers, by AF_XDP.
    AfXdp,
    /// Turnwire's batched sockets.
    Sockets,
    /// coturn.
    Oracle,
}

impl Tier {
    /// The tier's label in the metrics; none for a relay that has no such metrics.
    pub fn label(self) -> Option<&'static str> {
        match self {
            Tier::Native | Tier::Generic => Some("xdp"),
            Tier::AfXdp => Some("af_xdp"),
            Tier::Sockets => Some("socket"),
            Tier::Oracle => None,
        }
    }
}

/// A way through the relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client.
    ToPeer,
    /// From the peer.
    ToClient,
}

impl Direction {
    /// Both.
    pub const ALL: [Direction; 2] = [Direction::ToPeer, Direction::ToClient];

    fn label(self) -> &'static str {
        match self {
            Direction::ToPeer => "to_peer",
            Direction::ToClient => "to_client",
        }
    }
}

/// How a relay is started.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The tier that is to carry channel data.
    pub tier: Tier,
    /// Turnwire's `--xdp-mode`.
    pub mode: &'a str,
    /// Further options of turnwire, or of coturn.
    pub options: &'a [&'a str],
    /// setpriv(1) and its arguments, to run with less privilege; empty to run as root.
    pub setpriv: &'a [&'a str],
    /// Certificate and key for TLS and DTLS, on port 5349.
    pub identity: Option<(&'a Path, &'a Path)>,
}

impl Launch<'_> {
    /// As root, with the mode that means this tier.
    pub fn of(tier: Tier) -> Self {
        let mode = match tier {
            Tier::Native | Tier::AfXdp => "native",
            Tier::Generic => "generic",
            Tier::Sockets | Tier::Oracle => "off",
        };
        let options: &[&str] = match tier {
            Tier::AfXdp => &["--af-xdp", "copy", "--xdp-forward", "workers"],
            _ => &[],
        };
        Self { tier, mode, options, setpriv: &[], identity: None }
    }
}

/// A relay that serves in a lab, until it is dropped.
#[derive(Debug)]
pub struct RelayUnderTest<'a> {
    lab: &'a Lab,
    tier: Tier,
    process: Process,
}

impl<'a> RelayUnderTest<'a> {
    /// Starts the relay and waits until it answers, over both families.
    ///
    /// # Errors
    /// It ended, or does not answer in time.
    pub fn start(lab: &'a Lab, tier: Tier) -> Result<Self> {
        Self::launch(lab, &Launch::of(tier))
    }

    /// The same, in a way of one's own.
    ///
    /// # Errors
    /// As for `start`.
    pub fn launch(lab: &'a Lab, launch: &Launch) -> Result<Self> {
        let tier = launch.tier;
        let mut command = match tier {
            Tier::Oracle => coturn(lab, launch),
            _ => turnwire(lab, launch)?,
        };
        let log = lab.scratch().join(format!("relay-{tier:?}.log"));
        let process = Process::start("the relay", &mut command, &log)?;
        let mut relay = Self { lab, tier, process };
        relay.serves()?;
        Ok(relay)
    }

    fn serves(&mut self) -> Result<()> {
        let deadline = Deadline::after(STARTED);
        for family in Family::ALL {
            let mut client = Client::new(self.lab, family)?;
            while let Err(error) = client.binding(Duration::from_millis(250)) {
                self.process.must_be_running()?;
                if deadline.left().is_none() {
                    bail!("the relay does not serve: {error}\n{}", self.process.last_words());
                }
            }
        }
        Ok(())
    }

    /// By what this relay carries channel data.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where this relay has its metrics.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 9641))
    }

    /// Reads its metrics.
    ///
    /// # Errors
    /// It has none, or does not answer.
    pub fn metrics(&self) -> Result<Metrics> {
        Metrics::read(self.lab, self.admin()).with_context(|| self.process.last_words())
    }

    /// How many packets this relay's tier has forwarded so far, or has left to the sockets for nothing
    /// but their checksum; zero for a relay without metrics.
    ///
    /// # Errors
    /// The metrics cannot be read.
    pub fn forwarded(&self, direction: Direction) -> Result<u64> {
        match self.tier.label() {
            Some("socket") => self.forwarded_by("socket", direction),
            Some(tier) => Ok(self.forwarded_by(tier, direction)? + self.unfinished()?),
            None => Ok(0),
        }
    }

    /// Datagrams that the program has left to the stack because of their checksum, either way: of good
    /// ones one in 65,536, which tests are not to fail for.
    fn unfinished(&self) -> Result<u64> {
        let labels = [("tier", "xdp"), ("reason", "unfinished_checksum")];
        Ok(self.metrics()?.sum("turnwire_refused_packets_total", &labels))
    }

    /// The same for any tier, by its label, and exactly.
    ///
    /// # Errors
    /// The metrics cannot be read.
    pub fn forwarded_by(&self, tier: &str, direction: Direction) -> Result<u64> {
        let labels = [("tier", tier), ("direction", direction.label())];
        let read = || Ok::<_, anyhow::Error>(self.metrics()?.sum(FORWARDED, &labels));
        let mut count = read()?;
        if tier == "xdp" {
            // The program counts before it forwards.
            return Ok(count);
        }
        // A worker counts once it has sent its whole batch.
        loop {
            std::thread::sleep(SETTLED);
            let again = read()?;
            if again == count {
                return Ok(count);
            }
            count = again;
        }
    }

    /// How many packets this relay's tier has forwarded since there were `before`. Waits a while,
    /// if need be, until there are `wanted` more.
    ///
    /// # Errors
    /// The metrics cannot be read.
    pub fn forwarded_since(&self, before: u64, direction: Direction, wanted: u64) -> Result<u64> {
        let deadline = Deadline::after(SOON);
        loop {
            let more = self.forwarded(direction)? - before;
            if more >= wanted || self.tier == Tier::Oracle || deadline.left().is_none() {
                return Ok(more);
            }
        }
    }

    /// Stops it in its tracks (SIGSTOP), and waits until it stands still: a thread that waits for a
    /// core goes on for as long as that takes.
    ///
    /// # Errors
    /// It has ended.
    pub fn pause(&mut self) -> Result<()> {
        self.process.signal(libc::SIGSTOP)?;
        let pid = self.process.pid();
        wait::until("it stands still", SOON, || Ok(faults::stands_still(pid)?.then_some(())))
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// It has ended.
    pub fn resume(&mut self) -> Result<()> {
        self.process.signal(libc::SIGCONT)
    }

    /// Has it read its configuration again (SIGHUP).
    ///
    /// # Errors
    /// It has ended.
    pub fn reload(&mut self) -> Result<()> {
        self.process.signal(libc::SIGHUP)
    }

    /// Asks it to end (SIGTERM), and waits for that.
    ///
    /// # Errors
    /// It does not end in time.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.signal(libc::SIGTERM)?;
        self.process.wait(SOON)
    }

    /// Ends it at once (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// # Errors
    /// It has ended.
    pub fn must_be_running(&mut self) -> Result<()> {
        self.process.must_be_running()
    }

    /// What it logged.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

fn coturn(lab: &Lab, launch: &Launch) -> Command {
    let mut command = lab.command(Host::Relay, "turnserver");
    command.args(["-n", "--no-cli", "--fingerprint", "--lt-cred-mech"]);
    match launch.identity {
        Some((cert, key)) => command.arg("--cert").arg(cert).arg("--pkey").arg(key),
        None => command.args(["--no-tls", "--no-dtls"]),
    };
    command.args(launch.options);
    command.args(["--realm", REALM, "--user", &format!("{USER}:{PASSWORD}")]);
    command.args(["--log-file", "stdout", "--pidfile"]).arg(lab.scratch().join("turnserver.pid"));
    command.arg("--userdb").arg(lab.scratch().join("turnserver.db"));
    for family in Family::ALL {
        command.args(["--listening-ip", &family.listener().ip().to_string()]);
        command.args(["--relay-ip", &family.relayed().to_string()]);
    }
    command
}

fn turnwire(lab: &Lab, launch: &Launch) -> Result<Command> {
    let mut binary = turnwire_binary()?.to_path_buf();
    if !launch.setpriv.is_empty() {
        // Where it was built, another user may not look.
        let copy = lab.scratch().join("turnwire");
        std::fs::copy(&binary, &copy)?;
        binary = copy;
    }
    let binary = binary.to_str().context("an odd path")?;
    let words = [launch.setpriv, &[binary]].concat();
    let mut command = lab.command(Host::Relay, words[0]);
    command.args(&words[1..]).args([
        "serve",
        "--realm",
        REALM,
        "--user",
        &format!("{USER}:{PASSWORD}"),
    ]);
    command.args(["--relay-ports", &format!("{}-{}", RELAY_PORTS.start(), RELAY_PORTS.end())]);
    for family in Family::ALL {
        command.args(["--listen", &family.listener().to_string()]);
        command.args(["--relay-ip", &family.relayed().to_string()]);
    }
    command.args(["--xdp-mode", launch.mode]);
    if launch.mode != "off" {
        command.args(["--xdp", &lab.relay_interfaces().join(",")]);
    }
    if let Some((cert, key)) = launch.identity {
        command.arg("--cert").arg(cert).arg("--key").arg(key);
    }
    command.args(launch.options);
    Ok(command)
}

/// The program under test: `$TURNWIRE_BIN`, or what cargo builds beside this test now.
///
/// # Errors
/// It does not build, or `$TURNWIRE_BIN` names nothing.
pub fn turnwire_binary() -> Result<&'static Path> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = BINARY.get_or_init(|| match std::env::var_os("TURNWIRE_BIN") {
        Some(path) => std::fs::canonicalize(&path)
            .map_err(|error| format!("TURNWIRE_BIN={}: {error}", path.display())),
        None => build_turnwire().map_err(|error| format!("{error:?}")),
    });
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Always asks cargo, so that no stale binary is tested: that costs little when nothing changed.
fn build_turnwire() -> Result<PathBuf> {
    // TARGET/debug/deps/this-test
    let test = std::env::current_exe()?;
    let profile = test.ancestors().nth(2).context("a test lives in target/PROFILE/deps")?;
    let target = profile.parent().context("a profile lives in a target folder")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--package", "turnwire", "--target-dir"]).arg(target);
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    if profile.ends_with("release") {
        build.arg("--release");
    }
    let output = build.output().context("running cargo")?;
    if !output.status.success() {
        bail!("turnwire does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(profile.join("turnwire"))
}
