//! How clients reach the relay beside UDP: TCP, TLS, DTLS, and what is bounded of them.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use dataplane::{Identity, SessionLimits, SessionTimers};
use ipnet::IpNet;

use super::{Reader, parse};
use crate::settings::{Given, Problem};

/// The port of STUN and TURN over TLS and DTLS (RFC 8656 section 18.6).
pub const TLS_PORT: u16 = 5349;

const CONNECTIONS: RangeInclusive<usize> = 1..=1 << 20;
const TIMEOUTS_SECS: RangeInclusive<usize> = 1..=3600;

/// A certificate with its private key, and where they were given.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The file of the chain, the server's own certificate first.
    pub chain: Given<PathBuf>,
    /// The file of the private key.
    pub key: Given<PathBuf>,
    /// What they hold.
    pub identity: Arc<Identity>,
}

/// Everything about transports other than UDP.
#[derive(Debug)]
pub struct Transports {
    /// Listen by TCP on every listening address.
    pub tcp: bool,
    /// What opens TLS and DTLS.
    pub certificate: Option<Certificate>,
    /// Addresses to listen on by TLS and DTLS. Empty: [`TLS_PORT`] of each listening address.
    pub tls_listen: Vec<Given<SocketAddr>>,
    /// Load balancers whose PROXY protocol headers are believed, and asked for.
    pub proxies: Vec<Given<IpNet>>,
    /// What session threads hold at most.
    pub limits: SessionLimits,
    /// How long their clients may take.
    pub timers: SessionTimers,
}

impl Reader<'_> {
    pub(super) fn transports(&mut self) -> Transports {
        Transports {
            tcp: !self.switch("no-tcp"),
            certificate: self.certificate(),
            tls_listen: self.all("tls-listen", parse::listen),
            proxies: self.all("proxy-protocol-from", parse::cidr),
            limits: self.session_limits(),
            timers: self.session_timers(),
        }
    }

    fn session_limits(&mut self) -> SessionLimits {
        let number = |text: &str| parse::number(text, &CONNECTIONS);
        let mut limits = SessionLimits::default();
        let all = self.one("max-connections", number).map(|most| most.value);
        if let Some(most) = all {
            limits.connections = most;
            limits.connections_per_thread = most;
            limits.associations_per_thread = most;
        }
        if let Some(most) = self.one("max-connections-per-ip", number) {
            if let Some(all) = all.filter(|all| most.value > *all) {
                let message =
                    format!("\"{}\" is more than max-connections, which is {all}", most.value);
                self.problems.push(Problem::new(&most.source, message));
            }
            limits.connections_per_source = most.value;
        }
        limits
    }

    fn session_timers(&mut self) -> SessionTimers {
        let mut timers = SessionTimers::default();
        timers.handshake =
            self.seconds("handshake-timeout", &TIMEOUTS_SECS, timers.handshake.as_secs());
        timers.idle = self.seconds("idle-timeout", &TIMEOUTS_SECS, timers.idle.as_secs());
        timers
    }

    /// Certificate and key: both or neither, and TLS listeners only with them.
    fn certificate(&mut self) -> Option<Certificate> {
        let path = |given: Given<String>| Given { value: given.value.into(), source: given.source };
        let given = |key: &str| self.settings.one(key).cloned().map(path);
        for key in ["cert", "key"] {
            if let Some(empty) = self.settings.one(key).filter(|given| given.value.is_empty()) {
                let message = "the name of the file is empty";
                self.problems.push(Problem::new(&empty.source, message));
                return None;
            }
        }
        match (given("cert"), given("key")) {
            (Some(chain), Some(key)) => return self.identity(chain, key),
            (Some(cert), None) => {
                let message = "a certificate needs its private key: add --key FILE";
                self.problems.push(Problem::new(&cert.source, message));
            }
            (None, Some(key)) => {
                let message = "a private key needs its certificate: add --cert FILE";
                self.problems.push(Problem::new(&key.source, message));
            }
            (None, None) => {
                if let Some(tls) = self.settings.one("tls-listen") {
                    let message = "TLS needs a certificate: add --cert FILE and --key FILE";
                    self.problems.push(Problem::new(&tls.source, message));
                }
            }
        }
        None
    }

    fn identity(&mut self, chain: Given<PathBuf>, key: Given<PathBuf>) -> Option<Certificate> {
        match Identity::load(&chain.value, &key.value) {
            Ok(identity) => Some(Certificate { chain, key, identity: Arc::new(identity) }),
            Err(error) => {
                self.problems.push(Problem::new(&chain.source, error.to_string()));
                None
            }
        }
    }
}
