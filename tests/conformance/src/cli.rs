//! The command line.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Parser;
use dial::{Dialer, Transport, Trust};
use ipnet::IpNet;

use crate::check::Check;
use crate::options::{Login, Options};
use crate::report::Report;
use crate::{checks, facts, runner};

/// Checks any TURN server against RFC 8489, RFC 8656 and their extensions.
///
/// Exit status: 0 when no rule with MUST is broken (with --strict: no rule at all), 1 when one is,
/// 2 when there was nothing to check.
#[derive(Debug, Parser)]
#[command(name = "turnwire-conformance", version)]
pub struct Cli {
    /// The server; the port is 3478, or 5349 for tls and dtls, unless given
    #[arg(long, value_name = "HOST[:PORT]", required_unless_present_any = ["list", "table"])]
    pub server: Option<String>,
    /// Its user
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "table"])]
    pub user: Option<String>,
    /// The user's password
    #[arg(long, value_name = "PASSWORD", env = "TURNWIRE_CONFORMANCE_PASSWORD")]
    pub password: Option<String>,
    /// Another user, for the rules about somebody else's allocation
    #[arg(long, value_name = "NAME:PASSWORD")]
    pub other_user: Option<String>,
    /// How to reach it: udp, tcp, tls or dtls
    #[arg(long, default_value = "udp")]
    pub transport: Transport,
    /// Certificates to believe, PEM, in place of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub tls_ca: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Where the peers of the checks are: an address of this host that the server may relay to
    /// [default: the one that reaches the server]
    #[arg(long, value_name = "IP")]
    pub peer_address: Option<IpAddr>,
    /// Addresses that the server was told to allow as peers beyond the usual; repeatable
    #[arg(long, value_name = "CIDR")]
    pub allow_peer_range: Vec<IpNet>,
    /// Allocations that the user may hold at once, if the server was told so
    #[arg(long, value_name = "N")]
    pub quota: Option<usize>,
    /// Only checks whose id contains this; repeatable
    #[arg(long, value_name = "PATTERN")]
    pub only: Vec<String>,
    /// Also what takes minutes
    #[arg(long)]
    pub slow: bool,
    /// Repeats the choices of an earlier run
    #[arg(long, value_name = "NUMBER")]
    pub seed: Option<u64>,
    /// Fail for every rule that is broken, not only for those with MUST
    #[arg(long)]
    pub strict: bool,
    /// Where to write the result as JSON; - for standard output in place of the text
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Names the checks and ends
    #[arg(long)]
    pub list: bool,
    /// Puts the JSON of earlier runs side by side, as Markdown, and ends
    #[arg(long, value_name = "NAME=FILE", num_args = 1..)]
    pub table: Vec<String>,
}

/// Runs as the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("turnwire-conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

impl Cli {
    fn run(&self) -> Result<ExitCode> {
        if !self.table.is_empty() {
            print!("{}", crate::report::table(&self.table)?);
            return Ok(ExitCode::SUCCESS);
        }
        let checks = self.chosen()?;
        if self.list {
            let mut out = std::io::stdout().lock();
            for check in &checks {
                let (id, severity) = (check.id, check.severity.name());
                writeln!(out, "{id:36} {severity:16} {} ({})", check.name, check.rule)?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        let options = self.options()?;
        let server = self.server.clone().unwrap_or_default();
        let facts = facts::discover(&options)
            .map_err(|what| anyhow!("{what}"))
            .with_context(|| format!("{server} over {}", self.transport.name()))?;
        let progress =
            |outcome: &runner::Outcome| eprintln!("{:4} {}", outcome.verdict, outcome.id);
        let outcomes = runner::run(&checks, &options, &facts, &progress);
        let report = Report::new(server, self.transport.name(), options.seed, outcomes);
        self.write(&report)?;
        let broken = if self.strict { report.counts.fail } else { report.counts.must_fail };
        Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn chosen(&self) -> Result<Vec<Check>> {
        let mut seen = HashMap::new();
        let wanted = |check: &Check| {
            let named = self.only.iter().any(|pattern| check.id.contains(pattern));
            (self.only.is_empty() || named) && (self.list || check.over.includes(self.transport))
        };
        let chosen: Vec<Check> = checks::all().into_iter().filter(wanted).collect();
        for check in &chosen {
            if seen.insert(check.id, ()).is_some() {
                bail!("two checks have the id {}", check.id);
            }
        }
        if chosen.is_empty() {
            bail!("no check over this transport has an id with {:?} in it (see --list)", self.only);
        }
        Ok(chosen)
    }

    fn write(&self, report: &Report) -> Result<()> {
        let json = serde_json::to_string_pretty(report).context("writing JSON")?;
        match &self.json {
            Some(path) if path.as_os_str() == "-" => println!("{json}"),
            Some(path) => {
                let name = || format!("writing {}", path.display());
                std::fs::write(path, json + "\n").with_context(name)?;
                print!("{}", report.text());
            }
            None => print!("{}", report.text()),
        }
        Ok(())
    }

    fn options(&self) -> Result<Options> {
        let text = self.server.as_deref().context("--server is needed")?;
        let (host, server) =
            dial::resolve(text, self.transport.default_port()).map_err(anyhow::Error::msg)?;
        let trust = if self.transport.is_secure() {
            let trust = Trust::new(&host, self.tls_ca.as_deref(), self.insecure);
            Some(Arc::new(trust.map_err(anyhow::Error::msg)?))
        } else {
            None
        };
        let dialer = Dialer { server, transport: self.transport, trust, local: None };
        let login = Login {
            user: self.user.clone().context("--user is needed")?,
            password: self.password.clone().context("--password is needed")?,
        };
        let other = match self.other_user.as_deref().map(|text| text.split_once(':')) {
            Some(Some((user, password))) => {
                Some(Login { user: user.into(), password: password.into() })
            }
            Some(None) => bail!("--other-user is NAME:PASSWORD"),
            None => None,
        };
        let peer_ip = match self.peer_address {
            Some(ip) => ip,
            None => towards(&dialer).context("finding this host's address")?,
        };
        let seed = match self.seed {
            Some(seed) => seed,
            None => getrandom::u64().map_err(|error| anyhow!("randomness: {error}"))? >> 32,
        };
        Ok(Options {
            dialer,
            login,
            other,
            peer_ip,
            allowed: self.allow_peer_range.clone(),
            quota: self.quota,
            slow: self.slow,
            seed,
            grace: Duration::from_millis(60),
        })
    }
}

/// The address of this host that reaches the server.
fn towards(dialer: &Dialer) -> std::io::Result<IpAddr> {
    let any = if dialer.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(dialer.server)?;
    Ok(socket.local_addr()?.ip())
}
