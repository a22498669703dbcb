//! What a person debugging a call wants to know of a server and of the NATs on the way.
//!
//! ```text
//!   reach    a Binding request by each transport             can it be reached, from what address
//!   nat      RFC 5780, or two servers                        mapping, filtering, hairpinning
//!   relay    two allocations that send to each other         is it relayed, with what loss and delay
//! ```
//!
//! [`run`] asks and waits; nothing of it is kept.

#![allow(clippy::disallowed_methods, reason = "a probe measures time, with sockets of its own")]

mod binding;
mod nat;
mod relay;
mod report;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dial::{Dialer, Transport, Trust};

pub use nat::{Filtering, Lifetime, Mapping, Nat};
pub use relay::Relay;
pub use report::{Reach, Report};

/// Who asks for an allocation.
#[derive(Clone, Debug)]
pub struct Login {
    /// Prepared (RFC 8265).
    pub user: String,
    /// Prepared (RFC 8265).
    pub password: String,
}

/// What to probe.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `HOST[:PORT]`; the port is that of UDP and TCP.
    pub server: String,
    /// The port of TLS and DTLS.
    pub secure_port: u16,
    /// Another server, to tell the mapping where the first does not offer RFC 5780.
    pub second_server: Option<String>,
    /// Without one nothing is allocated.
    pub login: Option<Login>,
    /// By what to reach it; at least one.
    pub transports: Vec<Transport>,
    /// Certificates to believe in place of the system's.
    pub tls_ca: Option<PathBuf>,
    /// Believe any certificate.
    pub insecure: bool,
    /// Datagrams of each relayed echo.
    pub packets: u32,
    /// Between two of them.
    pub interval: Duration,
    /// Look for how long an idle binding lives, for no longer than this. It takes as long.
    pub lifetime_max: Option<Duration>,
}

impl Settings {
    /// UDP and TCP, 20 datagrams.
    pub fn new(server: impl Into<String>) -> Settings {
        Settings {
            server: server.into(),
            secure_port: Transport::Tls.default_port(),
            second_server: None,
            login: None,
            transports: vec![Transport::Udp, Transport::Tcp],
            tls_ca: None,
            insecure: false,
            packets: 20,
            interval: Duration::from_millis(20),
            lifetime_max: None,
        }
    }
}

/// Why nothing could be probed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A server's name.
    #[error("--{0}: {1}")]
    Server(&'static str, String),
    /// What TLS and DTLS shall believe.
    #[error("--tls-ca: {0}")]
    Trust(String),
}

/// Probes; what fails on the way is part of the report.
///
/// # Errors
/// A name that cannot be resolved, certificates that cannot be read.
pub fn run(settings: &Settings) -> Result<Report, ProbeError> {
    let (host, server) = resolve("server", &settings.server)?;
    let trust = if settings.transports.iter().any(|transport| transport.is_secure()) {
        let trust = Trust::new(&host, settings.tls_ca.as_deref(), settings.insecure);
        Some(Arc::new(trust.map_err(ProbeError::Trust)?))
    } else {
        None
    };
    let second = settings.second_server.as_deref();
    let second = second.map(|second| resolve("second-server", second)).transpose()?;
    let mut report = Report::new(settings.server.clone());
    for &transport in &settings.transports {
        let port = if transport.is_secure() { settings.secure_port } else { server.port() };
        let dialer = Dialer {
            server: SocketAddr::new(server.ip(), port),
            transport,
            trust: trust.clone(),
            local: None,
        };
        let reach = reach(&dialer);
        let reached = reach.error.is_none();
        report.reach.push(reach);
        if let (true, Some(login)) = (reached, &settings.login) {
            report.relay.push(relay::probe(&dialer, login, settings));
        }
    }
    if report.is_reached(Transport::Udp) {
        let second = second.map(|(_, address)| address);
        report.nat = Some(nat::probe(server, second, settings.lifetime_max));
    }
    Ok(report)
}

fn resolve(flag: &'static str, text: &str) -> Result<(String, SocketAddr), ProbeError> {
    dial::resolve(text, Transport::Udp.default_port())
        .map_err(|wrong| ProbeError::Server(flag, wrong))
}

fn reach(dialer: &Dialer) -> Reach {
    let mut reach = Reach::new(dialer.transport.name(), dialer.server);
    let start = Instant::now();
    let mut link = match dialer.dial() {
        Ok(link) => link,
        Err(error) => {
            reach.error = Some(error.to_string());
            return reach;
        }
    };
    reach.handshake_ms = dialer.transport.is_stream().then(|| millis(start.elapsed()));
    if dialer.transport == Transport::Dtls {
        reach.handshake_ms = Some(millis(start.elapsed()));
    }
    reach.security = link.security();
    reach.local = link.local().ok();
    match binding::by_link(&mut link, dialer.transport.is_stream()) {
        Ok((mapped, rtt)) => {
            reach.mapped = Some(mapped);
            reach.rtt_ms = Some(millis(rtt));
        }
        Err(error) => reach.error = Some(error),
    }
    reach
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
