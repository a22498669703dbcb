//! A TURN server of a few lines: it challenges, checks, and says yes or what it is told to say.
#![allow(clippy::unwrap_used, reason = "the code of a test")]

use std::net::SocketAddr;
use std::time::Duration;

use turn::attribute::{Code, Family, PasswordAlgorithm};
use turn::credentials::{Credentials, Denial};
use turn::integrity::Hash;
use turn::message::{Builder, Class, Message, Method};
use turn::nonce::{NonceState, Nonces, SecurityFeatures};

const REALM: &str = "example.org";

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(crate) fn client_address() -> SocketAddr {
    address("192.0.2.1:5000")
}

/// How the server answers.
pub(crate) struct Server {
    credentials: Credentials,
    pub(crate) nonces: Nonces,
    offered: Vec<PasswordAlgorithm>,
    /// Replaces the first 13 characters of every nonce that is sent: the other bit order.
    pub(crate) cookie: Option<&'static [u8; 13]>,
    /// Answers authentic requests with this error.
    pub(crate) refuse: Option<Code>,
    /// Leaves out the integrity of responses.
    pub(crate) unsigned: bool,
    /// Signs responses with this hash, whatever the request says.
    pub(crate) hash: Option<Hash>,
}

impl Server {
    pub(crate) fn new(offered: &[PasswordAlgorithm], anonymity: bool) -> Server {
        let mut credentials = Credentials::new(REALM).unwrap();
        credentials.add_user("alice", "secret").unwrap();
        let features = SecurityFeatures {
            password_algorithms: !offered.is_empty(),
            username_anonymity: anonymity,
        };
        Server {
            credentials,
            nonces: Nonces::new(&[1; 32], Duration::from_secs(600), features),
            offered: offered.to_vec(),
            cookie: None,
            refuse: None,
            unsigned: false,
            hash: None,
        }
    }

    fn nonce(&self, now: Duration) -> Vec<u8> {
        let mut nonce = self.nonces.issue(client_address(), now).as_bytes().to_vec();
        if let Some(cookie) = self.cookie {
            nonce[..13].copy_from_slice(cookie);
        }
        nonce
    }

    fn check(&self, nonce: &[u8], now: Duration) -> NonceState {
        let mut nonce = nonce.to_vec();
        if self.cookie.is_some() && nonce.len() >= 13 {
            nonce[..13].copy_from_slice(&self.nonces.features().cookie());
        }
        self.nonces.check(&nonce, client_address(), now)
    }

    pub(crate) fn challenge(&self, request: &Message<'_>, code: Code, now: Duration) -> Vec<u8> {
        let mut out = Vec::new();
        let mut builder = Builder::reply(&mut out, request, Class::Error);
        builder.error_code(code).realm(REALM).nonce(&self.nonce(now));
        if !self.offered.is_empty() {
            builder.password_algorithms(&self.offered);
        }
        builder.finish().unwrap();
        out
    }

    pub(crate) fn answer(&self, bytes: &[u8], now: Duration) -> Vec<u8> {
        let request = Message::parse(bytes).unwrap();
        assert_eq!(request.class(), Class::Request);
        let authenticated = self.credentials.authenticate(&request, &self.offered, now);
        let (account, hash) = match authenticated {
            Ok(authenticated) => authenticated,
            Err(Denial::NoIntegrity | Denial::Unauthenticated) => {
                return self.challenge(&request, Code::UNAUTHENTICATED, now);
            }
            Err(other) => panic!("{other}"),
        };
        if self.check(request.nonce().unwrap().unwrap(), now) != NonceState::Valid {
            return self.challenge(&request, Code::STALE_NONCE, now);
        }
        let mut out = Vec::new();
        let class = if self.refuse.is_some() { Class::Error } else { Class::Success };
        let mut builder = Builder::reply(&mut out, &request, class);
        match self.refuse {
            Some(code) => drop(builder.error_code(code)),
            None => succeed(&mut builder, &request),
        }
        if !self.unsigned {
            builder.integrity(account.key(), self.hash.unwrap_or(hash));
        }
        builder.finish().unwrap();
        out
    }
}

#[allow(dropping_references, reason = "ends a chain of writers")]
pub(crate) fn drop<T>(_: T) {}

fn succeed(builder: &mut Builder<'_>, request: &Message<'_>) {
    let lifetime = request.lifetime_secs().unwrap();
    match request.method() {
        Method::ALLOCATE => {
            builder.xor_relayed_address(address("198.51.100.1:50000"));
            if request.additional_address_family().unwrap() == Some(Family::V6) {
                builder.address_error_code(Family::V6, Code::ADDRESS_FAMILY_NOT_SUPPORTED);
            }
            builder.lifetime_secs(lifetime.unwrap_or(600)).xor_mapped_address(client_address());
            if request.even_port().unwrap() == Some(true) {
                builder.reservation_token(&[8; 8]);
            }
        }
        Method::REFRESH => drop(builder.lifetime_secs(lifetime.unwrap_or(600))),
        Method::BINDING => drop(builder.xor_mapped_address(client_address())),
        _ => {}
    }
}
