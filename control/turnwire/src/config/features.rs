//! What the server does beside plain relaying: TCP allocations, mobility, NAT behaviour discovery,
//! alternate servers, the keys of nonces and third-party tokens.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Reader, parse};
use crate::nonce_keys::{self, NonceSecret};
use crate::settings::{Given, Problem};

/// Nonces are good for an hour and the key before the present one is kept: less would make them
/// stale early.
const NONCE_ROTATION_SECS: RangeInclusive<usize> = 3600..=2_592_000;
const TCP_PEERS: RangeInclusive<usize> = 1..=65_536;
const TCP_PEERS_DEFAULT: usize = 4096;
const DRAIN_SECS: RangeInclusive<usize> = 0..=604_800;

/// What can be switched on, and what belongs to it.
#[derive(Debug)]
pub struct Features {
    /// RFC 6062.
    pub tcp_relay: bool,
    /// TCP connections to peers at once.
    pub tcp_peers: usize,
    /// RFC 8016.
    pub mobility: bool,
    /// The other address and port of RFC 5780, at most one of each family.
    pub nat_discovery: Vec<Given<SocketAddr>>,
    /// Where clients are sent while this server drains, at most one of each family.
    pub alternates: Vec<Given<SocketAddr>>,
    /// The name in the certificate of the alternate server.
    pub alternate_domain: Option<String>,
    /// Send every new client to the alternate server.
    pub redirect: bool,
    /// SOFTWARE.
    pub software: Option<String>,
    /// What the nonces of a fleet are made of; a random key of this process's own without it.
    pub nonce_secret: Option<NonceSecret>,
    /// How often the key of nonces is exchanged.
    pub nonce_rotation: Duration,
    /// How long draining may take.
    pub drain_timeout: Duration,
}

impl Reader<'_> {
    pub(super) fn features(&mut self) -> Features {
        let number = |text: &str| parse::number(text, &TCP_PEERS);
        let nonce_secret = self.nonce_secret();
        let features = Features {
            tcp_relay: self.switch("tcp-relay"),
            tcp_peers: self
                .one("max-tcp-peers", number)
                .map_or(TCP_PEERS_DEFAULT, |given| given.value),
            mobility: self.switch("mobility"),
            nat_discovery: self.all("nat-discovery", parse::one_address),
            alternates: self.all("alternate-server", parse::one_address),
            alternate_domain: self.one("alternate-domain", parse::domain).map(|given| given.value),
            redirect: self.switch("redirect"),
            software: self.one("software", parse::software).map(|given| given.value),
            nonce_secret,
            nonce_rotation: self.seconds("nonce-rotation", &NONCE_ROTATION_SECS, 86_400),
            drain_timeout: self.seconds("drain-timeout", &DRAIN_SECS, 3600),
        };
        self.one_of_a_family(&features.nat_discovery);
        self.one_of_a_family(&features.alternates);
        if features.alternates.is_empty() {
            for key in ["redirect", "alternate-domain"] {
                if let Some(given) = self.settings.one(key)
                    && given.value != "false"
                {
                    let message = "needs the server that clients are sent to: add \
                                   --alternate-server ADDR:PORT";
                    self.problems.push(Problem::new(&given.source, message));
                }
            }
        }
        features
    }

    fn one_of_a_family(&mut self, given: &[Given<SocketAddr>]) {
        for (index, second) in given.iter().enumerate() {
            let family = second.value.is_ipv4();
            if let Some(first) = given[..index].iter().find(|one| one.value.is_ipv4() == family) {
                let message = format!(
                    "{} is the second of its family, after {}: one of each is taken",
                    second.value, first.value
                );
                self.problems.push(Problem::new(&second.source, message));
            }
        }
    }

    fn nonce_secret(&mut self) -> Option<NonceSecret> {
        let given = self.settings.one("nonce-key-file")?;
        match nonce_keys::read(given) {
            Ok((secret, note)) => {
                self.notes.extend(note);
                Some(secret)
            }
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }
}
