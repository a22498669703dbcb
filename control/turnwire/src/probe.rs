//! `turnwire probe`: what a person debugging a call wants to know of a server and of the NATs on the
//! way. The work is [`probe`]'s; here are its flags.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dial::Transport;
use probe::{Login, Report, Settings};

use crate::commands::Made;
use crate::settings::secrets::Secret;

/// How long credentials that are made for a probe are valid.
const VALID: Duration = Duration::from_secs(3600);

/// The flags of `turnwire probe`.
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// The server; the port is that of UDP and TCP
    #[arg(long, value_name = "HOST[:PORT]")]
    pub server: String,
    /// Allocate as this user, and relay an echo
    #[arg(long, value_name = "NAME", requires = "password")]
    pub user: Option<String>,
    /// The user's password
    #[arg(long, value_name = "PASSWORD", requires = "user")]
    pub password: Option<String>,
    /// Allocate with time-limited credentials made of the server's secret
    #[arg(long, value_name = "SECRET", conflicts_with = "user")]
    pub auth_secret: Option<String>,
    /// By what to reach it; repeatable [default: udp and tcp]
    #[arg(long, value_name = "udp|tcp|tls|dtls", value_delimiter = ',')]
    pub transport: Vec<Transport>,
    /// The server's port for TLS and DTLS
    #[arg(long, value_name = "PORT", default_value_t = 5349,
          value_parser = clap::value_parser!(u16).range(1..))]
    pub tls_port: u16,
    /// Certificates to believe, PEM, in place of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub tls_ca: Option<PathBuf>,
    /// Believe any certificate
    #[arg(long)]
    pub insecure: bool,
    /// Another server, which tells the NAT's mapping where the first does not offer RFC 5780
    #[arg(long, value_name = "HOST[:PORT]")]
    pub second_server: Option<String>,
    /// Datagrams of each relayed echo
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub packets: u32,
    /// Find out how long an idle NAT binding lives, up to so long: this takes twice that time
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub binding_lifetime: Option<u64>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Probes as the flags say, and prints the report; `unix` is the time since 1970.
///
/// # Errors
/// The server's name cannot be resolved, certificates cannot be read; or, after the report, something
/// that was asked for does not work.
pub fn run(args: &ProbeArgs, unix: Duration) -> anyhow::Result<()> {
    check(args)?;
    let mut settings = Settings::new(args.server.clone());
    settings.secure_port = args.tls_port;
    settings.second_server = args.second_server.clone();
    settings.login = login(args, unix);
    settings.tls_ca = args.tls_ca.clone();
    settings.insecure = args.insecure;
    settings.packets = args.packets;
    settings.lifetime_max = args.binding_lifetime.map(Duration::from_secs);
    if !args.transport.is_empty() {
        settings.transports = args.transport.clone();
    }
    let report = probe::run(&settings)?;
    print(&report, args.json)?;
    anyhow::ensure!(report.is_good(), "not everything that was asked for works");
    Ok(())
}

/// What clap cannot see.
fn check(args: &ProbeArgs) -> anyhow::Result<()> {
    for (flag, value) in [
        ("user", &args.user),
        ("password", &args.password),
        ("auth-secret", &args.auth_secret),
        ("second-server", &args.second_server),
        ("server", &Some(args.server.clone())),
    ] {
        anyhow::ensure!(value.as_deref() != Some(""), "--{flag}: is empty");
    }
    let secure = args.transport.iter().any(|transport| transport.is_secure());
    for (flag, given) in [("tls-ca", args.tls_ca.is_some()), ("insecure", args.insecure)] {
        anyhow::ensure!(!given || secure, "--{flag}: is for TLS and DTLS: add --transport tls");
    }
    Ok(())
}

fn print(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}

fn login(args: &ProbeArgs, unix: Duration) -> Option<Login> {
    if let Some(secret) = &args.auth_secret {
        let made = Made::new(&Secret::new(secret.clone()), Some("probe"), unix, VALID);
        return Some(Login { user: made.username, password: made.password });
    }
    let (user, password) = (args.user.clone()?, args.password.clone()?);
    Some(Login { user, password })
}
